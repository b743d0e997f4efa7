"""``--sae supervised`` as a user runs it: classes of folders, attributes of a manifest, and columns that are no use."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from salve_audit.sae.files import read_sae

pytestmark = pytest.mark.slow

QUICK = (
    "--sae",
    "supervised",
    "--n-latents",
    "12",
    "--sae-seeds",
    "1",
    "--interventions",
    "salve",
    "--no-cache",
    "--limit",
    "20",
    "--evidence",
    "off",
    "--no-images",
)
CLASSES = ["blue", "green", "red"]


@pytest.fixture
def manifest(colour_data: Path, tmp_path: Path) -> Callable[..., Path]:
    """``manifest(column=index -> text, ...)``: a CSV beside the images with these further columns."""

    def write(**columns: Callable[[int], str]) -> Path:
        root = tmp_path / "inside"
        root.mkdir()
        rows = []
        for i, path in enumerate(sorted(colour_data.rglob("*.png"))):
            relative = path.relative_to(colour_data)
            (root / relative).parent.mkdir(parents=True, exist_ok=True)
            (root / relative).write_bytes(path.read_bytes())
            row = {"path": relative.as_posix(), "label": relative.parts[1], "split": relative.parts[0]}
            rows.append(row | {name: value(i) for name, value in columns.items()})
        with (root / "list.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return root / "list.csv"

    return write


def test_classes_of_folders_are_concepts(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    done = salve(colour_model, colour_data, "--out", tmp_path / "out", "--format", "html,json", *QUICK)
    assert done.code == 0, done.err
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert audit["sae"]["variant"] == "supervised"
    assert audit["sae"]["concepts"] == CLASSES
    sae = read_sae(tmp_path / "out" / "sae.safetensors")
    assert list(sae.concepts) == [*CLASSES, *[None] * 9]
    assert "It knows 3 concepts (blue, green, red)" in (tmp_path / "out" / "report.html").read_text()
    assert [class_record["dominant_feature"] for class_record in audit["classes"]] == [0, 1, 2]


def test_attributes_of_a_manifest_are_concepts(
    salve: Callable, colour_model: Path, manifest: Callable, tmp_path: Path
) -> None:
    data = manifest(flash=lambda i: "yes" if i % 2 else "no", camera=lambda i: "abc"[i % 3])
    done = salve(colour_model, data, "--out", tmp_path / "out", "--format", "json", *QUICK)
    assert done.code == 0, done.err
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert audit["sae"]["concepts"] == [*CLASSES, "flash", "camera=a", "camera=b", "camera=c"]


def test_columns_can_be_chosen(salve: Callable, colour_model: Path, manifest: Callable, tmp_path: Path) -> None:
    data = manifest(flash=lambda i: "yes" if i % 2 else "no", serial=str)
    for chosen, expected in {"flash": [*CLASSES, "flash"], "none": CLASSES}.items():
        out = tmp_path / chosen
        done = salve(colour_model, data, "--out", out, "--format", "json", "--attributes", chosen, *QUICK)
        assert done.code == 0, done.err
        assert json.loads((out / "audit.json").read_text())["sae"]["concepts"] == expected


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (
            lambda i: "yes" if i % 40 else "",
            r"has no value for [1-3] of 120 images to fit, the first is train/\w+/000",
        ),
        (lambda i: "same", "is 'same' for every image to fit, which teaches nothing"),
        (lambda i: f"{i / 7:.2f}", "holds 120 different numbers, it is a measurement; a concept has at most 20"),
        (lambda i: f"no. {i}", "holds 120 different values; a concept has at most 20"),
    ],
    ids=["missing", "one value", "numbers", "names"],
)
def test_useless_columns_are_refused(
    salve: Callable, colour_model: Path, manifest: Callable, tmp_path: Path, column: Callable[[int], str], why: str
) -> None:
    data = manifest(odd=lambda i: column(i))
    done = salve(colour_model, data, "--out", tmp_path / "out", "--format", "json", "--sae", "supervised")
    assert done.code == 2
    assert re.search(f"list.csv: the column 'odd' {why}", done.err), done.err
    assert "--attributes" in done.err
    assert not (tmp_path / "out").exists()


def test_concepts_that_cannot_be_are_usage_errors(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    place = ("--out", tmp_path / "out", "--no-cache", "--format", "json")
    unknown = salve(colour_model, colour_data, "--sae", "supervised", "--attributes", "flash", *place)
    assert (unknown.code, "--attributes: no column 'flash' in" in unknown.err) == (2, True)
    other = salve(colour_model, colour_data, "--sae", "topk", "--attributes", "flash", *place)
    assert (other.code, "attributes: topk knows no attributes" in other.err) == (2, True)
    few = salve(colour_model, colour_data, "--sae", "supervised", "--n-latents", "3", *place)
    assert (few.code, "3 latents for 3 concepts, none is left for the rest" in few.err) == (2, True)
