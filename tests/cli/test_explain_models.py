"""``salve-audit explain`` on other kinds of models: single labels, grey images, ONNX files."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_files
import pytest
import timm
import torch
from PIL import Image

pytestmark = pytest.mark.slow

HEADS = Path(__file__).resolve().parents[1] / "models" / "heads.py"
QUICK = ["--format", "json", "--sae", "linear-l1", "--sae-seeds", "1", "--n-latents", "6", "--interventions", "salve"]
QUICK += ["--no-images", "--evidence", "off", "--deep-edits", "off", "--no-cache", "--limit", "12", "--quiet"]


def load(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"{file.stem}_for_explanations", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def explained(salve: Callable, colour_data: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """``explained(model, image, options of both, options of the audit)``: the audit made, the image explained."""

    def call(model: Path, image: Path, *both: object, audit: tuple[object, ...] = ()) -> dict[str, Any]:
        done = salve(model, colour_data, "--out", tmp_path / "out", *QUICK, *both, *audit)
        assert done.code == 0, done.err
        done = salve("explain", model, image, tmp_path / "out", *both, "--format", "json", "--suppress")
        assert done.code == 0, done.err
        (explanation,) = json.loads(done.out)
        logit = explanation["logit"]
        parts = [feature["part"] for feature in logit["features"]] + [logit["other_features"]["part"]]
        parts += [logit[name] for name in ("decoder_bias", "autoencoder_error", "head_bias")]
        assert sum(parts) == pytest.approx(logit["value"], abs=1e-9)
        return explanation

    return call


def test_a_label_stands_against_its_absence(explained: Callable, colour_data: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = load(HEADS).labels().eval()
    model, image = tmp_path / "labels.pt", colour_data / "val" / "green" / "001.png"
    torch.save(network.state_dict(), model)
    explanation = explained(model, image, "--arch", f"{HEADS}:labels", audit=("--label", "green"))
    pixels = torch.from_numpy(np.asarray(Image.open(image), dtype=np.float32) / 255).permute(2, 0, 1)[None]
    with torch.inference_mode():
        chance = float(network((pixels - 0.5) / 0.5)[0, 1])
    shown = {class_record["name"]: class_record["probability"] for class_record in explanation["classes"]}
    assert set(shown) == {"green", "not green"}
    assert shown["green"] == pytest.approx(chance, abs=1e-5)


def test_a_network_of_grey_images(explained: Callable, colour_data: Path, tmp_path: Path) -> None:
    kwargs = {"channels": (8, 8, 16, 32), "stem_width": 8, "in_chans": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("resnet10t", num_classes=3, zero_init_last=False, **kwargs).eval()
    args = {"num_classes": 3, "img_size": 32, "mean": (0.5,), "std": (0.5,), "crop_pct": 1.0, "model_kwargs": kwargs}
    args["interpolation"] = "bilinear"
    model, image = tmp_path / "grey.pt", colour_data / "val" / "blue" / "001.png"
    torch.save({"arch": "resnet10t", "state_dict": network.state_dict(), "args": args}, model)
    explanation = explained(model, image)
    pixels = torch.from_numpy(np.asarray(Image.open(image).convert("L"), dtype=np.float32) / 255)[None, None]
    with torch.inference_mode():
        logits = network((pixels - 0.5) / 0.5)[0].sort(descending=True).values
    np.testing.assert_allclose([class_record["logit"] for class_record in explanation["classes"]], logits, atol=1e-4)
    assert explanation["maps"] is not None


def test_an_onnx_file_is_explained_without_maps(explained: Callable, colour_data: Path, tmp_path: Path) -> None:
    onnx_files.write(tmp_path / "net.onnx")
    explanation = explained(tmp_path / "net.onnx", colour_data / "val" / "red" / "001.png")
    assert explanation["predicted"] == "red"
    assert explanation["maps"] is None
    assert explanation["why_no_maps"] == "no module's output is a grid over the image"
