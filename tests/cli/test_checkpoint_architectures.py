"""The architecture of weights, told by their names and shapes or by the user."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_files import QUICK, State, draw, notes, save

from salve_audit.inputs.model.checkpoint import load_classifier

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "swin_t"])
def test_torchvision(name: str, tmp_path: Path, show: Callable) -> None:
    from torchvision.models import get_model

    model = get_model(name, num_classes=4).eval()
    path = save(model.state_dict(), tmp_path / "model.pth")
    shown = show(path)
    assert shown["architecture"] == f"torchvision:{name}"
    assert "architecture default (torchvision)" in shown["input"]
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(load_classifier(path).model(images), model(images))


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


def test_bare_weights_are_audited(colour_data: Path, tmp_path: Path, salve: Callable) -> None:
    """Architecture, classes and size by nothing but the tensors."""
    path = save({"model": draw("test_vit", img_size=32).state_dict()}, tmp_path / "model.pt")
    done = salve(path, colour_data, "--out", tmp_path / "out", *QUICK, "--n-latents", "16")
    assert done.code == 0, done.err
    model = json.loads((tmp_path / "out" / "audit.json").read_text())["model"]
    assert (model["architecture"], model["n_classes"]) == ("test_vit", 3)
