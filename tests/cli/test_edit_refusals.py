"""What ``salve-audit edit`` refuses, and what it never overwrites or leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from head_edits import assert_refused

import salve_audit.edit.write as edit_write

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--class", "rad", "--alpha-hat", 1], ["error: --class: the audit has no class 'rad'", "hint: nearest: red"]),
        (["--class", "xyz", "--alpha-hat", 1], ["hint: classes: blue, green, red"]),
        (["--feature", "9999", "--alpha-hat", 1], ["feature: 9999: the audit's features are 0 to", "hint: nearest: "]),
        (["--class", "red", "--alpha-hat", 1, "--method", "abblation"], ["hint: nearest: ablation"]),
        (["--class", "red", "--alpha-hat", 1, "--method", "null-random"], ["'null-random' is not one of salve, "]),
        (["--class", "red", "--strength", 1, "--method", "leace", "--feature", "1"], ["leace edits a class"]),
        (["--feature", "1", "--strength", 1, "--method", "steering"], ["steering needs the class"]),
        (["--class", "red", "--alpha-hat", 1, "--method", "rome"], ["rome takes --strength in its own unit"]),
        (["--class", "red"], ["give a strength (--alpha-hat X, --strength X) or --to-accuracy P"]),
        (["--class", "red", "--alpha-hat", 1, "--to-accuracy", 0.5], ["only one of them"]),
        (["--class", "red", "--alpha-hat", -1], ["strength: -1 is not a positive number", "--enhance goes up"]),
        (["--class", "red", "--to-accuracy", 0.5, "--enhance"], ["an enhancement needs a strength"]),
        (["--feature", "1", "--to-accuracy", 0.5], ["of which class?"]),
        (["--class", "red", "--alpha-hat", 1e-30], ["changes nothing"]),
        (["--edit", "class=red,alfa-hat=1"], ["'alfa-hat=1' is none of", "nearest: alpha-hat"]),
        (["--edit", "class=red,alpha-hat=x"], ["alpha-hat is 'x', expected a number"]),
        (["--edit", "class=red,alpha-hat=1", "--enhance"], ["--enhance: goes into an --edit of its own"]),
        (["--class", "red", "--class", "rad", "--alpha-hat", 1], ["no class 'rad'"]),
        (["--class", "red", "--class", "blue", "--feature", "1", "--alpha-hat", 1], ["do not say whose feature"]),
        ([], ["error: edit: nothing to do"]),
    ],
)
def test_what_makes_no_edit(
    options: list, words: list[str], edit: Callable, head_audit: Path, colour_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "edited.pt"
    assert_refused(edit(colour_model, head_audit / "out", *options, "-o", out), out, *words)


def test_the_input_is_never_overwritten(edit: Callable, head_audit: Path, colour_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    shutil.copyfile(colour_model, model)
    before = model.read_bytes()
    (tmp_path / "soft.pt").symlink_to(model)
    os.link(model, tmp_path / "hard.pt")
    for name in ("model.pt", "soft.pt", "hard.pt", "../" + tmp_path.name + "/model.pt"):
        done = edit(model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", tmp_path / name, "--force")
        assert done.code == 2
        assert "is the input itself, which is never overwritten" in done.err
    assert model.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hard.pt", "model.pt", "soft.pt"]


def test_another_file_is_replaced_with_force_only(
    edit: Callable, head_audit: Path, colour_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "edited.pt"
    out.write_text("mine")
    call = (colour_model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", out)
    done = edit(*call)
    assert (done.code, out.read_text()) == (2, "mine")
    assert f"error: {out}: is there already" in done.err
    assert edit(*call, "--force").code == 0
    assert "salve_audit_edit" in torch.load(out, weights_only=True)
    done = edit(colour_model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", tmp_path / "e.safetensors")
    assert_refused(done, tmp_path / "e.safetensors", "are of different formats; none is converted")
    (tmp_path / "folder").mkdir()
    for folder in (tmp_path / "folder", "."):
        done = edit(colour_model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", folder)
        assert (done.code, f"error: {folder}: is a folder" in done.err) == (2, True), done.err


@pytest.mark.parametrize("how", ["interrupt", "terminate"])
def test_killed_half_way_nothing_is_left(
    how: str, edit: Callable, head_audit: Path, colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(content: Any, stream: Any, **_: Any) -> None:
        stream.write(b"half of it")
        stream.flush()
        assert len(list(tmp_path.rglob("*.pt"))) == 1  # staged, not in its place
        if how == "interrupt":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(edit_write.torch, "save", stop)
    before = signal.getsignal(signal.SIGTERM)
    done = edit(colour_model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", tmp_path / "edited.pt")
    assert done.code == 130
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_programs_graphs_and_arrays_are_refused(edit: Callable, head_audit: Path, tmp_path: Path) -> None:
    out = tmp_path / "edited.pt"
    script = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript announces its own end
        torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3)), script)
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(b"\x08\x07")
    whole = tmp_path / "whole.pt"
    torch.save(torch.nn.Linear(3, 2), whole)
    arrays = head_audit / "out" / "activations.safetensors"
    for model, words in {
        script: "is a TorchScript archive, which is not edited",
        graph: "is an ONNX graph, which is not edited",
        whole: "whole pickled network",
        arrays: "holds arrays and no model",
        tmp_path / "none.pt": "no such file",
    }.items():
        place = out if model is not arrays else out.with_suffix(".safetensors")
        done = edit(model, head_audit / "out", "--class", "red", "--alpha-hat", 1, "-o", place)
        assert_refused(done, place, words)
