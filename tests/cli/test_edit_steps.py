"""``salve-audit edit`` with several edits, other methods, and edits of edits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from head_edits import assert_only_the_head_changed, assert_refused, dominant
from safetensors.numpy import load_file as load_numpy

pytestmark = pytest.mark.slow


def test_enhancing_after_suppressing_is_no_way_back(
    edit: Callable, head_audit: Path, colour_model: Path, original: dict, tmp_path: Path
) -> None:
    out = tmp_path / "both.pt"
    steps = ["--edit", "class=red,alpha-hat=1.2", "--edit", "class=red,enhance,alpha-hat=1.2"]
    done = edit(colour_model, head_audit / "out", *steps, "-o", out)
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].startswith("salve: enhance feature")
    weight = original["state_dict"]["fc.weight"].double().numpy()
    coupling = np.abs(
        load_numpy(head_audit / "out" / "sae.safetensors")["dictionary"][dominant(head_audit / "out", "red")]
    )
    relative = coupling.astype(np.float64) / coupling.astype(np.float64).max()
    expected = weight * np.maximum(0, 1 - 1.2 * relative) * (1 + 1.2 * relative)
    checkpoint = torch.load(out, weights_only=True)
    np.testing.assert_array_equal(checkpoint["state_dict"]["fc.weight"].numpy(), expected.astype(np.float32))
    assert not np.allclose(expected, weight)
    assert [edit_record["enhance"] for edit_record in checkpoint["salve_audit_edit"]["edits"]] == [False, True]


def test_a_later_edit_that_moves_a_matched_class_is_told(
    edit: Callable, head_audit: Path, colour_model: Path, tmp_path: Path
) -> None:
    steps = ["--edit", "class=red,to-accuracy=0.3", "--edit", "class=red,enhance,alpha-hat=3"]
    done = edit(colour_model, head_audit / "out", *steps, "-o", tmp_path / "both.pt")
    assert done.code == 0, done.err
    assert "red was brought to 30 %, and later edits take it to " in done.err
    done = edit(colour_model, head_audit / "out", *steps[:2], "-o", tmp_path / "one.pt")
    assert "later edits" not in done.err


def test_options_given_again_are_more_edits_of_the_same_kind(
    edit: Callable, head_audit: Path, colour_model: Path, tmp_path: Path
) -> None:
    ways = {
        "classes": [["--class", "red", "--class", "blue", "--alpha-hat", 0.5], "class=red", "class=blue"],
        "features": [["--feature", 1, "--feature", 0, "--alpha-hat", 0.5], "feature=1", "feature=0"],
    }
    for name, (again, *parts) in ways.items():
        specs = [word for part in parts for word in ("--edit", f"{part},alpha-hat=0.5")]
        for options, out in ((again, tmp_path / f"{name}.pt"), (specs, tmp_path / f"{name}-specs.pt")):
            done = edit(colour_model, head_audit / "out", *options, "-o", out, "--no-verify")
            assert done.code == 0, done.err
        own, same = (torch.load(tmp_path / f"{name}{end}.pt", weights_only=True) for end in ("", "-specs"))
        assert len(own["salve_audit_edit"]["edits"]) == 2
        assert own["salve_audit_edit"] == same["salve_audit_edit"]


@pytest.mark.parametrize(
    ("method", "tensors"),
    [("ablation", ["fc.weight"]), ("steering", ["fc.bias"]), ("rome", ["fc.weight"]), ("rome-cov", ["fc.weight"]),
     ("leace", ["fc.weight", "fc.bias"]), ("row-scaling", ["fc.weight", "fc.bias"])],
)  # fmt: skip
def test_other_methods(
    method: str,
    tensors: list[str],
    edit: Callable,
    head_audit: Path,
    colour_model: Path,
    original: dict,
    tmp_path: Path,
) -> None:
    out = tmp_path / "edited.pt"
    done = edit(colour_model, head_audit / "out", "--class", "red", "--method", method, "--to-accuracy", 0.5, "-o", out)
    assert done.code == 0, done.err
    checkpoint = torch.load(out, weights_only=True)
    assert_only_the_head_changed(original["state_dict"], checkpoint["state_dict"], tuple(tensors))
    row = next(line for line in done.out.splitlines() if line.startswith("red "))
    assert float(row.split()[-2]) <= 50


def test_an_edit_of_an_edit_remembers_the_first(
    edit: Callable, head_audit: Path, colour_model: Path, tmp_path: Path, audit_of: Callable
) -> None:
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    assert edit(colour_model, head_audit / "out", "--class", "red", "--alpha-hat", 0.3, "-o", first).code == 0
    done = edit(first, head_audit / "out", "--class", "blue", "--alpha-hat", 0.3, "-o", second)
    assert_refused(done, second, "is an audit of another model")
    done = edit(first, audit_of(first), "--class", "blue", "--alpha-hat", 0.3, "-o", second)
    assert done.code == 0, done.err
    record = torch.load(second, weights_only=True)["salve_audit_edit"]
    assert (record["edits"][0]["class"], record["earlier"]["edits"][0]["class"]) == ("blue", "red")
