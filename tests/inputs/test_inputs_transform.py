"""Where the transform comes from, field by field, and that it is timm's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model import config_tree
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.formats import sidecar
from salve_audit.inputs.model.settings import canonical
from salve_audit.inputs.model.transform import build_transform
from salve_audit.results.transform import TRANSFORM_FIELDS

OWN = {"img_size": 24, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "crop_pct": 0.9}


def resnet18_with(save, args: dict[str, object]) -> Path:
    state = timm.create_model("resnet18", num_classes=3).state_dict()
    return save({"arch": "resnet18", "state_dict": state, "args": args})


def test_all_from_the_checkpoint(save) -> None:
    spec = load_classifier(resnet18_with(save, OWN)).transform
    assert spec.source == "checkpoint"
    assert (spec.input_size, spec.mean, spec.std) == ((3, 24, 24), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (spec.interpolation, spec.crop_pct, spec.crop_mode) == ("bilinear", 0.9, "center")


def test_all_from_the_architecture(save) -> None:
    classifier = load_classifier(resnet18_with(save, {}))
    spec, config = classifier.transform, resolve_model_data_config(timm.create_model("resnet18"))
    assert spec.source == "architecture default (timm)"
    assert (spec.input_size, spec.mean, spec.std) == (config["input_size"], config["mean"], config["std"])
    assert (spec.interpolation, spec.crop_pct) == (config["interpolation"], config["crop_pct"])
    assert classifier.notes == (
        "how images are prepared is not all said by the checkpoint (architecture default (timm)); model.json "
        "beside it may say it (input_size, mean, std, ...)",
    )


def test_a_mixture_is_said_in_words(save) -> None:
    spec = load_classifier(resnet18_with(save, {"input_size": [3, 20, 28], "crop_pct": 1.0})).transform
    assert spec.input_size == (3, 20, 28)
    assert spec.source == "input size, crop: checkpoint; mean, std, interpolation: architecture default (timm)"


def test_the_size_may_be_in_model_kwargs(save) -> None:
    kwargs = {"img_size": 32, "patch_size": 8, "depth": 1}
    state = timm.create_model("vit_tiny_patch16_224", num_classes=3, **kwargs).state_dict()
    path = save({"arch": "vit_tiny_patch16_224", "state_dict": state, "args": {"model_kwargs": kwargs}})
    spec = load_classifier(path).transform
    assert spec.input_size == (3, 32, 32)
    assert spec.source.startswith("input size: checkpoint; ")


def test_the_users_file_states_it(save, tiny_state, tiny_arch) -> None:
    spec = load_classifier(save(tiny_state), tiny_arch).transform
    assert spec.input_size == (3, 16, 16)
    assert spec.source == "input size: tiny.py; mean, std, interpolation, crop: timm's general default"


def test_the_checkpoint_wins_over_the_users_file(save, tiny_state, tiny_arch) -> None:
    spec = load_classifier(save({"state_dict": tiny_state, "args": OWN}), tiny_arch).transform
    assert (spec.input_size, spec.source) == ((3, 24, 24), "checkpoint")


def test_a_file_that_says_nothing_gets_timms_default_and_the_source_says_so(save, tmp_path: Path) -> None:
    file = tmp_path / "grey.py"
    file.write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
    )
    state = {
        "0.weight": torch.ones(4, 1, 3, 3),
        "0.bias": torch.ones(4),
        "3.weight": torch.ones(2, 4),
        "3.bias": torch.ones(2),
    }
    spec = load_classifier(save(state), f"{file}:build").transform
    assert (spec.input_size, spec.source) == ((1, 224, 224), "timm's general default")
    assert spec.mean == pytest.approx((np.mean([0.485, 0.456, 0.406]),))


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"img_size": -3}, "input size (3, -3, -3) is not (3, height, width)"),
        ({"img_size": 10**6}, "input size (3, 1000000, 1000000) is not (3, height, width)"),
        ({"mean": [0.5, 0.5]}, "2 means and 3 standard deviations for 3 channels"),
        ({"std": [0.1, 0.0, 0.1]}, "mean (0.485, 0.456, 0.406) or standard deviation (0.1, 0.0, 0.1) is not usable"),
        (
            {"interpolation": "cubic2"},
            "interpolation 'cubic2' is not one of nearest, bilinear, bicubic, box, hamming, lanczos",
        ),
        ({"crop_pct": 1.5}, "crop_pct 1.5 is not in (0, 1]"),
        ({"crop_pct": "big"}, "args.crop_pct is 'big' (could not convert string to float: 'big')"),
        ({"img_size": float("inf")}, "args.img_size is inf (cannot convert float infinity to integer)"),
        ({"img_size": [24, 24, 24, 24]}, "input size (24, 24, 24, 24) is not (3, height, width)"),
        (
            {"mean": {"r": 1}},
            "args.mean is {'r': 1} (float() argument must be a string or a real number, not 'dict')",
        ),
        ({"crop_mode": "star"}, "crop_mode 'star' is not one of center, squash, border"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(args: dict[str, object], why: str, save) -> None:
    path = resnet18_with(save, args)
    with pytest.raises(CheckpointError) as caught:
        load_classifier(path)
    assert str(caught.value) == f"{path}: its settings make no transform: {why}"


def test_is_timms_eval_transform(save) -> None:
    spec = load_classifier(resnet18_with(save, OWN)).transform
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8))
    expected = create_transform(
        (3, 24, 24),
        is_training=False,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        interpolation="bilinear",
        crop_pct=0.9,
    )
    assert torch.equal(build_transform(spec)(image), expected(image))


def test_the_crop_mode_is_a_setting_like_the_others(save, tiny_state, tiny_arch, tmp_path: Path) -> None:
    spec = load_classifier(resnet18_with(save, {**OWN, "crop_mode": "squash"})).transform
    assert (spec.crop_mode, spec.source) == ("squash", "checkpoint")
    spec = load_classifier(resnet18_with(save, {"crop_mode": "border"})).transform
    assert (spec.crop_mode, spec.source) == (
        "border",
        "input size, mean, std, interpolation, crop: architecture default (timm); crop mode: checkpoint",
    )
    file = tmp_path / "squashed.py"
    file.write_text(Path(tiny_arch.rpartition(":")[0]).read_text() + "\ncrop_mode = 'squash'\n")
    spec = load_classifier(save(tiny_state), f"{file}:tiny").transform
    assert (spec.crop_mode, spec.source.partition(";")[0]) == ("squash", "input size, crop mode: squashed.py")


def test_empty_settings_are_not_said(save) -> None:
    """timm's training script saves options that nobody gave as empty texts."""
    spec = load_classifier(resnet18_with(save, {**OWN, "interpolation": "", "crop_mode": ""})).transform
    config = resolve_model_data_config(timm.create_model("resnet18"))
    assert (spec.interpolation, spec.crop_mode) == (config["interpolation"], "center")


@pytest.mark.parametrize("name", TRANSFORM_FIELDS)
def test_every_place_that_settings_come_from_knows_every_field(name: str) -> None:
    """So that a new field of the transform cannot be lost between a file and audit.json."""
    assert name in sidecar.SETTINGS
    assert canonical(name) in config_tree.TAKEN
