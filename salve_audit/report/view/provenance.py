"""Section on provenance: hashes, versions, settings, transform, splits and skipped files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from salve_audit.interventions.registry import DEEP_METHODS, METHODS
from salve_audit.report.numbers import count, percent
from salve_audit.report.tables import Column, Table, Value, make_table
from salve_audit.report.view.evidence import IMAGE_FLAG_MEANINGS
from salve_audit.report.view.findings import FLAG_MEANINGS
from salve_audit.report.view.page import Medium, Section
from salve_audit.results import AuditResult

MAPPING_ROWS = 20  # what was matched shows in a few; all are in audit.json


def build_provenance(result: AuditResult, medium: Medium) -> Section:
    """Everything that is needed to repeat the audit."""
    skipped = result.data.skipped
    rows: list[list[Value]] = [[file.path, file.reason] for file in skipped]
    columns = [Column("File", "name"), Column("Reason", "wrap")]
    parts = {
        "tables": (
            _pairs("Inputs", _inputs(result), medium),
            _pairs("Transform of the images", _transform(result), medium),
            _pairs("Settings", [(k, _setting(v)) for k, v in sorted(result.provenance.config.items())], medium),
            _pairs("Versions", sorted(result.provenance.versions.items()), medium),
        ),
        "mapping": _mapping(result, medium),
        "skipped": make_table("Skipped files", columns, rows, medium.table_rows, "data.skipped") if rows else None,
        "trusted": result.provenance.trusted_code,
    }
    return Section("provenance", "Provenance", "provenance.html.j2", parts)


def _pairs(caption: str, pairs: Sequence[tuple[str, str]], medium: Medium) -> Table:
    columns = [Column("What", "name"), Column("Value", "wrap")]
    return make_table(caption, columns, [list(pair) for pair in pairs], medium.table_rows, "provenance")


def _setting(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "not set" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _inputs(result: AuditResult) -> list[tuple[str, str]]:
    model, data, provenance = result.model, result.data, result.provenance
    return [
        ("Model file", model.name),
        ("Format", model.format),
        ("Model SHA-256", provenance.model_sha256),
        ("Data", data.root),
        ("Data SHA-256", provenance.data_sha256),
        ("Autoencoder SHA-256", provenance.sae_sha256),
        ("Splits", f"{data.layout}: {count(data.n_fit)} images to fit, {count(data.n_audit)} to audit"),
        ("Head verified", _verification(result)),
        ("Device", provenance.device),
        ("Precision of the pass", _precision(result)),
        ("User's code run", "yes" if provenance.trusted_code else "no"),
        ("Created", result.created),
        ("Schema of audit.json", str(result.schema_version)),
    ]


def _precision(result: AuditResult) -> str:
    name, agreement = result.provenance.precision, result.provenance.precision_agreement
    if name is None:
        return "not recorded"
    share = "" if agreement is None else f"; bf16 and fp32 predict {percent(agreement)} of the probed images alike"
    return f"{name}{share}"


def _mapping(result: AuditResult, medium: Medium) -> Table | None:
    """Class of the data, output, and what the output is called where that differs."""
    mapping, names = result.data.mapping, result.data.classes
    if mapping is None:
        return None
    is_whole = all(pair.output < len(names) for pair in mapping.pairs) and not result.provenance.config.get("label")
    shown = [(pair.name, pair.output, names[pair.output] if is_whole else pair.name) for pair in mapping.pairs]
    columns = [Column("Class of the data", "name"), Column("Output")]
    rows: list[list[Value]] = [[name, str(output)] for name, output, _ in shown]
    if any(name != called for name, _, called in shown):
        columns.append(Column("Called here", "name"))
        rows = [[*row, called] for row, (_, _, called) in zip(rows, shown, strict=True)]
    limit = min(MAPPING_ROWS, medium.table_rows)
    return make_table(f"Classes and outputs, matched {mapping.how}", columns, rows, limit, "data.mapping")


def _verification(result: AuditResult) -> str:
    model = result.model
    if model.head_error is None:
        return f"{model.head} was given with the activations; there is no model to verify it on"
    return f"{model.head} reproduces the model's logits to {model.head_error:.1e} relative"


def _transform(result: AuditResult) -> list[tuple[str, str]]:
    transform = result.model.transform
    if transform is None:
        return [("Source", "none: activations were given, no images")]
    return [
        ("Source", transform.source),
        ("Input size", " × ".join(map(str, transform.input_size))),
        ("Mean", ", ".join(f"{v:.4g}" for v in transform.mean)),
        ("Standard deviation", ", ".join(f"{v:.4g}" for v in transform.std)),
        ("Interpolation", transform.interpolation),
        ("Crop", f"{transform.crop_pct:g} of the side"),
        ("Crop mode", transform.crop_mode),
        ("EXIF orientation", transform.orientation),
    ]


def build_method(result: AuditResult) -> Section:
    """Definitions and formulas, so that a reviewer needs no other document."""
    methods = [
        (f"{method.label[:1].upper()}{method.label[1:]}", method.blurb)
        for method in {**METHODS, **DEEP_METHODS}.values()
    ]
    parts = {"flags": tuple({**IMAGE_FLAG_MEANINGS, **FLAG_MEANINGS}.items()), "methods": methods}
    return Section("method", "Method and glossary", "method.html.j2", parts)
