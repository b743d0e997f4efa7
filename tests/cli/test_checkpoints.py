"""Every form of checkpoint, from the file to what ``inspect`` says of it or to an audit."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from salve_audit.inputs import load_classifier

State = dict[str, torch.Tensor]
TRUST = (
    "hint: --trust-model runs the code in it, if you know who made it; or save it again as "
    "{'arch': NAME, 'state_dict': model.state_dict(), 'args': {...}} with plain values"
)
QUICK = [
    "--format",
    "json",
    "--interventions",
    "salve",
    "--no-cache",
    "--sae",
    "paper",
    "--limit",
    "8",
    "--depth",
    "off",
    "--no-images",
]


@pytest.fixture
def state() -> State:
    """Of timm's smallest ResNet, with 3 classes."""
    return dict(draw("test_resnet").state_dict())


@pytest.fixture(scope="module")
def hub_names() -> Any:
    """tests/models/hub_names.py."""
    file = Path(__file__).resolve().parents[1] / "models" / "hub_names.py"
    spec = importlib.util.spec_from_file_location("hub_names_for_tests", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def show(salve: Callable) -> Callable[..., dict[str, str]]:
    """``show(path, ...)``: what ``inspect`` prints, by its first column."""

    def call(*arguments: object) -> dict[str, str]:
        done = salve("inspect", *arguments)
        assert done.code == 0, done.err
        return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in done.out.splitlines())

    return call


def draw(name: str, n_classes: int = 3, **kwargs: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=n_classes, **kwargs).eval()


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def notes(shown: dict[str, str]) -> list[str]:
    return [text for name, text in shown.items() if name.startswith("note ")]


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


@pytest.mark.parametrize(("name", "size"), [("test_vit", 96), ("test_coatnet", 96), ("gmlp_ti16_224", 64)])
def test_size_classes_and_channels_are_read_off(name: str, size: int, tmp_path: Path, show: Callable) -> None:
    model = draw(name, 5, img_size=size, in_chans=1)
    shown = show(save(model.state_dict(), tmp_path / "model.pt"))
    assert shown["architecture"] == name
    assert shown["input"].startswith(f"1x{size}x{size}, ")
    assert "out_features=5," in shown["head"]


@pytest.mark.parametrize(
    ("stem", "expected", "also"),
    [("model", "resnet18", "resnetblur18"), ("resnetblur18_cars", "resnetblur18", "resnet18")],
)
def test_of_those_that_share_all_shapes_the_plainest(
    stem: str, expected: str, also: str, tmp_path: Path, show: Callable
) -> None:
    shown = show(save(draw("resnet18").state_dict(), tmp_path / f"{stem}.pth"))
    assert shown["architecture"] == expected
    assert f"the same tensors also fit {also}; if it is one of these, say so with --arch" in notes(shown)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_an_mlp_head_on_a_known_backbone_is_named(prefix: str, state: State, tmp_path: Path, salve: Callable) -> None:
    backbone = {f"{prefix}{name}": value for name, value in state.items() if not name.startswith("fc.")}
    head = {"0.weight": torch.ones(32, 96), "0.bias": torch.ones(32), "2.weight": torch.ones(3, 32)}
    root = "proj" if prefix else "fc"
    path = save({**backbone, **{f"{root}.{name}": value for name, value in head.items()}}, tmp_path / "model.pt")
    done = salve("inspect", path)
    assert done.code == 2
    assert f"all but its head is test_resnet; the head {root!r} is an MLP (96 -> 32 -> 3)" in done.err
    assert "--arch FILE.py:FUNCTION takes a function that builds both" in done.err


def test_other_sizes_of_an_architecture_are_named(tmp_path: Path, salve: Callable) -> None:
    small = draw("vit_tiny_patch16_224", img_size=32, patch_size=4, depth=6)
    path = save(small.state_dict(), tmp_path / "model.pt")
    said = "vit_tiny_patch16_224 with another depth (6 blocks, not 12), patch size (4, not 16)"
    for arch in ((), ("--arch", "vit_tiny_patch16_224")):
        done = salve("inspect", path, *arch)
        assert done.code == 2
        assert said in done.err
    args = {"model_kwargs": {"img_size": 32, "patch_size": 4, "depth": 6}}
    save({"arch": "vit_tiny_patch16_224", "state_dict": small.state_dict(), "args": args}, path)
    assert "arguments     img_size=32, patch_size=4, depth=6" in salve("inspect", path).out


