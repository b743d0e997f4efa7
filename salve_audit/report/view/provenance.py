"""Section on provenance: hashes, versions, settings, transform, splits and skipped files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from salve_audit.interventions.registry import DEEP_METHODS, METHODS
from salve_audit.report.commands import changed_settings, rerun
from salve_audit.report.language import say
from salve_audit.report.numbers import count, moment, percent
from salve_audit.report.tables import Column, Table, Value, make_table
from salve_audit.report.view.evidence import IMAGE_FLAG_MEANINGS
from salve_audit.report.view.findings import FLAG_MEANINGS
from salve_audit.report.view.page import Medium, Section
from salve_audit.results import AuditResult

HEADER_ROWS = 3  # that a table's caption, head and distance to the next one are as high as
MAPPING_ROWS = 20  # what was matched shows in a few; all are in audit.json


def build_provenance(result: AuditResult, medium: Medium) -> Section:
    """Everything that is needed to repeat the audit."""
    skipped = result.data.skipped
    rows: list[list[Value]] = [[file.path, file.reason] for file in skipped]
    columns = [Column(say("File"), "name"), Column(say("Reason"), "wrap")]
    tables = [
        _pairs(say("Inputs"), _inputs(result), medium),
        _pairs(say("Transform of the images"), _transform(result), medium),
        _pairs(say("Settings that are not the defaults"), _settings(result), medium),
        _pairs(say("Versions"), sorted(result.provenance.versions.items()), medium),
    ]
    mapping = _mapping(result, medium)
    parts = {
        "halves": _halve([*tables, mapping] if mapping else tables),
        "rerun": rerun(result),
        "citation": citation(result),
        "asked_for": asked_for_table(),
        "skipped": make_table(say("Skipped files"), columns, rows, medium.table_rows, "data.skipped") if rows else None,
        "trusted": result.provenance.trusted_code,
    }
    return Section("provenance", say("Scope and provenance"), "provenance.html.j2", parts)


def _halve(tables: Sequence[Table]) -> tuple[list[Table], list[Table]]:
    """The tables in two columns of about as many rows, each table where there are fewer so far."""
    halves: tuple[list[Table], list[Table]] = ([], [])
    for table in tables:
        min(halves, key=lambda half: sum(len(other.rows) + HEADER_ROWS for other in half)).append(table)
    return halves


def _settings(result: AuditResult) -> list[tuple[str, str]]:
    changed = [(key, _setting(value)) for key, value in changed_settings(result).items()]
    return changed or [(say("all"), say("defaults"))]


def citation(result: AuditResult) -> str:
    """How to cite this audit: the tool, its version, the model and the hashes."""
    record = result.provenance
    return say(
        "salve-audit {tool_version}, audit of {name} (SHA-256 {model_sha256}) on data {data_sha256}, {created}, "
        "seed {seed}. Method after SALVE, arXiv:2512.15938.",
        tool_version=result.tool_version,
        name=result.model.name,
        model_sha256=record.model_sha256[:12],
        data_sha256=record.data_sha256[:12],
        created=f"{moment(result.created):%Y-%m-%d}",
        seed=result.seed,
    )


# Where this report answers what the EU AI Act's Annex IV and model cards (Mitchell et al., 2019) ask for.
ASKED_FOR = (
    ("Verdict (page 1)", "3: capabilities and limitations, foreseeable risks", "Quantitative analyses"),
    ("Classes", "2 (g): test reports by group; 3: accuracy for specific groups", "Factors; quantitative analyses"),
    ("Critical suppression thresholds", "2 (g): metrics of robustness; 4: appropriateness of the metrics", "Metrics"),
    ("Recommendations", "2 (f): planned changes; 3: measures of oversight", "Caveats and recommendations"),
    ("Confidence", "2 (g): validation and testing procedures; 4", "Metrics; caveats"),
    ("Scope and provenance", "2 (a), (c), (d): elements, architecture, data", "Model details; evaluation data"),
)


def asked_for_table() -> Table:
    """Sections of the report by what regulation and model cards ask for."""
    columns = [
        Column(say("Section"), "name"),
        Column(say("EU AI Act, Annex IV"), "wrap"),
        Column(say("Model card"), "wrap"),
    ]
    rows: list[list[Value]] = [[say(cell) for cell in row] for row in ASKED_FOR]
    return make_table(say("What this report answers elsewhere"), columns, rows, len(rows), "")


def _pairs(caption: str, pairs: Sequence[tuple[str, str]], medium: Medium) -> Table:
    columns = [Column(say("What"), "name"), Column(say("Value"), "wrap")]
    return make_table(caption, columns, [list(pair) for pair in pairs], medium.table_rows, "provenance")


def _setting(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or say("none")
    return (
        say("not set") if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )


def _inputs(result: AuditResult) -> list[tuple[str, str]]:
    model, data, provenance = result.model, result.data, result.provenance
    return [
        (say("Model file"), model.name),
        (say("Format"), model.format),
        (say("Model SHA-256"), provenance.model_sha256),
        (say("Data"), data.root),
        (say("Data SHA-256"), provenance.data_sha256),
        (say("Autoencoder SHA-256"), provenance.sae_sha256),
        (
            say("Splits"),
            say(
                "{layout}: {n_fit} images to fit, {n_audit} to audit",
                layout=data.layout,
                n_fit=count(data.n_fit),
                n_audit=count(data.n_audit),
            ),
        ),
        *_same_names(result),
        (say("Head verified"), _verification(result)),
        (say("Device"), provenance.device),
        (say("Precision of the pass"), _precision(result)),
        (say("User's code run"), say("yes") if provenance.trusted_code else say("no")),
        (say("Created"), result.created),
        (say("Schema of audit.json"), str(result.schema_version)),
    ]


def _precision(result: AuditResult) -> str:
    name, agreement = result.provenance.precision, result.provenance.precision_agreement
    if name is None:
        return say("not recorded")
    if agreement is None:
        return name
    return name + "; " + say("bf16 and fp32 predict {share} of the probed images alike", share=percent(agreement))


def _mapped(result: AuditResult) -> list[tuple[str, int, str]]:
    """Class of the data, output, and what the output is called."""
    mapping, names = result.data.mapping, result.data.classes
    if mapping is None:
        return []
    is_whole = all(pair.output < len(names) for pair in mapping.pairs) and not result.provenance.config.get("label")
    return [(pair.name, pair.output, names[pair.output] if is_whole else pair.name) for pair in mapping.pairs]


def _same_names(result: AuditResult) -> list[tuple[str, str]]:
    """One line of the outputs where they are called as the classes of the data are."""
    mapping, pairs = result.data.mapping, _mapped(result)
    if mapping is None or any(name != called for name, _, called in pairs):
        return []
    shown = ", ".join(f"{name} = {output}" for name, output, _ in pairs[:MAPPING_ROWS])
    more = ", …" if len(pairs) > MAPPING_ROWS else ""
    return [(say("Outputs"), say("matched {how}: {pairs}", how=mapping.how, pairs=shown + more))]


def _mapping(result: AuditResult, medium: Medium) -> Table | None:
    """The outputs where some are called otherwise than the classes of the data."""
    mapping, pairs = result.data.mapping, _mapped(result)
    if mapping is None or all(name == called for name, _, called in pairs):
        return None
    columns = [Column(say("Class of the data"), "name"), Column(say("Output")), Column(say("Called here"), "name")]
    rows: list[list[Value]] = [[name, str(output), called] for name, output, called in pairs]
    limit = min(MAPPING_ROWS, medium.table_rows)
    return make_table(say("Classes and outputs, matched {how}", how=mapping.how), columns, rows, limit, "data.mapping")


def _verification(result: AuditResult) -> str:
    model = result.model
    if model.head_error is None:
        return say("{head} was given with the activations; there is no model to verify it on", head=model.head)
    return say(
        "{head} reproduces the model's logits to {head_error} relative",
        head=model.head,
        head_error=f"{model.head_error:.1e}",
    )


def _transform(result: AuditResult) -> list[tuple[str, str]]:
    transform = result.model.transform
    if transform is None:
        return [(say("Source"), say("none: activations were given, no images"))]
    shared = [
        (say("Source"), transform.source),
        (say("Input size"), " × ".join(map(str, transform.input_size))),
        (say("Mean"), ", ".join(f"{v:.4g}" for v in transform.mean)),
        (say("Standard deviation"), ", ".join(f"{v:.4g}" for v in transform.std)),
    ]
    if transform.is_prepared:
        return shared
    return [
        *shared,
        (say("Interpolation"), transform.interpolation),
        (say("Crop"), say("{crop_pct} of the side", crop_pct=f"{transform.crop_pct:g}")),
        (say("Crop mode"), transform.crop_mode),
        (say("EXIF orientation"), transform.orientation),
    ]


def build_method(result: AuditResult) -> Section:
    """Definitions and formulas, so that a reviewer needs no other document."""
    methods = [
        (f"{method.label[:1].upper()}{method.label[1:]}", method.blurb)
        for method in {**METHODS, **DEEP_METHODS}.values()
    ]
    parts = {"flags": tuple({**IMAGE_FLAG_MEANINGS, **FLAG_MEANINGS}.items()), "methods": methods}
    return Section("method", say("Formulas and glossary"), "method.html.j2", parts)
