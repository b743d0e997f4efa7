"""Small networks as classifiers: one of every family, and one whose cues are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.reader import HeadReader
from salve_audit.inputs.model.head.search import find_head
from salve_audit.results.transform import TransformSpec

SIZE = (32, 32)
FAMILIES: dict[str, dict[str, Any]] = {
    "resnet10t": {},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 40), "patch_size": 2},
    "tinynet_e": {},
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "swin_tiny_patch4_window7_224": {"img_size": 32, "window_size": 4, "depths": (1, 1), "embed_dim": 24,
                                     "num_heads": (2, 2)},
}  # fmt: skip


def as_classifier(model: nn.Module, reader: HeadReader | None = None) -> Classifier:
    model = model.eval().requires_grad_(False)
    reader = reader or find_head(model, (3, *SIZE))
    spec = TransformSpec((3, *SIZE), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "test")
    return Classifier(model, "test", "test", Path("model.pt"), "", reader.name, spec, None, False, (), "", reader)


def build_family(name: str) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=4, **FAMILIES[name])
        for module in model.modules():  # else all images look alike to a network with random weights
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        return as_classifier(model)


class Cues(nn.Module):
    """Class 0 shows by colour 0 or by colour 1, class 1 by colour 2 alone; class 2 where there is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 3, 4, 4), nn.Linear(2, 3)
        self.unused = nn.Identity()  # a layer that no forward pass reaches
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(3)[:, :, None, None].expand(3, 3, 4, 4) / 16)
            self.layer.bias.zero_()
            self.head.weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, 0.0]]))
            self.head.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        there = self.layer(x).amax((2, 3))  # (b, 3)
        return self.head(torch.stack([there[:, :2].amax(1), there[:, 2]], 1))


def draw_cues(n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """`n` images of each class of `Cues`, each cue a square of one colour in a place of its own."""
    images, labels = torch.zeros(3 * n, 3, *SIZE), torch.arange(3).repeat_interleave(n)
    images += 0.01 * torch.from_numpy(rng.standard_normal(images.shape)).float()
    for row, label in enumerate(labels.tolist()):
        colours = {0: (0, 1), 1: (2,), 2: ()}[label]
        for colour, place in zip(colours, rng.permutation(64)[:2].tolist(), strict=False):
            top, left = 4 * (place // 8), 4 * (place % 8)
            images[row, colour, top : top + 4, left : left + 4] = 1.0
    return images, labels


@pytest.fixture
def family() -> Callable[[str], Classifier]:
    return build_family


@pytest.fixture
def cues() -> Classifier:
    return as_classifier(Cues(), HeadReader("linear", ("head",)))


@pytest.fixture
def cue_images() -> Callable[..., tuple[Tensor, Tensor]]:
    return draw_cues
