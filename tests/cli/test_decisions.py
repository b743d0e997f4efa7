"""What was taken where inputs leave a choice: the same lines in inspect, on the terminal and in audit.json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from quick_audits import PAPER as QUICK

from salve_audit.inputs.cache_dir import user_cache_dir
from salve_audit.results import load_audit


@pytest.fixture
def odd_model(colour_model: Path, tmp_path: Path) -> Path:
    """The colours' model with settings under other scripts' names, and a mean for pixels in 0 to 255."""
    content = torch.load(colour_model, weights_only=True)
    args = {"image_size": 32, "image_mean": [127.5] * 3, "image_std": [127.5] * 3, "interpolation": "bilinear"}
    content["args"] = {**args, "crop_pct": 100, "model_kwargs": content["args"]["model_kwargs"]}
    torch.save(content, tmp_path / "odd.pth.tar")
    return tmp_path / "odd.pth.tar"


def test_inspect_shows_each_choice_and_what_contradicts_it(salve, odd_model: Path, colour_data: Path) -> None:
    done = salve("inspect", odd_model, colour_data)
    rows = dict(line.split("  ", 1) for line in done.out.splitlines())
    taken = {text.strip().partition(":")[0]: text.strip() for name, text in rows.items() if name.startswith("taken")}
    assert taken["input size"] == "input size: 3x32x32 (args.image_size)"
    assert taken["crop"] == "crop: 1 of the side (args.crop_pct)"
    assert taken["class order"].startswith("class order: 'blue' = 0, 'green' = 1, 'red' = 2 (by order: ")
    warned = [text.strip() for name, text in rows.items() if name.startswith("warning")]
    assert len(warned) == 1
    assert warned[0].startswith("mean, std: 0.5 0.5 0.5; 0.5 0.5 0.5 (args.image_mean; args.image_std); given for")


def test_an_audit_says_them_and_keeps_them(salve, odd_model: Path, colour_data: Path, tmp_path: Path) -> None:
    done = salve(odd_model, colour_data, *QUICK, "--limit", "10", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    result = load_audit(tmp_path / "out")
    by_what = {decision.what: decision for decision in result.provenance.decisions}
    assert {"architecture", "input size", "crop", "interpolation", "mean, std", "class order"} <= set(by_what)
    assert all(str(decision) in done.err for decision in result.provenance.decisions)
    assert f"warning: {by_what['mean, std']}" in done.err
    assert str(by_what["mean, std"]) in result.notes
    assert result.model.transform is not None
    assert result.model.transform.orientation == "stored"


def test_quiet_keeps_the_contradictions_alone(salve, odd_model: Path, colour_data: Path, tmp_path: Path) -> None:
    done = salve(odd_model, colour_data, *QUICK, "--limit", "10", "--out", tmp_path / "out", "--quiet")
    assert "warning: mean, std" in done.err
    assert "input size" not in done.err


def test_an_orientation_that_was_asked_for_is_a_setting(salve, colour_model: Path, colour_data: Path, tmp_path) -> None:
    out = tmp_path / "out"
    salve(colour_model, colour_data, *QUICK, "--limit", "10", "--out", out, "--orientation", "upright")
    content = json.loads((out / "audit.json").read_text())
    assert content["model"]["transform"]["orientation"] == "upright"
    assert content["provenance"]["config"]["orientation"] == "upright"


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_links_are_followed_on_demand(salve, colour_model: Path, colour_data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for part in ("train", "val"):
        (tmp_path / "data" / part).symlink_to(colour_data / part)
    refused = salve("inspect", colour_model, tmp_path / "data")
    assert refused.code == 2
    assert "--follow-links" in refused.err
    assert "120 to fit, 96 to audit" in salve("inspect", colour_model, tmp_path / "data", "--follow-links").out


def test_a_user_without_a_home_has_a_cache_of_his_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = user_cache_dir()
    assert place.parent == tmp_path
    assert place == user_cache_dir()
    assert place.stat().st_mode & 0o077 == 0  # nobody else writes there


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_a_cache_that_somebody_else_has_laid_out_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    expected = user_cache_dir()
    expected.rmdir()
    (tmp_path / "elsewhere").mkdir()
    expected.symlink_to(tmp_path / "elsewhere")
    assert user_cache_dir() != expected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output_on_a_full_disk_is_no_verdict() -> None:
    command = [sys.executable, "-m", "salve_audit", "audit", "--help"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert subprocess.run(command, stdout=full, stderr=full, check=False).returncode == 2
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard output: cannot be written (No space left on device)")
    assert "Traceback" not in done.stderr
