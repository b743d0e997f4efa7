"""Small checkpoints, and what ``inspect`` notes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

State = dict[str, torch.Tensor]
QUICK = [
    "--format",
    "json",
    "--interventions",
    "salve",
    "--no-cache",
    "--sae",
    "paper",
    "--limit",
    "8",
    "--evidence",
    "off",
    "--no-images",
]


def draw(name: str, n_classes: int = 3, **kwargs: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=n_classes, **kwargs).eval()


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def notes(shown: dict[str, str]) -> list[str]:
    return [text for name, text in shown.items() if name.startswith("note ")]
