"""timm's names with tags, prefixes and in outdated forms: the right network, and the transform of its weights."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
import timm
import torch

from salve_audit.cli import app
from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.timm_names import TimmName, read_timm_name

NAME, TAG = "mobilenetv4_conv_small", "e3600_r256_in1k"  # its own default is another tag, of other images


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        return timm.create_model(NAME, num_classes=3).state_dict()


def of_train_script(state: Any, name: str) -> dict[str, Any]:
    args = argparse.Namespace(model=name, num_classes=3, interpolation="", crop_pct=None, mean=None, class_map="")
    return {"epoch": 1, "arch": name, "state_dict": state, "version": 2, "args": args}


@pytest.mark.parametrize("form", ["{}", "timm/{}", "hf_hub:timm/{}"])
def test_the_tag_says_how_images_are_prepared(form: str, save, state) -> None:
    classifier = load_classifier(save(of_train_script(state, form.format(f"{NAME}.{TAG}"))))
    expected, spec = timm.get_pretrained_cfg(f"{NAME}.{TAG}"), classifier.transform
    assert expected.crop_pct != timm.get_pretrained_cfg(NAME).crop_pct
    assert (spec.input_size, spec.crop_pct) == (expected.input_size, expected.crop_pct)
    assert (spec.interpolation, spec.mean, spec.std) == (expected.interpolation, expected.mean, expected.std)
    assert spec.source == f"default of {NAME}.{TAG} (timm)"
    assert classifier.architecture == NAME


def test_a_tag_costs_no_form_of_the_weights(save, state) -> None:
    head = {"classifier.1.weight": state["classifier.weight"], "classifier.1.bias": state["classifier.bias"]}
    wrapped = {f"backbone.{key}": value for key, value in state.items() if not key.startswith("classifier.")}
    path = save({"model": {**wrapped, **head}})
    for name in (NAME, f"timm/{NAME}.{TAG}"):
        assert load_classifier(path, name).architecture == NAME


def test_what_the_checkpoint_says_wins_over_the_tag(save, state) -> None:
    content = of_train_script(state, f"{NAME}.{TAG}")
    content["args"].crop_pct = 0.5
    assert load_classifier(save(content)).transform.crop_pct == 0.5


def test_a_tag_that_timm_does_not_have(save, state) -> None:
    path = save(of_train_script(state, f"{NAME}.of_tomorrow"))
    assert any("does not know this tag" in note for note in load_classifier(path).notes)
    with pytest.raises(CheckpointError, match="no weights tagged 'of_tomorrow'") as caught:
        load_classifier(path, f"{NAME}.of_tomorrow")
    assert f"{NAME}.{TAG}" in str(caught.value.hint)


def test_outdated_and_foreign_names() -> None:
    assert read_timm_name("tv_resnet34") == TimmName("resnet34", "tv_in1k")
    assert read_timm_name("timm/resnet18.tv_in1k") == TimmName("resnet18", "tv_in1k")
    for name in ("hf_hub:someone/resnet18", "someone/resnet18", "local-dir:resnet18", "torchvision:resnet18", "my_net"):
        assert read_timm_name(name) is None


def test_a_working_folder_that_is_gone(tmp_path, monkeypatch, capsys) -> None:
    def fail() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("os.getcwd", fail)
    assert app.run(["inspect", str(tmp_path / "model.pt")]) == 2
    assert "error: the working folder: is gone" in capsys.readouterr().err