def test_a_file_without_its_function(state: State, tmp_path: Path, salve: Callable) -> None:
    done = salve("inspect", save(state, tmp_path / "model.pt"), "--arch", "net.py")
    assert (done.code, done.err.splitlines()) == (
        2,
        ["error: --arch net.py: names a file, but no function in it", "hint: --arch net.py:FUNCTION"],
    )


def test_look_alikes_are_warned_of_in_an_audit(colour_data: Path, tmp_path: Path, salve: Callable) -> None:
    path = save(draw("resnet18").state_dict(), tmp_path / "model.pth")
    done = salve(path, colour_data, "--out", tmp_path / "out", "--label", "none")  # stops before the pass
    assert done.code == 2
    assert "warning: model.pth: it is taken for resnet18; the same tensors also fit resnetblur18" in done.err


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


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "swin_t"])
def test_torchvision(name: str, tmp_path: Path, show: Callable) -> None:
    from torchvision.models import get_model

    model = get_model(name, num_classes=4).eval()
    path = save(model.state_dict(), tmp_path / "model.pth")
    shown = show(path)
    assert shown["architecture"] == f"torchvision:{name}"
    assert "architecture default (torchvision)" in shown["input"]
    pictures = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(load_classifier(path).model(pictures), model(pictures))


def test_a_torchvision_name_can_be_said(tmp_path: Path, show: Callable) -> None:
    path = save(draw("resnet18").state_dict(), tmp_path / "model.pth")
    shown = show(path, "--arch", "torchvision:resnet18")
    assert shown["architecture"] == "torchvision:resnet18"
    assert "out_features=3," in shown["head"]


@pytest.mark.parametrize("called", ["vgg16", "my_own_name"])
def test_a_file_that_calls_itself_something_else(
    called: str, state: State, tmp_path: Path, show: Callable, salve: Callable
) -> None:
    path = save({"arch": called, "state_dict": state}, tmp_path / "model.pth")
    shown = show(path)
    assert shown["architecture"] == "test_resnet"
    assert f"the file calls itself {called!r}, but its tensors are those of test_resnet" in notes(shown)
    done = salve("inspect", path, "--arch", "resnet18")  # what the user says is not overruled
    assert done.code == 2
    assert done.err.splitlines()[1] == "hint: its keys are those of timm's 'test_resnet': --arch test_resnet"


def test_safetensors(state: State, tmp_path: Path, show: Callable) -> None:
    save_file(state, tmp_path / "model.safetensors")
    shown = show(tmp_path / "model.safetensors")
    assert (shown["format"], shown["architecture"]) == ("safetensors", "test_resnet")


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_file_beside_it_says_what_it_does_not(ending: str, state: State, tmp_path: Path, show: Callable) -> None:
    path = tmp_path / f"model{ending}"
    save_file(state, path) if ending == ".safetensors" else save(state, path)
    note = (
        "how pictures are prepared is not all said by the checkpoint (architecture default (timm)); model.json beside"
    )
    assert any(one.startswith(note) for one in notes(show(path)))
    said = {"input_size": [3, 48, 48], "mean": [0.1] * 3, "std": [0.2] * 3, "interpolation": "bicubic", "crop_pct": 1.0,
            "class_names": ["a", "b", "c"]}  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(said))
    shown = show(path)
    assert shown["input"] == "3x48x48, bicubic, crop 1, from: model.json"
    assert shown["class names"] == "a, b, c"
    assert not any("how pictures" in one for one in notes(shown))


