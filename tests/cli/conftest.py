"""Runs of the command line: in this process for speed, results as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from salve_audit.cli.app import run

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def salve(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``salve("audit", model, data, ...)``: exit code, stdout and stderr of the command line."""

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = run([str(one) for one in arguments])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def colour_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and val/ of three classes of noisy colour, 40 and 32 pictures each."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for split, n in {"train": 40, "val": 32}.items():
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = np.clip(rng.normal(colour, 45, size=(32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    return root


@pytest.fixture(scope="session")
def colour_model(colour_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A timm-style checkpoint of a tiny network that was trained on the colours for a moment."""
    torch.manual_seed(0)
    kwargs = {"channels": (8, 8, 16, 32), "stem_width": 8}
    model = timm.create_model("resnet10t", num_classes=3, **kwargs)
    pictures, labels = [], []
    for label, name in enumerate(sorted(COLOURS)):
        for path in sorted((colour_data / "train" / name).iterdir()):
            pictures.append(np.asarray(Image.open(path), dtype=np.float32) / 255 - 0.5)
            labels.append(label)
    images, targets = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 0.5, torch.tensor(labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(25):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images), targets).backward()
        optimiser.step()
    args = {
        "num_classes": 3,
        "img_size": 32,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "model_kwargs": kwargs,
    }
    path = tmp_path_factory.mktemp("model") / "colours.pt"
    torch.save({"arch": "resnet10t", "state_dict": model.eval().state_dict(), "args": args}, path)
    return path
