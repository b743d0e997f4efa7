"""A tiny classifier and a small folder of images, quick enough to extract dozens of times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier

MODELS = Path(__file__).resolve().parents[1] / "models"


@pytest.fixture
def classifier(tmp_path: Path) -> Classifier:
    """The tiny network with 3 classes and weights drawn from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    state = {
        "conv.weight": torch.randn(5, 3, 3, 3, generator=generator),
        "conv.bias": torch.randn(5, generator=generator),
        "norm.weight": torch.ones(5),
        "norm.bias": torch.zeros(5),
        "norm.running_mean": torch.zeros(5),
        "norm.running_var": torch.ones(5),
        "head.weight": torch.randn(3, 5, generator=generator),
        "head.bias": torch.randn(3, generator=generator),
    }
    torch.save(state, tmp_path / "tiny.pt")
    return load_classifier(tmp_path / "tiny.pt", f"{MODELS / 'tiny.py'}:tiny")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """train/ and val/ with 3 classes of 12 and 8 images."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 12), ("val", 8)):
        for name in ("ant", "bee", "cow"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for index in range(n):
                pixels = rng.integers(0, 256, (18, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return tmp_path / "images"


@pytest.fixture
def imageset(images: Path) -> ImageSet:
    return load_images(images, seed=0)
