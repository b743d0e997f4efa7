"""Files beside a checkpoint, and folders as timm and Hugging Face save them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import QUICK, State, draw, notes, save
from safetensors.torch import save_file
from torch import nn

from salve_audit.inputs.model.checkpoint import load_classifier

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_file_beside_it_says_what_it_does_not(ending: str, state: State, tmp_path: Path, show: Callable) -> None:
    path = tmp_path / f"model{ending}"
    save_file(state, path) if ending == ".safetensors" else save(state, path)
    note = "how images are prepared is not all said by the checkpoint (architecture default (timm)); model.json beside"
    assert any(line.startswith(note) for line in notes(show(path)))
    said = {"input_size": [3, 48, 48], "mean": [0.1] * 3, "std": [0.2] * 3, "interpolation": "bicubic", "crop_pct": 1.0,
            "class_names": ["a", "b", "c"]}  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(said))
    shown = show(path)
    assert shown["input"] == "3x48x48, bicubic, center crop 1, from: model.json"
    assert shown["class names"] == "a, b, c"
    assert not any("how images" in line for line in notes(shown))


@pytest.mark.parametrize(("content", "what"), [('{"epoch": 3}', "holds other things (epoch)"), ("{", "is no JSON")])
def test_another_file_beside_it_is_left_alone(
    content: str, what: str, state: State, tmp_path: Path, show: Callable
) -> None:
    path = save(state, tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(content)
    assert f"model.json beside the checkpoint {what}; nothing was taken from it" in notes(show(path))


def test_small_images_that_nobody_asked_to_enlarge(colour_data: Path, tmp_path: Path, salve: Callable) -> None:
    path = save(draw("test_resnet").state_dict(), tmp_path / "model.pt")
    done = salve(path, colour_data, "--out", tmp_path / "out", *QUICK)
    text = "The images (32 pixels at most) are enlarged to 160 x 160, the architecture's default"
    assert text in done.err
    assert text in (tmp_path / "out" / "audit.json").read_text()
    (tmp_path / "model.json").write_text('{"input_size": [3, 32, 32]}')
    assert "enlarged" not in salve(path, colour_data, "--out", tmp_path / "other", *QUICK).err


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
        assert shown["input"] == "3x96x96, bilinear, squash crop 0.9, from: checkpoint"
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
    said = "input size, mean, std, interpolation, crop, crop mode: checkpoint"
    assert shown["input"].startswith(f"3x96x96, bilinear, squash crop 1, from: {said}; orientation: convention of ")
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
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(load_classifier(path).model(images), model(images), rtol=1e-4, atol=1e-5)


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
