"""What training scripts leave in their checkpoints about images, under many words, becomes one transform."""

from __future__ import annotations

import argparse
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision.transforms import v2

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.formats.sidecar import sidecar_of
from salve_audit.inputs.model.settings import crop_share, read_size
from salve_audit.inputs.model.transform import build_transform
from salve_audit.results.transform import UPRIGHT, TransformSpec

NAME = "test_resnet"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        return timm.create_model(NAME, num_classes=3).state_dict()


def prepared(save: Any, content: dict[str, Any]) -> TransformSpec:
    return load_classifier(save(content), NAME).transform


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"img_size": 96}, (3, 96, 96)),
        ({"image_size": [80, 112]}, (3, 80, 112)),
        ({"input_size": (3, 64, 64)}, (3, 64, 64)),
        ({"input_shape": [72, 88, 3]}, (3, 72, 88)),
        ({"imgsz": "64"}, (3, 64, 64)),
        ({"resolution": torch.tensor(48)}, (3, 48, 48)),
        ({"img_size": "64x80"}, (3, 64, 80)),
        ({"image_size": 64.0}, (3, 64, 64)),
    ],
)
@pytest.mark.parametrize("place", ["args", "hyper_parameters", "config"])
def test_sizes_in_all_forms(place: str, given: dict, expected: tuple, save, state) -> None:
    assert prepared(save, {"state_dict": state, place: given}).input_size == expected


def test_settings_in_sections_of_a_configuration(save, state) -> None:
    content = {"state_dict": state, "config": {"DATA": {"IMG_SIZE": 80, "INTERPOLATION": "bicubic"}, "SEED": 1}}
    spec = prepared(save, content)
    assert (spec.input_size, spec.interpolation) == ((3, 80, 80), "bicubic")


NESTED: dict[str, dict[str, Any]] = {
    "lightning's data module": {"datamodule_hyper_parameters": {"image_size": 80, "mean": [0.5] * 3}},
    "a data module's own state": {"PetsDataModule": {"imageSize": 80, "norm_mean": (0.5, 0.5, 0.5)}},
    "a configuration in the settings": {"hyper_parameters": {"cfg": {"data": {"size": 80, "mean": 0.5}}, "lr": 1.0}},
    "upper case": {"config": {"MODEL": {"IN_SIZE": 7}, "DATA": {"IMG-SIZE": 80}, "INPUT": {"PIXEL_MEAN": [0.5] * 3}}},
    "a namespace": {"hparams": argparse.Namespace(data_cfg=argparse.Namespace(img_sz=80, mean="0.5 0.5 0.5"))},
    "references": {"cfg": {"size": 80, "half": [0.5] * 3, "data": {"img_size": "${size}", "mean": "${..half}"}}},
    "the top level": {"img_size": 80, "normalization": {"mean": [0.5] * 3, "std": [0.2] * 3}},
    "a pair": {"img_size": 80, "test_transform": {"normalize": [[0.5] * 3, [0.2] * 3]}},
    "a list of steps": {"transforms": [{"name": "Resize", "size": 80}, {"name": "Normalize", "mean": [0.5] * 3}]},
    "training, images, tests": {
        "config": {"train": {"crop_size": 64}, "test": {"crop_size": 80}, "data": {"img_size": 96, "mean": 0.5}}
    },
    "features": {"input_size": 1024, "hidden_layers": [9], "output_size": 3, "image_size": 80, "mean": [0.5] * 3},
}


@pytest.mark.parametrize("form", NESTED)
def test_settings_wherever_scripts_keep_them(form: str, save, state) -> None:
    weights = {f"model.{key}": value for key, value in state.items()}
    others = {"optimizer": {"img_size": 7}, "teacher_cfg": {"data": {"img_size": 7}}}
    spec = prepared(save, {"state_dict": weights, **others, **NESTED[form]})
    assert (spec.input_size, spec.mean) == ((3, 80, 80), (0.5, 0.5, 0.5))


class Node:
    """A node of OmegaConf's tree."""

    __module__ = "omegaconf.nodes"

    def __init__(self, value: Any) -> None:
        is_tree = type(value) is dict
        self._parent = None
        vars(self)["_content" if is_tree else "_val"] = {k: Node(v) for k, v in value.items()} if is_tree else value


def test_a_configuration_of_omegaconf_is_read_without_its_classes(save, state, monkeypatch) -> None:
    values = {
        "side": 80,
        "data": {"img_size": "${side}", "std": "???"},
        "model": {"name": NAME},
        "classes": list("cab"),
    }
    with monkeypatch.context() as installed:
        for name in ("omegaconf", "omegaconf.nodes"):
            installed.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["omegaconf.nodes"].Node = Node  # type: ignore[attr-defined]
        path = save({"state_dict": state, "hyper_parameters": Node(values)})
    classifier = load_classifier(path)
    assert (classifier.architecture, classifier.transform.input_size) == (NAME, (3, 80, 80))
    assert classifier.class_names == tuple("cab")
    assert not any("unread" in note for note in classifier.notes)
    normalised = next(decision for decision in classifier.decisions if decision.what == "mean, std")
    assert normalised.conflict == "hyper_parameters.data.std is ???, which is not in the file"


