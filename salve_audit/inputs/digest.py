"""Hashes of files, read in blocks so that their size does not matter."""

from __future__ import annotations

import hashlib
from typing import IO

BLOCK_BYTES = 1 << 20


def hash_stream(stream: IO[bytes]) -> str:
    """sha256 of what is left in the stream, in hexadecimal."""
    digest = hashlib.sha256()
    while block := stream.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
