"""ONNX files through the command line: exported networks and hand-made graphs, against onnxruntime and torch."""

from __future__ import annotations

import builtins
import copy
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_files import (
    TAILS,
    D,
    K,
    images,
    run_alone,
    tail_softmax,
    tail_two_heads,
    write,
)
from safetensors.numpy import load_file

from salve_audit import load_audit
from salve_audit.inputs.model.checkpoint import load_classifier

pytestmark = pytest.mark.slow

QUICK = (
    "--format",
    "json",
    "--n-latents",
    "8",
    "--sae",
    "paper",
    "--interventions",
    "salve",
    "--no-cache",
    "--limit",
    "12",
    "--workers",
    "0",
    "--quiet",
)


@pytest.mark.parametrize("tail", TAILS)
def test_the_head_in_the_graph_makes_its_output(
    salve: Callable, colour_data: Path, tmp_path: Path, tail: Callable
) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "out"
    name = write(path, tail)
    done = salve(path, colour_data, "--out", out, "--keep-activations", *QUICK)
    assert done.code == 0, done.err
    result, saved = load_audit(out), load_file(out / "activations.safetensors")
    assert (result.model.format, result.model.head) == ("ONNX", name)
    assert result.model.head_error < 1e-5
    logits = saved["audit_acts"] @ saved["head_weight"].T + saved["head_bias"]
    own = run_alone(path, images(colour_data, out))
    if tail is tail_softmax:
        logits = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(logits, own, atol=1e-5 * np.abs(own).max())
    assert [class_record.name for class_record in result.classes] == ["blue", "green", "red"]
    assert min(class_record.accuracy for class_record in result.classes) > 0.6
    assert result.model.transform.mean == (0.5, 0.5, 0.5)


def test_a_fixed_batch_size_is_filled_up(salve: Callable, colour_data: Path, tmp_path: Path) -> None:
    free, fixed = tmp_path / "free.onnx", tmp_path / "fixed.onnx"
    write(free)
    write(fixed, batch=7)
    for path in (free, fixed):
        done = salve(path, colour_data, "--out", tmp_path / path.stem, "--keep-activations", *QUICK)
        assert done.code == 0, done.err
    any_size, fixed_size = (load_file(tmp_path / name / "activations.safetensors") for name in ("free", "fixed"))
    np.testing.assert_allclose(any_size["audit_acts"], fixed_size["audit_acts"], atol=1e-6)


def test_channels_may_come_last(salve: Callable, colour_data: Path, tmp_path: Path) -> None:
    for name, last in (("first", False), ("last", True)):
        write(tmp_path / f"{name}.onnx", channels_last=last)
        done = salve(tmp_path / f"{name}.onnx", colour_data, "--out", tmp_path / name, "--keep-activations", *QUICK)
        assert done.code == 0, done.err
    plain, last_axis = (load_file(tmp_path / name / "activations.safetensors") for name in ("first", "last"))
    np.testing.assert_allclose(plain["audit_acts"], last_axis["audit_acts"], atol=1e-6)


def test_a_copy_shares_the_session_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "model.onnx")
    model = load_classifier(tmp_path / "model.onnx").model
    clone = copy.deepcopy(model)
    head, other = (network.get_submodule("fc") for network in (model, clone))
    assert other is not head
    before = head.weight.clone()
    other.double().weight.data += 1
    assert (head.weight == before).all()
    batch = torch.zeros(2, 3, 32, 32)
    clone.float()
    assert torch.equal(clone(batch), model(batch))


def test_what_the_file_does_not_say_is_said(salve: Callable, tmp_path: Path) -> None:
    write(tmp_path / "model.onnx", metadata={}, side="side")
    done = salve("inspect", tmp_path / "model.onnx")
    assert done.code == 0, done.err
    assert "3x224x224" in done.out
    assert "general default of 224 pixels and ImageNet's mean: the file does not say" in done.out


