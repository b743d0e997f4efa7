"""Runs of the command line: in this process for speed, results as text."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from checkpoint_files import State, draw
from PIL import Image

from salve_audit.cli.app import run

MAX_GROWTH = 1.5 * 1024**3  # bytes; an audit itself stays far below 4 GB
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
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def colour_data(shared_folder: Callable) -> Path:
    """train/ and val/ of three classes of noisy colour, 40 and 32 images each."""
    return shared_folder("colours", write_colours)


def write_colours(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, n in {"train": 40, "val": 32}.items():
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = np.clip(rng.normal(colour, 45, size=(32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:03d}.png")


@pytest.fixture(scope="session")
def colour_model(colour_data: Path, shared_folder: Callable) -> Path:
    """A timm-style checkpoint of a tiny network that was trained on the colours for a moment."""
    return shared_folder("colour_model", lambda folder: train_on_colours(colour_data, folder)) / "colours.pt"


def train_on_colours(colour_data: Path, folder: Path) -> None:
    torch.manual_seed(0)
    kwargs = {"channels": (8, 8, 16, 32), "stem_width": 8}
    model = timm.create_model("resnet10t", num_classes=3, **kwargs)
    prepared, labels = [], []
    for label, name in enumerate(sorted(COLOURS)):
        for path in sorted((colour_data / "train" / name).iterdir()):
            prepared.append(np.asarray(Image.open(path), dtype=np.float32) / 255 - 0.5)
            labels.append(label)
    images, targets = torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2) / 0.5, torch.tensor(labels)
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
    content = {"arch": "resnet10t", "state_dict": model.eval().state_dict(), "args": args}
    torch.save(content, folder / "colours.pt")


@pytest.fixture(scope="session")
def audit_colours(
    shared_folder: Callable, colour_model: Path, colour_data: Path, assert_fits_schema: Callable
) -> Callable[..., Path]:
    """``audit_colours(name, *options)``: a folder with out/ and cache/ of that audit, made once a run."""

    def make(name: str, *options: str) -> Path:
        def audit(place: Path) -> None:
            command = [sys.executable, "-m", "salve_audit", str(colour_model), str(colour_data), *options]
            command += ["--out", str(place / "out"), "--cache", str(place / "cache")]
            done = subprocess.run(command, capture_output=True, text=True, cwd=place)
            assert done.returncode == 0, done.stderr
            (place / "stdout.txt").write_text(done.stdout)
            assert_fits_schema((place / "out" / "audit.json").read_text())

        return shared_folder(name, audit)

    return make


@pytest.fixture(scope="session")
def default_audit(audit_colours: Callable) -> Path:
    """The colours by the default line, with everything kept."""
    return audit_colours("default_audit", "--keep-activations", "--fail-under", "0.001")


@pytest.fixture(scope="session")
def head_audit(audit_colours: Callable) -> Path:
    """The colours with one autoencoder, edits at the head and heat maps; no image reliance, no deep edits."""
    quick = ["--sae", "linear-l1", "--sae-seeds", "1", "--interventions", "salve", "--deep-edits", "off"]
    quick += ["--evidence", "off", "--format", "html,json", "--keep-activations", "--quiet"]
    return audit_colours("head_audit", *quick)


@pytest.fixture
def audit_of(head_audit: Path, tmp_path: Path) -> Callable[[Path], Path]:
    """The colours' audit as if it had been made of another file with these weights."""

    def make(model: Path) -> Path:
        folder = tmp_path / f"audit-{model.name}"
        shutil.copytree(head_audit / "out", folder)
        (folder / "activations.safetensors").unlink()
        files = [model] if model.is_file() else [model / "model.safetensors"]
        text = json.loads((folder / "audit.json").read_text())
        text["provenance"]["model_sha256"] = hashlib.sha256(files[0].read_bytes()).hexdigest()
        (folder / "audit.json").write_text(json.dumps(text))
        return folder

    return make


@pytest.fixture
def edit(salve: Callable, head_audit: Path, colour_data: Path) -> Callable[..., Any]:
    """``edit(model, audit, ...)`` with the audit's images and cache."""

    def call(model: Path, audit: Path, *options: object, data: Path | None = colour_data) -> Any:
        images = ["--data", data] if data is not None else []
        return salve("edit", model, audit, *options, *images, "--cache", head_audit / "cache")

    return call


@pytest.fixture
def original(colour_model: Path) -> dict[str, Any]:
    return torch.load(colour_model, weights_only=True)


@pytest.fixture
def state() -> State:
    """timm's smallest ResNet, with 3 classes."""
    return dict(draw("test_resnet").state_dict())


@pytest.fixture(scope="session")
def hub_names() -> Any:
    """tests/models/hub_names.py."""
    file = Path(__file__).resolve().parents[1] / "models" / "hub_names.py"
    spec = importlib.util.spec_from_file_location("hub_names_for_tests", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def show(salve: Callable) -> Callable[..., dict[str, str]]:
    """``show(path, ...)``: what ``inspect`` prints, by its first column."""

    def call(*arguments: object) -> dict[str, str]:
        done = salve("inspect", *arguments)
        assert done.code == 0, done.err
        return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in done.out.splitlines())

    return call


@pytest.fixture
def memory_is_bounded() -> Iterator[None]:
    """A test may not raise the peak memory of the process by more than MAX_GROWTH."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MAX_GROWTH
