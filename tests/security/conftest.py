"""Small targets for attacks, the command line in this process, and a record of every file that it opens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from salve_audit.cli.app import run

CHANNELS = (8, 8, 16, 32)
_recorders: list[list[str]] = []
_is_hooked: list[bool] = []


def _record_open(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _recorders and isinstance(arguments[0], (str, bytes)):
        for opened in _recorders:
            opened.append(os.path.realpath(os.fsdecode(arguments[0])))


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    def assert_refused(self, *words: str) -> None:
        """Exit 2 with one line, which has `words`; no traceback, no defect, nothing on stdout."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.code == 2, self.err + self.out
        assert len(errors) == 1, self.err
        assert "Traceback" not in self.err
        assert "internal error" not in self.err
        assert self.out == ""
        for word in words:
            assert word in errors[0], errors[0]


@pytest.fixture
def salve(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``salve("inspect", model, data)``: exit code, stdout and stderr of the command line."""

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Real paths of all files that Python opens during the test; the hook itself can never be taken away again."""
    if not _is_hooked:
        sys.addaudithook(_record_open)
        _is_hooked.append(True)
    paths: list[str] = []
    _recorders.append(paths)
    yield paths
    _recorders.clear()


@pytest.fixture(scope="session")
def small_checkpoint() -> dict[str, object]:
    """A timm-style checkpoint of a tiny network with three classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kwargs = {"channels": CHANNELS, "stem_width": 8}
        state = timm.create_model("resnet10t", num_classes=3, **kwargs).state_dict()
    args = {"num_classes": 3, "img_size": 32, "model_kwargs": kwargs}
    return {"arch": "resnet10t", "state_dict": state, "args": args}


@pytest.fixture(scope="session")
def small_model(small_checkpoint: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.pt"
    torch.save(small_checkpoint, path)
    return path


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders a, b and c with 24 images of noise each; to read only."""
    return write_images(tmp_path_factory.mktemp("images") / "data")


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """Class folders as in `small_data`, for a test that changes them."""
    return write_images(tmp_path / "data")


def write_images(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in "abc":
        (root / name).mkdir(parents=True)
        for i in range(24):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """A valid set of arrays: 60 samples, 8 activations, 3 classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    acts = np.abs(rng.normal(size=(60, 8))).astype(np.float32)
    acts[np.arange(60), labels] += 2
    return {"acts": acts, "labels": labels, "weight": np.eye(3, 8, dtype=np.float32), "bias": np.zeros(3, np.float32)}
