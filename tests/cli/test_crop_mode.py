"""A checkpoint that squashes its images: the crop mode from its settings to audit.json, report, explain and edit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform

from salve_audit.cli.app import run

pytestmark = pytest.mark.slow

SIDE, WIDTH = 32, 48
QUICK = ["--format", "html,json", "--sae", "linear-l1", "--sae-seeds", "1", "--n-latents", "6", "--quiet"]
QUICK += ["--interventions", "salve", "--no-images", "--evidence", "off", "--deep-edits", "off"]


@pytest.fixture(scope="module")
def wide_data(colour_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colours' images in the middle of wider grey ones, whose sides a centre crop cuts away."""
    root = tmp_path_factory.mktemp("wide")
    for file in sorted(colour_data.rglob("*.png")):
        wide = Image.new("RGB", (WIDTH, SIDE), (128, 128, 128))
        wide.paste(Image.open(file), ((WIDTH - SIDE) // 2, 0))
        target = root / file.relative_to(colour_data)
        target.parent.mkdir(parents=True, exist_ok=True)
        wide.save(target)
    return root


@pytest.fixture(scope="module")
def squashing(colour_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colours' checkpoint with timm's ``crop_mode`` among its args."""
    content = torch.load(colour_model, weights_only=True)
    content["args"]["crop_mode"] = "squash"
    path = tmp_path_factory.mktemp("squashing") / "model.pt"
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def audited(squashing: Path, wide_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("squashed")
    options = ["--out", place / "out", "--cache", place / "cache", *QUICK]
    assert run([str(argument) for argument in (squashing, wide_data, *options)]) == 0
    return place / "out"


def plain_logits(checkpoint: Path, images: list[Path], crop_mode: str) -> torch.Tensor:
    """Logits by plain timm, with its transform in that crop mode."""
    content = torch.load(checkpoint, weights_only=True)
    model = timm.create_model("resnet10t", num_classes=3, **content["args"]["model_kwargs"]).eval()
    model.load_state_dict(content["state_dict"])
    half = (0.5, 0.5, 0.5)
    transform = create_transform(
        (3, SIDE, SIDE), interpolation="bilinear", mean=half, std=half, crop_pct=1.0, crop_mode=crop_mode
    )
    with torch.inference_mode():
        return model(torch.stack([transform(Image.open(file)) for file in images]))


def test_the_audit_and_its_report_say_how_images_were_cropped(audited: Path) -> None:
    assert json.loads((audited / "audit.json").read_text())["model"]["transform"]["crop_mode"] == "squash"
    (row,) = [line for line in (audited / "report.html").read_text().split("<tr") if "Crop mode" in line]
    assert "squash" in row


def test_inspect_shows_it(salve: Callable, squashing: Path) -> None:
    assert "squash crop 1" in salve("inspect", squashing).out


def test_explain_prepares_images_as_the_audit_did(
    salve: Callable, squashing: Path, wide_data: Path, audited: Path
) -> None:
    image = wide_data / "val" / "red" / "001.png"
    done = salve("explain", squashing, image, audited, "--format", "json")
    assert done.code == 0, done.err
    logits = [class_record["logit"] for class_record in json.loads(done.out)[0]["classes"]]
    squashed, cropped = (plain_logits(squashing, [image], mode)[0] for mode in ("squash", "center"))
    np.testing.assert_allclose(sorted(logits), squashed.sort().values, atol=1e-4)
    assert not torch.allclose(squashed, cropped, atol=1e-2)


def test_edit_measures_on_images_prepared_as_in_the_audit(
    salve: Callable, squashing: Path, wide_data: Path, audited: Path, tmp_path: Path
) -> None:
    out = tmp_path / "edited.pt"
    options = ("--class", "red", "--to-accuracy", 0.4, "--data", wide_data, "--cache", audited.parent / "cache")
    done = salve("edit", squashing, audited, *options, "-o", out)
    assert done.code == 0, done.err
    assert torch.load(out, weights_only=True)["args"]["crop_mode"] == "squash"
    reds = sorted((wide_data / "val" / "red").iterdir())
    squashed, cropped = (int((plain_logits(out, reds, mode).argmax(1) == 2).sum()) for mode in ("squash", "center"))
    assert squashed == 12  # of 32; 13 would be 41 %
    assert cropped != squashed
