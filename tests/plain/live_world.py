"""A tiny world for live models: bright squares in one of three colours, and networks that learn it in a second."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

NAMES = ["castle", "dog", "fish"]
SIDE = 16
QUICK: dict[str, Any] = {  # an audit of a second
    "use_cache": False,
    "sae": "linear-l1",
    "sae_seeds": 1,
    "interventions": ("salve",),
    "evidence": "off",
    "images": False,
}


class Tiny(nn.Module):
    """Two convolutions and a linear head."""

    def __init__(self, n_channels: int = 3, n_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_channels, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc = nn.Linear(16, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, k)."""
        return self.fc(self.second(self.conv(x).relu()).relu().mean((2, 3)))


class World(NamedTuple):
    """A trained model, images (n, c, h, w) in 0..1 with labels (n,) to fit and to audit."""

    model: Any
    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]


def draw_images(n: int, seed: int, n_channels: int = 3, n_classes: int = 3) -> tuple[Tensor, Tensor]:
    """Noise with a square that is bright in the class's own channel; of few channels, as bright as the class says."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = 0.2 * torch.rand(n, n_channels, SIDE, SIDE, generator=generator), torch.arange(n) % n_classes
    for image, label in zip(images, labels.tolist(), strict=True):
        own, light = (label, 0.6) if n_channels >= n_classes else (0, 0.7 * label / n_classes)
        image[own, 4:10, 4:10] += light
    return images, labels


def make_world(n_channels: int = 3, n_classes: int = 3) -> World:
    """The world with a model that is right nearly everywhere; torch's random state is left as it is."""
    train, val = draw_images(99, 0, n_channels, n_classes), draw_images(96, 1, n_channels, n_classes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tiny(n_channels, n_classes)
        optimiser = torch.optim.Adam(model.parameters(), 2e-2)
        for _ in range(80):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(train[0]), train[1]).backward()
            optimiser.step()
    model.zero_grad()
    return World(model.eval(), train, val)
