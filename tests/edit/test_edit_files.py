"""Tensors found in files and files written again: nesting, names, types and everything else stay."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from salve_audit.edit.record import hash_tensors
from salve_audit.edit.source import Source, open_source
from salve_audit.edit.write import apply_changes, change_tensor, read_earlier, write_checkpoint
from salve_audit.errors import CheckpointError, UsageError
from salve_audit.inputs.model.weights import read_checkpoint

ARCH = f"{Path(__file__).resolve().parents[1] / 'models' / 'tiny.py'}:tiny"
RECORD = {"format": "test"}
State = dict[str, torch.Tensor]


@pytest.fixture
def state() -> State:
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv.weight": (5, 3, 3, 3), "conv.bias": (5,), "head.weight": (3, 5), "head.bias": (3,)}
    norm = {f"norm.{name}": (5,) for name in ("weight", "bias", "running_mean", "running_var")}
    drawn = {name: torch.rand(shape, generator=generator) for name, shape in {**shapes, **norm}.items()}
    return {**drawn, "norm.num_batches_tracked": torch.tensor(4)}


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Source]:
    def make(content: object, weights: str | None = None, **how: object) -> Source:
        path = tmp_path / "model.pt"
        torch.save(content, path, **how)
        return open_source(read_checkpoint(path, weights), ARCH, weights)

    return make


def ones(source: Source) -> list:
    return [change_tensor(source, "head.weight", np.ones((3, 5)))]


@pytest.mark.parametrize(
    ("wrap", "weights", "dotted"),
    [
        (lambda s: s, None, "head.weight"),
        (lambda s: {f"module.{name}": value for name, value in s.items()}, None, "module.head.weight"),
        (lambda s: {"a": {"b.c": s}, "epoch": 1}, None, "a.b.c.head.weight"),
        (lambda s: {"state_dict": s, "ema": {n: v + 1 for n, v in s.items()}}, "ema", "ema.head.weight"),
        (
            lambda s: {"net": {f"{part}.{n}": v.clone() for part in ("one", "two") for n, v in s.items()}},
            "net.two",
            "net.two.head.weight",
        ),
    ],
)
def test_the_tensor_is_found_and_alone_replaced(
    wrap: Callable, weights: str | None, dotted: str, state: State, opened: Callable, tmp_path: Path
) -> None:
    source = opened(wrap(state), weights)
    changes = ones(source)
    assert changes[0].place.describe() == dotted
    write_checkpoint(source, changes, RECORD, tmp_path / "out.pt")
    before, after = source.list_tensors(), open_source(read_checkpoint(tmp_path / "out.pt"), ARCH, None).list_tensors()
    assert list(after) == list(before)
    assert [name for name in before if not torch.equal(before[name], after[name])] == [dotted]
    assert torch.equal(after[dotted], torch.ones(3, 5))
    assert hash_tensors(apply_changes(source, changes).list_tensors()) == hash_tensors(after) != hash_tensors(before)


def test_parameters_strides_and_shared_storages_stay(state: State, opened: Callable, tmp_path: Path) -> None:
    flat = torch.arange(50.0)
    columns = torch.rand(5, 3).T
    content = {
        "state_dict": {**state, "head.weight": torch.nn.Parameter(columns)},
        "views": [flat[:10], flat[10:20]],
        "tuple": (1, "two", None),
    }
    source = opened(content)
    write_checkpoint(source, ones(source), RECORD, tmp_path / "out.pt")
    after = torch.load(tmp_path / "out.pt", weights_only=True)
    weight = after["state_dict"]["head.weight"]
    assert isinstance(weight, torch.nn.Parameter)
    assert (weight.stride(), weight.requires_grad) == (columns.stride(), True)
    first, second = after["views"]
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert torch.equal(second, flat[10:20])
    assert after["tuple"] == (1, "two", None)
    assert after["salve_audit_edit"] == RECORD


def test_a_tensor_with_two_names_is_refused(state: State, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({**state, "twin.weight": state["head.weight"]}, path)
    (tmp_path / "net.py").write_text(
        f"import sys\nsys.path.insert(0, {str(Path(ARCH.rpartition(':')[0]).parent)!r})\nfrom tiny import Tiny\n"
        "import torch\ndef net():\n    model = Tiny(3)\n    model.twin = torch.nn.Linear(5, 3, bias=False)\n"
        "    return model\n"
    )
    source = open_source(read_checkpoint(path), f"{tmp_path / 'net.py'}:net", None)
    with pytest.raises(CheckpointError, match=r"several names \('head.weight', 'twin.weight'\); other parts share it"):
        ones(source)


def test_a_head_that_is_computed_is_refused(state: State, opened: Callable) -> None:
    source = opened(state)
    with pytest.raises(CheckpointError, match=r"its 'head.parametrized' is computed from other tensors"):
        source.find("head.parametrized")


def test_values_too_large_for_the_type(state: State, opened: Callable) -> None:
    source = opened({**state, "head.weight": state["head.weight"].half()})
    with pytest.raises(UsageError, match=r"^strength: makes head.weight larger than float16 can hold$"):
        change_tensor(source, "head.weight", np.full((3, 5), 7e4))
    assert change_tensor(source, "head.weight", np.full((3, 5), 6e4)).tensor.dtype == torch.float16


def test_safetensors_keep_the_order_and_bytes_of_all_else(state: State, tmp_path: Path) -> None:
    path, out = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    save_file(state, path, {"format": "pt"})
    source = open_source(read_checkpoint(path), ARCH, None)
    write_checkpoint(source, ones(source), RECORD, out)
    before, after = path.read_bytes(), out.read_bytes()
    starts = [8 + int.from_bytes(content[:8], "little") for content in (before, after)]
    assert starts[1] % 8 == 0
    headers = [json.loads(content[8:start]) for content, start in zip((before, after), starts, strict=True)]
    assert json.loads(headers[1].pop("__metadata__").pop("salve_audit_edit")) == RECORD
    headers[0].pop("__metadata__")
    assert list(headers[0].items()) == list(headers[1].items())
    first, last = headers[0]["head.weight"]["data_offsets"]
    data = [content[start:] for content, start in zip((before, after), starts, strict=True)]
    assert data[0][:first] == data[1][:first]
    assert data[0][last:] == data[1][last:]
    with safe_open(out, framework="pt") as reading:
        assert torch.equal(reading.get_tensor("head.weight"), torch.ones(3, 5))


def test_what_only_trusted_code_reads_is_written_again(state: State, tmp_path: Path) -> None:
    path, out = tmp_path / "model.pt", tmp_path / "out.pt"
    torch.save({"state_dict": state, "saved": datetime.date(2025, 1, 2)}, path)
    without = read_checkpoint(path)
    assert without.left_out == ("datetime.date",)
    with pytest.raises(CheckpointError, match=r"needs the class datetime\.date to be read"):
        open_source(without, ARCH, None)  # what was left out could not be written again
    source = open_source(read_checkpoint(path, trust=True), ARCH, None)
    write_checkpoint(source, ones(source), RECORD, out)
    after = torch.load(out, weights_only=False)
    assert after["saved"] == datetime.date(2025, 1, 2)
    assert torch.equal(after["state_dict"]["head.weight"], torch.ones(3, 5))


@pytest.mark.parametrize(("text", "earlier"), [('{"a": 1}', {"a": 1}), ("{", "{")])
def test_an_earlier_record_is_kept_whatever_it_is(text: str, earlier: object, state: State, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(state, path, {"salve_audit_edit": text})
    source = open_source(read_checkpoint(path), ARCH, None)
    assert read_earlier(source, ones(source)[0]) == earlier


def test_saying_what_to_edit_needs_no_torch() -> None:
    code = "import salve_audit.edit, salve_audit.cli.edit_command, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
