"""Weights wherever a checkpoint keeps them, from the file to what ``inspect`` says of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import State, notes, save
from safetensors.torch import save_file
from torch import nn

from salve_audit.inputs.model.checkpoint import load_classifier


def other(state: State) -> State:
    return {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}


@pytest.mark.parametrize(
    "key",
    ["state_dict", "model", "model_state_dict", "net", "state_dict_ema", "model_ema", "ema", "anything", "a.b.model",
     "ema.state_dict"],
)  # fmt: skip
def test_weights_are_found_at_any_depth(key: str, state: State, tmp_path: Path, show: Callable) -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(value) for value in state.values() if value.is_floating_point()])
    content: Any = state
    for part in reversed(key.split(".")):
        content = {part: content, "optimizer": optimizer.state_dict(), "epoch": 3, "best": np.float64(0.5)}
    shown = show(save(content, tmp_path / "model.pt"))
    assert (shown["weights"], shown["architecture"]) == (key, "test_resnet")
    assert "out_features=3," in shown["head"]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".bin", ".ckpt"])
def test_the_suffix_says_nothing(suffix: str, state: State, tmp_path: Path, show: Callable) -> None:
    shown = show(save(state, tmp_path / f"model{suffix}"))
    assert (shown["weights"], shown["format"]) == ("at the top level", "bare state_dict")
    assert shown["architecture"] == "test_resnet"


def test_of_several_weights_one_is_taken_said_and_chosen(
    state: State, tmp_path: Path, show: Callable, salve: Callable
) -> None:
    content = {"state_dict_ema": other(state), "state_dict": state, "ema": {"model": other(state), "decay": 0.9}}
    path = save(content, tmp_path / "model.pt")
    shown = show(path)
    assert shown["weights"] == "state_dict"
    also = "there are also state_dict_ema, ema.model (--weights KEY chooses)"
    assert f"the weights were taken from 'state_dict'; {also}" in notes(shown)
    assert show(path, "--weights", "ema.model")["weights"] == "ema.model"
    assert torch.equal(load_classifier(path, weights="ema.model").head.weight, state["fc.weight"] + 1)
    assert torch.equal(load_classifier(path).head.weight, state["fc.weight"])
    done = salve("inspect", path, "--weights", "model")
    assert (done.code, done.err.splitlines()) == (
        2,
        [
            f"error: {path}: has no weights at 'model'",
            "hint: --weights takes one of: state_dict, state_dict_ema, ema.model",
        ],
    )


def test_a_part_of_the_weights_is_chosen(state: State, tmp_path: Path, show: Callable) -> None:
    both = {f"{part}.{name}": value for part in ("student", "teacher") for name, value in state.items()}
    path = save({"state_dict": both}, tmp_path / "model.pt")
    assert "the prefix 'student.' was stripped from the weights' names" in notes(show(path))
    taken = "lies below 'teacher.': --weights state_dict.teacher takes it instead"
    assert any(note.endswith(taken) for note in notes(show(path)))
    assert show(path, "--weights", "state_dict.teacher")["weights"] == "state_dict.teacher"


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.", "backbone.", "module._orig_mod.", "_fsdp_wrapped_module.", "my.own."],
)
def test_prefixes_are_stripped_by_what_fits(prefix: str, state: State, tmp_path: Path, show: Callable) -> None:
    shown = show(save({f"{prefix}{name}": value for name, value in state.items()}, tmp_path / "model.pt"))
    assert shown["architecture"] == "test_resnet"
    assert f"the prefix {prefix!r} was stripped from the weights' names" in notes(shown)


def test_wrappers_inside_of_names(state: State, tmp_path: Path, show: Callable) -> None:
    """As FSDP and torch.compile of parts leave them."""
    wrapped = {re.sub(r"^(layer\d)\.(\d)", r"\1._fsdp_wrapped_module.\2._orig_mod", n): v for n, v in state.items()}
    assert wrapped.keys() != state.keys()
    assert show(save(wrapped, tmp_path / "model.pt"))["architecture"] == "test_resnet"


def test_lightning(state: State, tmp_path: Path, show: Callable) -> None:
    content = {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**{f"model.{n}": v for n, v in state.items()}, "criterion.weight": torch.ones(3)},
        "hyper_parameters": {"model_name": "test_resnet", "lr": 1e-3, "mean": [0.4] * 3, "classes": ["a", "b", "c"]},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(5)}}}],
        "callbacks": {},
        "loops": {},
    }
    shown = show(save(content, tmp_path / "last.ckpt"))
    assert (shown["format"], shown["architecture"]) == ("Lightning checkpoint", "test_resnet")
    assert shown["class names"] == "a, b, c"
    assert shown["mean, std"].startswith("0.4 0.4 0.4; ")
    assert "tensors outside 'model.' were left out: criterion.weight" in notes(shown)


def test_a_head_beside_the_backbone(state: State, tmp_path: Path, show: Callable) -> None:
    named = {
        (f"backbone.{n}" if not n.startswith("fc.") else n.replace("fc", "classifier")): v for n, v in state.items()
    }
    shown = show(save(named, tmp_path / "model.pt"))
    assert shown["architecture"] == "test_resnet"
    assert "the final layer was taken from 'classifier', beside the network below 'backbone.'" in notes(shown)


def test_layers_after_the_network_are_not_left_out(state: State, tmp_path: Path, salve: Callable) -> None:
    """A timm network with an embedding for outputs and a classifier after it is not that timm network."""
    named = {f"backbone.{n}": v for n, v in state.items()}
    path = save({**named, "classifier.weight": torch.ones(2, 3), "classifier.bias": torch.ones(2)}, tmp_path / "m.pt")
    done = salve("inspect", path)
    assert done.code == 2
    assert "does not say its architecture, and its 94 tensors fit none of timm or torchvision" in done.err


@pytest.mark.parametrize("name", ["model.pt", "model.onnx", "model.npz", "model.safetensors", "folder/config.json"])
def test_nothing_waits_for_a_pipe(name: str, state: State, tmp_path: Path, salve: Callable) -> None:
    pipe = tmp_path / name
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    if name.startswith("folder"):
        save_file(state, pipe.parent / "model.safetensors")
        done = salve("inspect", pipe.parent)
        assert "config.json: is no plain file" in done.err
    else:
        done = salve("inspect", pipe)
        assert f"error: {pipe}: is neither a file nor a folder" in done.err
    assert done.code == 2


def test_safetensors(state: State, tmp_path: Path, show: Callable) -> None:
    save_file(state, tmp_path / "model.safetensors")
    shown = show(tmp_path / "model.safetensors")
    assert (shown["format"], shown["architecture"]) == ("safetensors", "test_resnet")


@pytest.mark.parametrize("number", [0, 1])
def test_a_final_layer_in_a_sequential(number: int, state: State, tmp_path: Path, show: Callable) -> None:
    """As ``model.fc = Sequential(Dropout(), Linear(...))`` leaves it."""
    renamed = {name.replace("fc.", f"fc.{number}."): value for name, value in state.items()}
    path = save({f"module.{name}": value for name, value in renamed.items()}, tmp_path / "model.pt")
    shown = show(path)
    assert shown["architecture"] == "test_resnet"
    said = f"the final layer was taken from 'module.fc.{number}'; what may stand before it"
    assert any(note.startswith(said) for note in notes(shown))
    assert torch.equal(load_classifier(path).head.weight, state["fc.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_computed_in_float32(
    dtype: torch.dtype, state: State, tmp_path: Path, show: Callable
) -> None:
    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    shown = show(save(cast, tmp_path / "model.pt"))
    assert f"weights were cast from {str(dtype).removeprefix('torch.')} to float32" in notes(shown)


def test_channels_last(state: State, tmp_path: Path, show: Callable) -> None:
    last = {n: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for n, v in state.items()}
    assert show(save(last, tmp_path / "model.pt"))["architecture"] == "test_resnet"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is a Keras or HDF5 file, expected one of PyTorch"),
        (b"\x10\0\0\0\0\0\0\0{" + bytes(15), "is a damaged safetensors file ("),
        (b"PK\x03\x04" + bytes(100), "is a damaged checkpoint or another zip archive"),
    ],
)
def test_other_files(content: bytes, error: str, tmp_path: Path, salve: Callable) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    done = salve("inspect", path)
    assert done.code == 2
    assert done.err.splitlines()[0].startswith(f"error: {path}: {error}")
    assert len(done.err.splitlines()) == 2
