"""A source whose contents must be those that were hashed: the cache's key then is the key of what was seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from salve_audit.inputs.sources.source import Content, PictureSource

CHANGED = "changed while the audit read it"
UNREADABLE = "unreadable: "


def digest_content(content: Content) -> str:
    """sha256 of a file's bytes, or of pixels with their type and shape."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    pixels = np.ascontiguousarray(content)
    digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}\n".encode())
    digest.update(pixels.data)
    return digest.hexdigest()


def digest_picture(source: PictureSource, key: str) -> str:
    """`digest_content` of one picture; the reason where it cannot be read, which the pass will then name."""
    try:
        return digest_content(source.read(key))
    except OSError as error:
        return f"{UNREADABLE}{error.strerror or error}"
    except ValueError as error:
        return f"{UNREADABLE}{error}"


@dataclass(frozen=True)
class VerifiedSource:
    """`source`, refusing what no longer has the digest it had when the key of the cache was computed."""

    source: PictureSource
    digests: Mapping[str, str] = field(repr=False)

    @property
    def resident_bytes(self) -> int:
        """Of the source within."""
        return self.source.resident_bytes

    def read(self, key: str) -> Content:
        """The picture.

        Raises:
            ValueError: as the source does, or `CHANGED`.
        """
        expected = self.digests.get(key)
        try:
            content = self.source.read(key)
        except (OSError, ValueError) as error:
            if expected is not None and not expected.startswith(UNREADABLE):
                raise ValueError(CHANGED) from error
            raise
        if expected is not None and digest_content(content) != expected:
            raise ValueError(CHANGED)
        return content
