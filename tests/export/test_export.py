"""``salve-audit export``: what other tools read of it is what the audit says."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from salve_audit.cli.app import run
from salve_audit.cli.export_command import FORMS as OFFERED
from salve_audit.errors import OutputError, UsageError
from salve_audit.export.model_card import render_model_card
from salve_audit.export.run import FORMS, export_audit
from salve_audit.results import AuditResult, load_audit
from salve_audit.results.plain_text import plain
from salve_audit.results.relabel import relabel_classes

SAMPLE = Path(__file__).resolve().parents[2] / "sample_reports" / "demo"


@pytest.fixture(scope="module")
def result() -> AuditResult:
    return load_audit(SAMPLE)


@pytest.fixture
def hostile(result: AuditResult, tmp_path: Path) -> Path:
    """The sample with names of classes that mean something to Markdown, YAML, file systems and spreadsheets."""
    names = ["a|b\n# c", "../x", "q\"': {", "=1+1", "<b>", "ü é", "CON", "a_b__ c"]
    renamed = relabel_classes(result, dict(zip(result.data.classes, names, strict=True)))
    (tmp_path / "hostile").mkdir()
    (tmp_path / "hostile" / "audit.json").write_text(renamed.to_json(), encoding="utf-8")
    return tmp_path / "hostile"


def test_a_model_card_is_read_by_hugging_face(result: AuditResult, tmp_path: Path) -> None:
    (path,) = export_audit(SAMPLE, "model-card", tmp_path)
    card = ModelCard.load(path)
    assert card.data.model_name == result.model.name
    results = {each.metric_type: each.metric_value for each in card.data.eval_results}
    n, n_correct = result.counts
    assert results["accuracy"] == pytest.approx(n_correct / n, abs=1e-6)
    reliances = [each.image_reliance.reliance for each in result.classes if each.image_reliance]
    assert results["max_image_reliance"] == pytest.approx(max(reliances), abs=1e-6)
    assert {each.task_type for each in card.data.eval_results} == {"image-classification"}
    assert "## What the model depends on in its images" in card.text
    assert all(f"| {each.name} |" in card.text for each in result.classes)
    assert result.provenance.model_sha256 in card.text


def test_a_model_card_is_read_by_people(result: AuditResult) -> None:
    card = render_model_card(result)
    rows = [line for line in card.splitlines() if line.startswith(tuple(f"| {each.name} |" for each in result.classes))]
    share, flip = r"[\d.]+ %", r"[\d.]+"
    measures = rf"{share} \| {share} \(\d+–\d+ %\) \| \w+ \| \d+ \| {flip} \({flip} to {flip}\)"
    assert [row for row in rows if not re.fullmatch(rf"\| \w+ \| \d+ \| {measures} \| [\w ]+ \|", row)] == []
    assert len(rows) == len(result.classes)
    assert not any(code in card for code in ("\\x", "&#", "\u00a0"))
    assert plain("1\u00a0%\u202f·\u2009x\u3000y") == "1 % · x y"
    assert plain("a\u2028b\x1b[1m\u200b") == r"a\u2028b\x1b[1m\u200b"


def test_tables_hold_every_class(result: AuditResult, tmp_path: Path) -> None:
    paths = export_audit(SAMPLE / "audit.json", "csv", tmp_path / "deep" / "tables")
    assert {"classes.csv", "concepts.csv", "interventions.csv"} <= {path.name for path in paths}
    table = list(csv.DictReader(io.StringIO((tmp_path / "deep/tables/classes.csv").read_text())))
    assert [row["class"] for row in table] == [each.name for each in result.classes]
    assert [float(row["accuracy"]) for row in table] == [each.accuracy for each in result.classes]


def test_a_run_of_mlflow_holds_numbers_settings_and_files(result: AuditResult, tmp_path: Path) -> None:
    (folder,) = export_audit(SAMPLE, "mlflow", tmp_path / "mlruns")
    assert (folder,) == export_audit(SAMPLE, "mlflow", tmp_path / "mlruns")  # the same run again
    meta = yaml.safe_load((folder / "meta.yaml").read_text())
    assert (meta["run_id"], meta["experiment_id"], meta["status"]) == (folder.name, folder.parent.name, 3)
    assert yaml.safe_load((folder.parent / "meta.yaml").read_text())["name"] == "salve-audit"
    assert [path.name for path in (tmp_path / "mlruns").iterdir()] == [folder.parent.name]
    worst = result.classes[0]
    stamp, value, step = (folder / "metrics" / "class" / worst.name / "accuracy").read_text().split()
    assert (float(value), step) == (worst.accuracy, "0")
    assert int(stamp) > 10**12
    assert (folder / "params" / "seed").read_text() == str(result.seed)
    assert (folder / "artifacts" / "audit.json").read_bytes() == (SAMPLE / "audit.json").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_names_break_no_form(hostile: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    export_audit(hostile, form, out)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(hostile)]
    assert files
    assert all(path.is_relative_to(out) for path in files)
    if form == "model-card":
        _, metadata, text = (out / "model-card.md").read_text(encoding="utf-8").split("---\n", 2)
        assert yaml.safe_load(metadata)["model-index"]
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert {row.count("|") for row in rows} == {9}
        assert "\n# c" not in text
        assert "<b>" not in text


def test_the_command_line_says_what_it_wrote(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert tuple(FORMS) == OFFERED
    assert run(["export", str(SAMPLE), "--to", "model-card", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'model-card.md'}\n"
    assert run(["export", str(SAMPLE), "--to", "excel"]) == 2
    (tmp_path / "file").write_text("")
    for form in FORMS:
        with pytest.raises(OutputError):
            export_audit(SAMPLE, form, tmp_path / "file" / "x")
    with pytest.raises(UsageError, match="is not one of model-card, csv, mlflow"):
        export_audit(SAMPLE, "excel")
    assert json.loads((SAMPLE / "audit.json").read_text())["schema_version"] >= 2
