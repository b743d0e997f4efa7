"""The images and activations that ``salve-audit edit`` measures and verifies on."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from head_edits import assert_refused
from PIL import Image

import salve_audit.edit.run as edit_run

pytestmark = pytest.mark.slow


def test_images_are_found_by_their_name_where_the_command_runs(
    edit: Callable,
    head_audit: Path,
    colour_model: Path,
    colour_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "edited.pt"
    monkeypatch.chdir(colour_data.parent)
    done = edit(colour_model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", out, data=None)
    assert done.code == 0, done.err
    assert torch.load(out, weights_only=True)["salve_audit_edit"]["verified"] is True
    others = tmp_path / "elsewhere" / colour_data.name
    shutil.copytree(colour_data, others)
    next((others / "val" / "red").iterdir()).unlink()
    monkeypatch.chdir(others.parent)
    done = edit(colour_model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", out, "--force", data=None)
    assert done.code == 2
    assert f"{colour_data.name}: has 215 images, the audit" in done.err


def test_what_needs_activations_and_images(
    edit: Callable, salve: Callable, head_audit: Path, colour_model: Path, audit_of: Callable, tmp_path: Path
) -> None:
    out, audit_folder = tmp_path / "edited.pt", head_audit / "out"
    done = edit(colour_model, audit_folder, "--class", "red", "--alpha-hat", 1, "-o", out, data=None)
    assert_refused(done, out, "error: --data: the audit's images (", "hint: name them with --data DIR; --no-verify")
    bare = audit_of(colour_model)
    without = ("--no-verify", "-o", out)
    done = edit(colour_model, bare, "--class", "red", "--to-accuracy", 0.1, *without, data=None)
    assert_refused(done, out, "needs the activations of the audit", "has no activations.safetensors", "--data DIR")
    done = edit(colour_model, audit_folder, "--class", "red", "--to-accuracy", 0.1, *without, data=None)
    assert done.code == 0, done.err  # from the audit's own activations
    assert "warning: NOT VERIFIED" in done.err
    assert re.search(r"^red +32 +100.0 % +\d\.\d % +-$", done.out, re.MULTILINE)
    assert torch.load(out, weights_only=True)["salve_audit_edit"]["verified"] is False
    done = edit(colour_model, bare, "--class", "red", "--alpha-hat", 0.1, *without, "--force", data=None)
    assert done.code == 0, done.err
    assert "before" not in done.out


def test_other_images_than_the_audits(
    edit: Callable, head_audit: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out, data = tmp_path / "edited.pt", tmp_path / "data"
    shutil.copytree(colour_data, data)
    image = data / "val" / "red" / "000.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(image)
    call = (colour_model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", out)
    assert_refused(edit(*call, data=data), out, f"error: {data}: is other data than the audit's: sha256")
    image.unlink()
    assert_refused(edit(*call, data=data), out, f"error: {data}: has 215 images, the audit (")


def test_another_model_is_named_by_both_hashes(
    edit: Callable, head_audit: Path, colour_model: Path, original: dict, tmp_path: Path
) -> None:
    model, out = tmp_path / "other.pt", tmp_path / "edited.pt"
    torch.save({**original, "epoch": 1}, model)
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (colour_model, model)]
    done = edit(model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", out)
    assert_refused(done, out, "is an audit of another model", *hashes)


def test_a_model_that_does_something_else_is_not_kept(
    edit: Callable, head_audit: Path, colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written with weights that are 1 % off."""
    right = edit_run.unfold

    def wrong(*arguments: Any) -> dict[str, np.ndarray]:
        return {name: 1.01 * value for name, value in right(*arguments).items()}

    monkeypatch.setattr(edit_run, "unfold", wrong)
    out = tmp_path / "edited.pt"
    done = edit(colour_model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", out)
    assert_refused(done, out, "the model in the written file does not do what was predicted: for 96 of 96 images")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(edit_run, "unfold", right)  # the model that was read, run in place of the one written
    load = edit_run.load_classifier
    monkeypatch.setattr(edit_run, "load_classifier", lambda path, *rest: load(colour_model, *rest))
    done = edit(colour_model, head_audit / "out", "--class", "red", "--to-accuracy", 0.05, "-o", out)
    assert_refused(done, out, "(red: 3.1 % predicted, 100.0 % measured); no file was left")