def test_two_places_that_differ_are_a_conflict(save, state) -> None:
    content = {"state_dict": state, "model_cfg": {"img_size": 64}, "data_cfg": {"img_size": 80}}
    decision = load_classifier(save(content), NAME).decisions[1]
    assert (decision.taken, decision.why) == ("3x80x80", "data_cfg.img_size")
    assert decision.conflict == "model_cfg.img_size is 64"


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"interpolation": "InterpolationMode.BICUBIC"}, "interpolation", "bicubic"),
        ({"resample": 0}, "interpolation", "nearest"),
        ({"test_interpolation": "LANCZOS"}, "interpolation", "lanczos"),
        ({"interpolation": "linear"}, "interpolation", "bilinear"),
        ({"crop_pct": 87.5}, "crop_pct", 0.875),
        ({"eval_crop_ratio": "0.9"}, "crop_pct", 0.9),
        ({"image_mean": torch.tensor([0.1, 0.2, 0.3])}, "mean", (0.1, 0.2, 0.3)),
        ({"norm_std": "0.5 0.25 0.125"}, "std", (0.5, 0.25, 0.125)),
    ],
)
def test_values_in_the_words_of_other_libraries(given: dict, field: str, value: Any, save, state) -> None:
    assert getattr(prepared(save, {"state_dict": state, "args": given}), field) == pytest.approx(value)


@pytest.mark.parametrize(("crop", "resized"), [(96, 112), (224, 256), (299, 342), (288, 320), (64, 64), (176, 232)])
def test_a_crop_out_of_a_resized_image_is_exactly_torchvisions(crop: int, resized: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (411, 397, 3), dtype=np.uint8))
    spec = TransformSpec((3, crop, crop), (0.0,) * 3, (1.0,) * 3, "bilinear", crop_share(crop, resized), "")
    steps = [v2.Resize(resized, v2.InterpolationMode.BILINEAR), v2.CenterCrop(crop), v2.PILToTensor()]
    own = (build_transform(spec)(image) * 255).round().to(torch.uint8)
    assert (own.int() - v2.Compose(steps)(image).int()).abs().max() <= 1


def test_torchvisions_script_keeps_its_sizes(save, state) -> None:
    args = argparse.Namespace(model="resnet18", val_resize_size=80, val_crop_size=64, interpolation="bicubic")
    classifier = load_classifier(save({"model": state, "args": args, "epoch": 3}), NAME)
    spec = classifier.transform
    assert (spec.input_size, spec.interpolation) == ((3, 64, 64), "bicubic")
    assert spec.crop_pct == pytest.approx(64 / 80)
    assert "convention of torchvision's references" in spec.source
    assert "args.val_crop_size" in {decision.why for decision in classifier.decisions}


@pytest.mark.parametrize(
    ("args", "size", "share", "mean"),
    [
        ({"input_size": 64, "nb_classes": 3}, 64, 64 / 73, 0.485),
        ({"input_size": 384, "nb_classes": 3, "crop_pct": None}, 384, 1.0, 0.485),
        ({"input_size": 64, "nb_classes": 3, "eval_crop_ratio": 1.0}, 64, 1.0, 0.485),
        ({"input_size": 64, "nb_classes": 3, "imagenet_default_mean_and_std": False}, 64, 64 / 73, 0.5),
    ],
)
def test_the_scripts_of_deit_and_its_relatives(args: dict, size: int, share: float, mean: float, save, state) -> None:
    spec = prepared(save, {"model": state, "args": argparse.Namespace(**args)})
    assert spec.input_size == (3, size, size)
    assert spec.crop_pct == pytest.approx(share)
    assert (spec.interpolation, spec.mean[0]) == ("bicubic", mean)


def test_pytorchs_example_has_its_own_crop_and_says_what_the_architecture_has(save, state) -> None:
    content = {"epoch": 9, "arch": NAME, "state_dict": {f"module.{k}": v for k, v in state.items()}, "best_acc1": 70.0}
    classifier = load_classifier(save(content))
    spec = classifier.transform
    assert (spec.input_size, spec.interpolation) == ((3, 224, 224), "bilinear")
    assert spec.crop_pct == pytest.approx(224 / 256)
    size = next(decision for decision in classifier.decisions if decision.what == "input size")
    assert size.conflict == "the architecture's own default is 3x160x160"


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"arch": NAME, "version": 2, "args": argparse.Namespace(model=NAME)}, "timm checkpoint"),
        ({"arch": NAME, "args": {"model": NAME, "img_size": 64}}, "timm checkpoint"),
        ({"arch": NAME, "args": argparse.Namespace(arch=NAME, lr=0.1)}, "state_dict in a dictionary"),
        ({"config": {"arch": NAME}}, "state_dict in a dictionary"),
        ({"args": {"model": NAME, "val_crop_size": 64}}, "checkpoint of torchvision's references"),
        ({"arch": NAME, "epoch": 3, "best_acc1": 9.0}, "checkpoint of PyTorch's ImageNet example"),
        ({"hyper_parameters": {"arch": NAME}, "pytorch-lightning_version": "2.4"}, "Lightning checkpoint"),
    ],
)
def test_a_file_is_called_by_the_script_whose_marks_it_has(beside: dict, expected: str, save, state) -> None:
    assert load_classifier(save({"state_dict": state, **beside})).format == expected


