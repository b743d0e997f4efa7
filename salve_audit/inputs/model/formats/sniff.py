"""The format of a file, by its first bytes and, for a zip archive, by the names of its members."""

from __future__ import annotations

import enum
import zipfile
from pathlib import Path

ZIP_MAGIC = b"PK\x03\x04"
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format


class FileKind(enum.Enum):
    """Formats of model files, in words for the report."""

    SAFETENSORS = "safetensors"
    TORCHSCRIPT = "TorchScript archive"
    EXPORTED = "torch.export program"
    ZIPPED = "torch.save archive"
    OTHER_ZIP = "zip archive"
    PICKLE = "pickle"
    HDF5 = "Keras or HDF5 file"


def sniff(file: Path) -> FileKind:
    """The kind of `file`; `FileKind.PICKLE` where nothing speaks for another (old torch.save has no mark)."""
    with file.open("rb") as stream:
        head = stream.read(9)
    if head.startswith(ZIP_MAGIC):
        return _sniff_zip(file)
    if head.startswith(b"\x89HDF"):
        return FileKind.HDF5
    n_header = int.from_bytes(head[:8], "little")
    if head[8:] == b"{" and 0 < n_header <= min(LARGEST_HEADER, file.stat().st_size):
        return FileKind.SAFETENSORS
    return FileKind.SAFETENSORS if file.suffix == ".safetensors" else FileKind.PICKLE


def _sniff_zip(file: Path) -> FileKind:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return FileKind.OTHER_ZIP
    if any(name == "constants.pkl" or name.startswith("code/") for name in names):
        return FileKind.TORCHSCRIPT
    if any(name in ("archive_format", "serialized_exported_program.json") for name in names) or any(
        name.startswith("models/") and name.endswith(".json") for name in names
    ):
        return FileKind.EXPORTED
    return FileKind.ZIPPED if "data.pkl" in names else FileKind.OTHER_ZIP
