"""Writes pickles the way that torch.save does."""

from __future__ import annotations

import zipfile
from pathlib import Path


def write_zipped(path: Path, data: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """What torch.save writes, with `data` as its pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(4))
    return path