def test_of_several_outputs_the_first_is_audited_and_said(salve: Callable, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write(path)
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Identity", ["y"], ["again"]))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["n", K]))
    onnx.save(model, path)
    done = salve("inspect", path)
    assert done.code == 0, done.err
    assert "the graph has 2 outputs, of which the first, 'y', is audited" in done.out


def test_settings_that_are_no_text_are_left_out(salve: Callable, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write(path, metadata={"class_names": "{0: 'XX'}"})
    path.write_bytes(path.read_bytes().replace(b"XX", b"\xff\xfe"))
    done = salve("inspect", path)
    assert done.code == 0, done.err
    assert re.search(r"^class names +not in the file$", done.out, re.MULTILINE)


def test_the_inputs_size_wins_over_what_is_written_beside_it(salve: Callable, tmp_path: Path) -> None:
    write(tmp_path / "model.onnx", metadata={"input_size": "[3, 99, 99]"})
    assert "3x32x32" in salve("inspect", tmp_path / "model.onnx").out


def test_a_network_exported_by_torch(salve: Callable, colour_data: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "exported.onnx", tmp_path / "out"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stem = [torch.nn.Conv2d(3, D, 4, 4), torch.nn.BatchNorm2d(D), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)]
        model = torch.nn.Sequential(*stem, torch.nn.Flatten(), torch.nn.Linear(D, K)).eval()
    settings = {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the other exporter needs one more package
        torch.onnx.export(model, (torch.zeros(1, 3, 32, 32),), path, **settings)
    done = salve(path, colour_data, "--out", out, "--keep-activations", *QUICK)
    assert done.code == 0, done.err
    saved = load_file(out / "activations.safetensors")
    np.testing.assert_allclose(saved["head_weight"], model[-1].weight.detach().numpy(), atol=1e-7)


def externalise(path: Path, location: str | None = None) -> None:
    """Moves the weights beside the model, and says they lie at `location`."""
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if location is not None:
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(model.SerializeToString())


def test_weights_beside_the_model_are_read(salve: Callable, colour_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder / "model.onnx")
    externalise(folder / "model.onnx")
    assert (folder / "weights.bin").stat().st_size > 100
    done = salve(folder / "model.onnx", colour_data, "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    assert load_audit(tmp_path / "out").model.head_error < 1e-5
    before = load_audit(tmp_path / "out").provenance.model_sha256
    content = bytearray((folder / "weights.bin").read_bytes())
    content[0] ^= 1
    (folder / "weights.bin").write_bytes(content)
    assert before not in salve("inspect", folder / "model.onnx").out  # the hash covers both files


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/hostname", "a/../../secret.bin", "..\\secret.bin", "link.bin", ""]
)
def test_nothing_outside_the_folder_is_read(salve: Callable, tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\1" * 4096)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    write(folder / "model.onnx")
    externalise(folder / "model.onnx", location)
    done = salve("inspect", folder / "model.onnx")
    assert done.code == 2
    assert "out" in done.err
    assert "folder" in done.err
    assert done.err.count("error: ") == 1


def damage_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def damage_text(path: Path) -> None:
    path.write_text("not a model")


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_operator(path: Path) -> None:
    model = onnx.load(path)
    model.graph.node[1].op_type, model.graph.node[1].domain = "RunThis", "evil"
    path.write_bytes(model.SerializeToString())


def damage_two_inputs(path: Path) -> None:
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    path.write_bytes(model.SerializeToString())


def damage_tail(path: Path) -> None:
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Relu", ["y"], ["z"], "last"))
    model.graph.output[0].name = "z"
    path.write_bytes(model.SerializeToString())


def damage_shape(path: Path) -> None:
    model = onnx.load(path)
    next(tensor for tensor in model.graph.initializer if tensor.name == "head").dims[1] = 68
    path.write_bytes(model.SerializeToString())


def damage_bias(path: Path) -> None:
    model = onnx.load(path)
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    stored.CopyFrom(numpy_helper.from_array(np.zeros(2, np.float32), "bias"))
    path.write_bytes(model.SerializeToString())


def damage_inputs(path: Path) -> None:
    model = onnx.load(path)
    del model.graph.node[-1].input[1:]
    path.write_bytes(model.SerializeToString())


def damage_computed_weights(path: Path) -> None:
    model = onnx.load(path)
    model.graph.node.insert(0, helper.make_node("Abs", ["head"], ["head_abs"]))
    model.graph.node[-1].input[1] = "head_abs"
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (damage_truncated, "is damaged or no ONNX file"),
        (damage_text, "is damaged or no ONNX file"),
        (damage_empty, "the file is empty"),
        (damage_operator, "onnxruntime cannot run it"),
        (damage_two_inputs, "takes 2 inputs (x, other), expected one: images"),
        (damage_tail, "no linear layer makes its output; it ends with 'acts' (Flatten), 'fc' (Gemm), 'last' (Relu)"),
        (damage_shape, "its graph is damaged (ValueError: cannot reshape array"),
        (damage_bias, "its graph is damaged (ValueError: operands could not be broadcast"),
        (damage_inputs, "its graph is damaged (IndexError"),
        (damage_computed_weights, "no linear layer makes its output"),
        (Path.unlink, "no such file"),
    ],
)
def test_bad_files_are_one_line(
    salve: Callable, colour_data: Path, tmp_path: Path, damage: Callable, word: str
) -> None:
    path = tmp_path / "model.onnx"
    write(path)
    damage(path)
    done = salve(path, colour_data, "--out", tmp_path / "out", *QUICK)
    assert done.code == 2
    assert done.err.count("error: ") == 1
    assert word in done.err, done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_the_node_can_be_named_and_is_verified(salve: Callable, colour_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write(path, tail_two_heads)
    wrong = salve(path, colour_data, "--head", "head", "--out", tmp_path / "out", *QUICK)
    assert wrong.code == 2
    assert "its layer 'head' (6 -> 3) does not make the logits" in wrong.err
    unknown = salve(path, colour_data, "--head", "fc", "--out", tmp_path / "out", *QUICK)
    assert "has no node or tensor 'fc'" in unknown.err
    right = salve("inspect", path, "--head", "y")
    assert right.code == 0, right.err


def test_without_the_extra_the_hint_says_how_to_get_it(
    salve: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "model.onnx")
    original = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] in ("onnx", "onnxruntime"):
            raise ImportError(f"No module named {name!r}", name=name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    done = salve("inspect", tmp_path / "model.onnx")
    assert done.code == 2
    assert "ONNX files need the packages onnx and onnxruntime" in done.err
    assert "hint: pip install salve-audit[onnx]" in done.err


def test_arch_is_refused(salve: Callable, tmp_path: Path) -> None:
    write(tmp_path / "model.onnx")
    done = salve("inspect", tmp_path / "model.onnx", "--arch", "resnet18")
    assert "an ONNX file holds its own architecture" in done.err


@pytest.mark.parametrize("what", ["node", "tensor"])
def test_names_in_the_graph_that_are_no_text_are_damage(
    salve: Callable, colour_data: Path, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "model.onnx"
    write(path)
    model = onnx.load(path)
    last = model.graph.node[-1]
    old = (last.name or last.output[0]) if what == "node" else last.input[0]
    assert len(old) >= 1
    path.write_bytes(path.read_bytes().replace(old.encode(), b"\xff" * len(old.encode())))
    done = salve("inspect", path, colour_data)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert "no UTF-8" in done.err or "ONNX" in done.err
