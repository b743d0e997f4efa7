"""Fixtures over the real images and checkpoints, which live beside the repository, never in it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real images and checkpoints; skips where it is missing."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real images and checkpoints (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def cifar10(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``cifar10/`` with ``{train,val}/<class>/*.jpg`` (1,000 and 500 per class), unpacked once."""
    folder = tmp_path_factory.mktemp("shared_images")
    with tarfile.open(shared_data / "cifar10.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "cifar10"
