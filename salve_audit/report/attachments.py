"""Tables that are too long to read, as CSV: attached to the PDF and downloaded from the HTML."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from salve_audit.report.numbers import clean
from salve_audit.results import AuditResult
from salve_audit.results.relabel import class_names, relabel_classes, without_pixels

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip entry: the same tables give the same bytes
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_tables(result: AuditResult, samples_csv: bytes | None = None) -> dict[str, bytes]:
    """File name -> content of every table."""
    tables = {
        "classes.csv": _write(_class_rows(result)),
        "autoencoders.csv": _write(_flat(result.sae.frontier)),
        "interventions.csv": _write(_flat(result.interventions)),
        "intervention_means.csv": _write(_flat(result.intervention_summary)),
        "intervention_spread.csv": _write(_flat(result.intervention_spread)),
        "concepts.csv": _write(_concept_rows(result)),
    }
    if samples_csv is not None:
        tables["samples.csv"] = samples_csv
    return {name: content for name, content in tables.items() if content}


def zip_tables(tables: Mapping[str, bytes]) -> bytes:
    """All tables in one archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(tables):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), tables[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def pack_numbers(result: AuditResult) -> bytes:
    """audit.json without images, compressed; class names that no text can hold are shown as their codes."""
    clean_names = {name: clean(name) for name in class_names(result)}
    return gzip.compress(relabel_classes(without_pixels(result), clean_names).to_json().encode("utf-8"), mtime=0)


def _class_rows(result: AuditResult) -> list[dict[str, Any]]:
    rows = []
    for info in result.classes:
        row: dict[str, Any] = {"class": info.name, "n": info.n, "n_correct": info.n_correct, "accuracy": info.accuracy}
        reliance = info.image_reliance
        for key in ("n", "reliance", "low", "high", "chance", "kind", "concept", "redundancy"):
            row[f"image_{key}" if key == "n" else f"reliance_{key}" if key in ("low", "high") else key] = (
                None if reliance is None else getattr(reliance, key)
            )
        for unit in ("alpha", "alpha_hat"):
            summary = getattr(info, unit)
            row |= {f"{unit}_{name}": getattr(summary, name) for name in ("analytical", "numerical", "empirical")}
            row |= {f"{unit}_flip_{name}": getattr(summary.flip, name) for name in ("median", "low", "high", "share")}
        row |= {f"numerical_{name}": value for name, value in dataclasses.asdict(info.status).items()}
        row |= {"dominant_feature": info.dominant_feature, "flags": "; ".join(info.flags)}
        rows.append(row)
    return rows


def _concept_rows(result: AuditResult) -> list[dict[str, Any]]:
    rows = []
    for concept in result.concepts:
        own = next((effect for effect in concept.effect if effect.class_name == concept.class_name), None)
        row = {"concept": concept.index, "class": concept.class_name, "kind": concept.kind, "layer": concept.layer}
        row |= {"n_images": concept.n_images, "share_of_image": concept.mask_share}
        rows.append(row | {name: getattr(own, name, None) for name in ("drop", "low", "high")})
    return rows


def _flat(records: Sequence[Any]) -> list[dict[str, Any]]:
    """Records of plain values as rows."""
    return [{f.name: getattr(record, f.name) for f in dataclasses.fields(record)} for record in records]


def _write(rows: Iterable[Mapping[str, Any]]) -> bytes:
    rows = list(rows)
    if not rows:
        return b""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in row.items()} for row in rows)
    return buffer.getvalue().encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
