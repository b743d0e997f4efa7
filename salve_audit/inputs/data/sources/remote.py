"""Images that are files under a URL: each is read with one request."""

from __future__ import annotations

from dataclasses import dataclass

from salve_audit.inputs.data.sources.source import MAX_BYTES, describe_too_large
from salve_audit.inputs.remote import RemoteFolder


@dataclass(frozen=True)
class RemoteSource:
    """Files below a URL; keys are relative to it.

    Attributes:
        folder: they lie in.
        n_readers: requests at once: each waits for the network.
    """

    folder: RemoteFolder
    n_readers: int = 16
    resident_bytes: int = 0

    def read(self, key: str) -> bytes:
        """Bytes of the file `key`."""
        content = self.folder.read(key, MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(describe_too_large(len(content)))
        return content