@pytest.mark.parametrize(("content", "what"), [('{"epoch": 3}', "holds other things (epoch)"), ("{", "is no JSON")])
def test_another_file_beside_it_is_left_alone(
    content: str, what: str, state: State, tmp_path: Path, show: Callable
) -> None:
    path = save(state, tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(content)
    assert f"model.json beside the checkpoint {what}; nothing was taken from it" in notes(show(path))


def test_small_pictures_that_nobody_asked_to_enlarge(colour_data: Path, tmp_path: Path, salve: Callable) -> None:
    path = save(draw("test_resnet").state_dict(), tmp_path / "model.pt")
    done = salve(path, colour_data, "--out", tmp_path / "out", *QUICK)
    text = "The pictures (32 pixels at most) are enlarged to 160 x 160, the architecture's default"
    assert text in done.err
    assert text in (tmp_path / "out" / "audit.json").read_text()
    (tmp_path / "model.json").write_text('{"input_size": [3, 32, 32]}')
    assert "enlarged" not in salve(path, colour_data, "--out", tmp_path / "other", *QUICK).err


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


def test_a_timm_folder(state: State, tmp_path: Path, show: Callable) -> None:
    config = {
        "architecture": "test_resnet",
        "num_classes": 3,
        "label_names": ["x", "y", "z"],
        "pretrained_cfg": {"input_size": [3, 96, 96], "mean": [0.1] * 3, "std": [0.2] * 3, "crop_pct": 0.9,
                           "interpolation": "bilinear", "crop_mode": "squash"},
    }  # fmt: skip
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        shown = show(path)
        assert shown["class names"] == "x, y, z"
        assert shown["input"] == "3x96x96, bilinear, crop 0.9, from: checkpoint"
        assert shown["mean, std"] == "0.1 0.1 0.1; 0.2 0.2 0.2"
    assert show(tmp_path)["format"] == "timm folder (safetensors)"


@pytest.mark.parametrize("n_shards", [1, 2])
def test_a_hugging_face_folder(n_shards: int, tmp_path: Path, show: Callable, hub_names: Any) -> None:
    model = draw("vit_tiny_patch16_224", img_size=96)
    named = hub_names.as_vit(model.state_dict())
    config = {"model_type": "vit", "id2label": {"0": "x", "1": "y", "2": "z"}, "layer_norm_eps": 1e-12,
              "num_attention_heads": 3, "image_size": 96, "hidden_act": "gelu"}  # fmt: skip
    processor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2, "size": {"height": 96, "width": 96}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    if n_shards == 1:
        torch.save(named, tmp_path / "pytorch_model.bin")
    else:
        names = sorted(named)
        parts = {"a.safetensors": names[:70], "b.safetensors": names[70:]}
        for file, own in parts.items():
            save_file({name: named[name].contiguous() for name in own}, tmp_path / file)
        index = {"weight_map": {name: file for file, own in parts.items() for name in own}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    shown = show(tmp_path)
    assert shown["format"].startswith("Hugging Face folder (")
    assert shown["architecture"] == "vit_tiny_patch16_224"
    assert shown["class names"] == "x, y, z"
    assert shown["input"] == "3x96x96, bilinear, crop 1, from: checkpoint"
    assert "its tensors have the names of Hugging Face ViT; they were renamed to timm's" in notes(shown)


@pytest.mark.parametrize(
    ("family", "name", "eps"),
    [
        ("as_vit", "vit_tiny_patch16_224", 1e-12),
        ("as_deit", "deit_tiny_distilled_patch16_224", 1e-12),
        ("as_swin", "swin_tiny_patch4_window7_224", None),
        ("as_convnext", "convnext_tiny", None),
        ("as_resnet", "resnet18", None),
    ],
)
def test_hugging_face_names(
    family: str, name: str, eps: float | None, tmp_path: Path, show: Callable, hub_names: Any
) -> None:
    """The renamed network computes what the one it was made from does."""
    model = draw(name)
    path = save(getattr(hub_names, family)(model.state_dict()), tmp_path / "model.bin")
    assert show(path)["architecture"] == name
    for module in model.modules():
        if eps is not None and isinstance(module, nn.LayerNorm):
            module.eps = eps
    pictures = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(load_classifier(path).model(pictures), model(pictures), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (
            {"model_type": "vit", "hidden_act": "gelu_new"},
            "its config.json asks for hidden_act 'gelu_new', timm's network has 'gelu'",
        ),
        ([], "config.json: holds a JSON list, expected an object"),
        ("{", "config.json: is no JSON"),
    ],
)  # fmt: skip
def test_folders_whose_configuration_cannot_be_followed(
    config: Any, why: str, tmp_path: Path, salve: Callable, hub_names: Any
) -> None:
    torch.save(hub_names.as_vit(draw("vit_tiny_patch16_224").state_dict()), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    done = salve("inspect", tmp_path)
    assert done.code == 2
    assert done.err.splitlines()[0].startswith(f"error: {tmp_path}")
    assert done.err.splitlines()[0].endswith(why)


def test_a_folder_whose_index_leads_out_of_it(state: State, tmp_path: Path, salve: Callable) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(state, tmp_path / "secret.safetensors")
    index = {"weight_map": dict.fromkeys(state, "../secret.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    done = salve("inspect", folder)
    assert done.code == 2
    assert "names a shard '../secret.safetensors' that is not in its folder" in done.err


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


def test_bare_weights_are_audited(colour_data: Path, tmp_path: Path, salve: Callable) -> None:
    """Architecture, classes and size by nothing but the tensors."""
    path = save({"model": draw("test_vit", img_size=32).state_dict()}, tmp_path / "model.pt")
    done = salve(path, colour_data, "--out", tmp_path / "out", *QUICK, "--n-latents", "16")
    assert done.code == 0, done.err
    model = json.loads((tmp_path / "out" / "audit.json").read_text())["model"]
    assert (model["architecture"], model["n_classes"]) == ("test_vit", 3)


# --- files that are programs -----------------------------------------------------------------------------------------


class Small(nn.Module):
    """A network of the user's own, with a branch that tracing would lose."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.conv(x).relu().mean([2, 3])))


def write_program(kind: str, path: Path) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small().eval()
    example = torch.randn(4, 3, 32, 32)
    if kind == "scripted":
        torch.jit.script(model).save(str(path))
    elif kind == "traced":
        torch.jit.trace(model, example).save(str(path))
    elif kind == "exported":
        torch.export.save(torch.export.export(model, (example,)), path)
    elif kind == "exported for any number":
        shapes = ({0: torch.export.Dim("n")},)
        torch.export.save(torch.export.export(model, (example,), dynamic_shapes=shapes), path)
    else:
        timm_model = draw("test_resnet")
        torch.save({"model": timm_model} if kind == "pickled in a dictionary" else timm_model, path)
    return model


PROGRAMS = {
    "scripted": ("model.pt", "TorchScript archive", "TorchScript Small"),
    "traced": ("model.pt", "TorchScript archive", "TorchScript Small"),
    "exported": ("model.pt2", "torch.export program", "torch.export program"),
    "exported for any number": ("model.pt2", "torch.export program", "torch.export program"),
    "pickled": ("model.pt", "whole pickled network (timm.models.resnet.ResNet", ""),
    "pickled in a dictionary": ("model.pt", "whole pickled network (timm.models.resnet.ResNet", ""),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_programs_are_refused_or_trusted(
    kind: str, tmp_path: Path, colour_data: Path, salve: Callable, show: Callable
) -> None:
    file, what, architecture = PROGRAMS[kind]
    path = tmp_path / file
    model = write_program(kind, path)
    done = salve("inspect", path)
    assert done.code == 2
    error, hint = done.err.splitlines()
    assert error.startswith(f"error: {path}: is a {what}")
    assert error.endswith(", which is code; refused")
    assert hint == TRUST
    sidecar = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "class_names": ["blue", "green", "red"]}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    shown = show(path, "--trust-model")
    assert f"code in {file} was run to load it (--trust-model)" in notes(shown)
    assert shown["class names"] == "blue, green, red"
    if architecture:
        assert shown["architecture"] == architecture
        assert shown["head"] == "head: Linear(in_features=8, out_features=3, bias=True)"
        assert shown["parameters"] == f"{sum(p.numel() for p in model.parameters()):,}"
        with torch.inference_mode():
            pictures = torch.randn(9, 3, 32, 32)
            torch.testing.assert_close(load_classifier(path, trust=True).model(pictures), model(pictures))
    done = salve(path, colour_data, "--trust-model", "--out", tmp_path / "out", "--format", "html,json", *QUICK[2:])
    assert done.code == 0, done.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Code named by the user was run to build the model." in page
    assert f"code in {file} was run to load it (--trust-model)" in page
    result = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert result["provenance"]["trusted_code"] is True
    assert result["model"]["n_classes"] == 3


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_a_program_without_a_linear_end(tmp_path: Path, salve: Callable) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten())).save(str(path))
    done = salve("inspect", path, "--trust-model")
    assert done.code == 2
    assert done.err.splitlines() == [
        f"error: {path}: its graph ends with aten::flatten, expected a linear layer",
        "hint: export the network so that it returns the output of its final linear layer",
    ]


def test_trust_is_not_used_where_it_is_not_needed(state: State, tmp_path: Path, show: Callable) -> None:
    shown = show(save(state, tmp_path / "model.pt"), "--trust-model")
    assert not any("was run" in text for text in notes(shown))


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
