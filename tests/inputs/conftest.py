"""Small checkpoints and folders that the tests of this stage damage in their own ways."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

TINY = Path(__file__).resolve().parents[1] / "models" / "tiny.py"


@pytest.fixture(scope="session")
def tiny_arch() -> str:
    return f"{TINY}:tiny"


@pytest.fixture
def tiny_state() -> dict[str, torch.Tensor]:
    """The state_dict of a freshly drawn tiny network with 3 classes."""
    spec = importlib.util.spec_from_file_location("tiny_for_tests", TINY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return module.tiny(3).state_dict()


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """``save(content)`` writes a checkpoint file and gives its path."""

    def write(content: Any, name: str = "model.pt", **kwargs: Any) -> Path:
        torch.save(content, tmp_path / name, **kwargs)
        return tmp_path / name

    return write


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """``make_folder({"train/cat": 3, ...})`` draws that many images into each folder."""

    def write(counts: dict[str, int], name: str = "data") -> Path:
        rng = np.random.default_rng(0)
        for part, n in counts.items():
            folder = tmp_path / name / part
            folder.mkdir(parents=True)
            for index in range(n):
                pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index:03}.png")
        return tmp_path / name

    return write
