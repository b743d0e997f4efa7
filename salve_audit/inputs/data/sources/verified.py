"""A source that gives only the contents that were hashed, so that the cache's key is the key of what was read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from salve_audit.inputs.data.sources.source import Content, ImageSource, count_readers

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


def digest_image(source: ImageSource, key: str) -> str:
    """`digest_content` of one image; the reason where it cannot be read, which the pass will then name."""
    try:
        return digest_content(source.read(key))
    except OSError as error:
        return f"{UNREADABLE}{error.strerror or error}"
    except ValueError as error:
        return f"{UNREADABLE}{error}"


@dataclass(frozen=True)
class VerifiedSource:
    """A source that refuses images whose digest has changed since the key of the cache was computed."""

    source: ImageSource
    digests: Mapping[str, str] = field(repr=False)

    @property
    def resident_bytes(self) -> int:
        """Bytes that the wrapped source holds in memory."""
        return self.source.resident_bytes

    @property
    def n_readers(self) -> int:
        """As of the wrapped source."""
        return count_readers(self.source)

    def read(self, key: str) -> Content:
        """Contents of the image `key`, with the digest checked.

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