@pytest.mark.parametrize(("more", "taken"), [({}, "bilinear"), ({"test_interpolation": "bicubic"}, "bicubic")])
def test_an_interpolation_that_is_drawn_for_training_is_not_taken_and_said(more: dict, taken: str, save, state) -> None:
    args = argparse.Namespace(model=NAME, interpolation="random", class_map="", **more)
    decisions = load_classifier(save({"arch": NAME, "version": 2, "args": args, "state_dict": state})).decisions
    said = next(decision for decision in decisions if decision.what == "interpolation")
    assert said.taken == taken
    assert said.conflict == ("" if more else "args.interpolation is random, which is for training")


def test_openmmlabs_configuration_is_parsed_and_not_run(save, state, tmp_path: Path) -> None:
    text = f"""
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
open({str(tmp_path / "ran")!r}, 'w')
test_pipeline = [dict(type='ResizeEdge', scale=80, edge='short', interpolation='bicubic'), dict(crop_size=64)]
"""
    spec = prepared(save, {"meta": {"mmengine_version": "0.10", "cfg": text}, "state_dict": state})
    assert (spec.input_size, spec.interpolation) == ((3, 64, 64), "bicubic")
    assert spec.crop_pct == pytest.approx(0.8)
    assert spec.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-5)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ([127.5, 127.5, 127.5], [127.5, 127.5, 127.5], (0.5, 0.5)),
        ([0, 0, 0], [255, 255, 255], (0.0, 1.0)),
        ([51, 51, 51], [1, 1, 1], (0.2, 1 / 255)),
    ],
)
def test_numbers_for_bytes_are_brought_to_0_to_1_and_said(mean, std, expected, save, state) -> None:
    classifier = load_classifier(save({"state_dict": state, "args": {"mean": mean, "std": std}}), NAME)
    assert classifier.transform.mean == pytest.approx((expected[0],) * 3)
    assert classifier.transform.std == pytest.approx((expected[1],) * 3)
    said = next(decision for decision in classifier.decisions if decision.what == "mean, std")
    assert "divided by 255" in said.conflict


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"mean": [103.939, 116.779, 123.68], "std": [1, 1, 1]}, "take blue first"),
        (
            {"mean": [0.485, 0.456, 0.406], "std": [58.4, 57.1, 57.4]},
            "mean (0.485, 0.456, 0.406) is for pixels in 0 to 1",
        ),
        ({"image_size": "large"}, "args.image_size is 'large'"),
        ({"input_size": 64.5}, "no whole number of pixels"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(args: dict, words: str, save, state) -> None:
    with pytest.raises(CheckpointError, match="its settings make no transform") as caught:
        load_classifier(save({"state_dict": state, "args": args}), NAME)
    assert words in str(caught.value)
    assert "model.json" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "beside"),
    [("best.pth.tar", "best.json"), ("m.ckpt", "m.json"), ("m.pth", "m.pth.json"), ("x.pth.tar", "x.pth.json")],
)
def test_the_json_file_beside_a_checkpoint_of_any_ending(name: str, beside: str, save, state, tmp_path: Path) -> None:
    (tmp_path / beside).write_text(
        json.dumps({"image_size": 48, "image_mean": [0.5] * 3, "id2label": {0: "a", 1: "b"}})
    )
    path = save(state, name)
    assert sidecar_of(path) == tmp_path / beside
    classifier = load_classifier(path, NAME)
    assert (classifier.transform.input_size, classifier.transform.mean) == ((3, 48, 48), (0.5,) * 3)
    assert classifier.class_names == ("a", "b")


def test_without_a_json_file_the_plainest_name_is_named(tmp_path: Path) -> None:
    assert sidecar_of(tmp_path / "last.pth.tar").name == "last.json"


@pytest.mark.parametrize(
    ("processor", "mean", "std"),
    [
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}, 0.5, 0.5),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, 0.5, 0.5),
        ({"rescale_factor": 1 / 255, "image_mean": [0.3] * 3, "image_std": [0.2] * 3}, 0.3, 0.2),
    ],
)
def test_a_processors_own_scale_of_pixels(processor: dict, mean: float, std: float, state, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"model_type": "own"}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 64, **processor}))
    spec = load_classifier(folder, NAME).transform
    assert spec.mean == pytest.approx((mean,) * 3)
    assert spec.std == pytest.approx((std,) * 3)
    assert spec.orientation == UPRIGHT


@pytest.mark.parametrize("value", [64, "64", [64], (64, 64), np.int64(64), torch.tensor([64, 64])])
def test_one_size_in_many_types(value: Any) -> None:
    assert read_size(value) == (64, 64)
