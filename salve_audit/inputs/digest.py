"""Hashes of files, read in blocks so that their size does not matter."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO

BLOCK_BYTES = 1 << 20


def hash_stream(stream: IO[bytes]) -> str:
    """sha256 of what is left in the stream, in hexadecimal."""
    digest = hashlib.sha256()
    while block := stream.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """sha256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hash_stream(stream)
