"""``salve-audit MODEL DATA`` from files to report, from a process of its own, on a generated world."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pypdf
import pytest
from safetensors.numpy import load_file

from salve_audit import load_audit, thresholds
from salve_audit.reliance.survival import censor, estimate_median

FILES = ["audit.json", "report.html", "report.pdf", "sae.safetensors", "samples.parquet"]
# where the command line and its files are tested and not the measurements
QUICK = ("--sae", "linear-l1", "--sae-seeds", "1", "--interventions", "salve", "--deep-edits", "off")
QUICK += ("--evidence", "off")

pytestmark = pytest.mark.slow


@pytest.fixture
def audited(default_audit: Path) -> Path:
    return default_audit


def test_the_command_line_tells_of_the_gate_and_the_folder(audited: Path) -> None:
    printed = (audited / "stdout.txt").read_text()
    assert "gate (alpha_hat flip median at least 0.001): passed" in printed
    assert "results in" in printed


def test_the_folder_holds_the_promised_files(audited: Path) -> None:
    assert sorted(p.name for p in (audited / "out").iterdir()) == sorted(
        [*FILES, "activations.safetensors", "concepts.safetensors"]
    )
    assert sorted(p.name for p in audited.iterdir()) == ["cache", "out", "stdout.txt"]


def test_every_class_median_can_be_recomputed_from_what_is_left_behind(audited: Path) -> None:
    """From activations, head and dictionary alone: thresholds per sample, medians per class."""
    out = audited / "out"
    result, table = load_audit(out), pd.read_parquet(out / "samples.parquet")
    saved, sae = load_file(out / "activations.safetensors"), load_file(out / "sae.safetensors")
    assert len(table) == result.data.n_audit == len(saved["audit_labels"])
    for record in result.classes:
        rows = saved["audit_labels"] == record.index
        coupling = np.abs(sae["dictionary"][record.dominant_feature].astype(np.float64))
        recomputed = thresholds(
            saved["audit_acts"][rows], saved["head_weight"], saved["head_bias"], coupling, record.index
        )
        own = table[table.label == record.name]
        np.testing.assert_allclose(own.alpha_flip, recomputed.flip, rtol=1e-9)
        np.testing.assert_allclose(own.alpha_numerical, recomputed.numerical, rtol=1e-9)
        np.testing.assert_allclose(own.alpha_hat_analytical, recomputed.analytical * coupling.max(), rtol=1e-9)
        assert own.status.tolist() == recomputed.status.tolist()
        last = coupling.max() / coupling.min() if coupling.min() > 0 else float("inf")
        estimate = estimate_median(censor(own.alpha_hat_flip.to_numpy(), last))
        flip = record.alpha_hat.flip
        for stored, again in ((flip.median, estimate.median), (flip.low, estimate.low), (flip.high, estimate.high)):
            assert stored == (None if again is None else pytest.approx(again))
        assert record.n_correct == int(own.correct.sum()) == int(recomputed.correct.sum())
        empirical = None if np.isinf(recomputed.empirical) else pytest.approx(recomputed.empirical)
        assert record.alpha.empirical == empirical


def test_hashes_are_those_of_the_files(audited: Path, colour_model: Path) -> None:
    provenance = load_audit(audited / "out").provenance
    assert provenance.sae_sha256 == hashlib.sha256((audited / "out" / "sae.safetensors").read_bytes()).hexdigest()
    assert provenance.model_sha256 == hashlib.sha256(colour_model.read_bytes()).hexdigest()


def test_fidelity_on_the_audit_split_can_be_recomputed(audited: Path) -> None:
    saved, sae = load_file(audited / "out" / "activations.safetensors"), load_file(audited / "out" / "sae.safetensors")
    acts = saved["audit_acts"].astype(np.float64)
    codes = acts @ sae["encoder_weight"].T.astype(np.float64) + sae["encoder_bias"]
    recon = codes @ sae["dictionary"].astype(np.float64) + sae["decoder_bias"]
    r2 = 1 - ((acts - recon) ** 2).sum() / ((acts - acts.mean(0)) ** 2).sum()
    hits = (recon @ saved["head_weight"].T + saved["head_bias"]).argmax(1) == saved["audit_labels"]
    on_audit = load_audit(audited / "out").sae.on_audit
    assert on_audit is not None
    assert (on_audit.r2, on_audit.accuracy_reconstructed) == (pytest.approx(r2, abs=1e-5), pytest.approx(hits.mean()))


def test_a_limit_on_classes_that_are_all_thin_is_exit_2_with_the_table(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    options = (*QUICK, "--limit", 12, "--no-cache", "--out", tmp_path / "out", "--fail-under", 1, "--format", "json")
    done = salve(colour_model, colour_data, *options)
    assert done.code == 2
    assert "gate (alpha_hat flip median at least 1): NOT JUDGED" in done.out
    assert "error: gate: nothing trustworthy was measured: alpha_hat flip median at least: no class could" in done.err
    assert load_audit(tmp_path / "out").verdict.passed is None


def test_the_report_names_every_class_and_the_pdf_carries_the_json(audited: Path) -> None:
    out = audited / "out"
    page = (out / "report.html").read_text()
    pdf = pypdf.PdfReader(out / "report.pdf")
    assert pdf.attachments["audit.json"][0] == (out / "audit.json").read_bytes()
    for name in ("blue", "green", "red"):
        assert name in page
        assert name in pdf.pages[0].extract_text()


def test_a_second_audit_does_no_pass_and_gives_the_same_bytes(
    audited: Path, salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    done = salve(
        colour_model, colour_data, "--out", tmp_path / "out", "--cache", audited / "cache", "--fail-under", 0.001, "-v"
    )
    assert done.code == 0, done.err
    assert "images in" not in done.err  # the line of a backbone pass
    first = json.loads((audited / "out" / "audit.json").read_text())
    second = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert first.pop("created") <= second.pop("created")
    assert first == second
    for name in ("samples.parquet", "sae.safetensors"):
        assert (audited / "out" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_fragile_class_is_exit_1_and_named_everywhere(
    audited: Path, salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = (*QUICK, "--out", out, "--cache", audited / "cache", "--fail-under", 1e6)
    done = salve(colour_model, colour_data, *options)
    result = load_audit(out)
    failed = [rule.class_name for rule in result.verdict.rules if rule.outcome == "fail"]
    assert failed, "at such a limit every class with a closed interval fails"
    assert done.code == 1
    assert all(f"  violated: {name}: alpha_hat flip median at least 1e+06; " in done.out for name in failed)
    first_page = pypdf.PdfReader(out / "report.pdf").pages[0].extract_text()
    assert all(name in first_page for name in failed)
    assert "Fail" in first_page


def test_gate_and_report_work_from_the_saved_audit(audited: Path, salve: Callable, tmp_path: Path) -> None:
    out = audited / "out"
    assert salve("gate", out).code == 0
    assert salve("gate", out, "--fail-under", 1e6).code == 1
    done = salve("report", out / "audit.json", "--out", tmp_path / "again")
    assert done.code == 0, done.err
    assert (tmp_path / "again" / "report.html").read_bytes() == (out / "report.html").read_bytes()
    assert (tmp_path / "again" / "report.pdf").read_bytes() == (out / "report.pdf").read_bytes()


def test_json_to_stdout_writes_nothing(
    audited: Path, salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = (*QUICK, "--format", "json", "--out", "-", "--cache", audited / "cache", "--quiet")
    done = salve(colour_model, colour_data, *options)
    assert done.code == 0
    assert json.loads(done.out)["model"]["architecture"] == "resnet10t"
    assert list(tmp_path.iterdir()) == []


def test_one_level_of_class_folders_is_split_by_seed(
    salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    done = salve("inspect", colour_model, colour_data / "train")
    assert done.code == 0, done.err
    assert "72 to fit, 48 to audit" in done.out


def test_inspect_says_where_the_transform_comes_from(salve: Callable, colour_model: Path, colour_data: Path) -> None:
    done = salve("inspect", colour_model, colour_data)
    assert done.code == 0
    lines = dict(line.split("  ", 1) for line in done.out.splitlines())
    assert lines["architecture"].strip() == "resnet10t"
    assert lines["head"].strip().startswith("fc: Linear(in_features=32, out_features=3")
    assert "3x32x32" in lines["input"]
    assert "from: checkpoint" in lines["input"]


def test_a_renderer_that_fails_costs_its_own_file_alone(
    audited: Path, salve: Callable, colour_model: Path, colour_data: Path, tmp_path: Path, monkeypatch
) -> None:
    """audit.json is written before anything is rendered, and kept; exit 2 for the missing format alone."""

    def broken(*_: object, **__: object) -> bytes:
        raise RuntimeError("no fonts at all")

    monkeypatch.setattr("salve_audit.audit.rendering.render_pdf", broken)
    out = tmp_path / "out"
    done = salve(colour_model, colour_data, *QUICK, "--out", out, "--no-cache")
    assert done.code == 2
    assert "error: report.pdf: the renderer failed (RuntimeError: no fonts at all)" in done.err
    assert "hint: audit.json is written; salve-audit report renders it again" in done.err
    assert sorted(file.name for file in out.iterdir()) == [name for name in FILES if name != "report.pdf"]
    assert load_audit(out).classes
