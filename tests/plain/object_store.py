"""Object stores on this machine: moto's server in the place of S3, and a memory in that of Google's."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem

BUCKET = "audits"
WANTED = "is not installed: pip install 'salve-audit[url]' 'moto[s3,server]'"


@contextlib.contextmanager
def serving_objects() -> Iterator[str]:
    """``s3://BUCKET``, served on loopback to this process and to those that it starts."""
    pytest.importorskip("s3fs", reason=f"s3fs {WANTED}")
    server = pytest.importorskip("moto.server", reason=f"moto {WANTED}").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
            patch.setenv(f"AWS_{name}", value)
        try:
            _find_files().makedirs(BUCKET, exist_ok=True)
            yield f"s3://{BUCKET}"
        finally:
            server.stop()
            _find_files().clear_instance_cache()


class Memory(MemoryFileSystem):  # type: ignore[misc]
    """Answers to URLs as gcsfs does."""

    protocol = ("gs", "gcs")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(MemoryFileSystem._strip_protocol(str(path).removeprefix("gs://")))


@contextlib.contextmanager
def google_objects() -> Iterator[str]:
    """``gs://BUCKET`` in this process's memory: there is no such store, nor gcsfs, where tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(importlib.import_module("fsspec.registry")._registry, "gs", Memory)
        files = Memory()
        files.mkdirs(f"/{BUCKET}")
        yield f"gs://{BUCKET}"
        files.rm("/", recursive=True)


def upload(folder: Path, url: str) -> None:
    """All files below `folder`."""
    _find_files().put(str(folder), url, recursive=True)


def list_objects(url: str) -> dict[str, int]:
    """Sizes of all objects below a URL, by their names below it."""
    start = url.partition("://")[2]
    details = _find_files().find(url, detail=True)
    return {name.removeprefix(f"{start}/"): entry["size"] for name, entry in sorted(details.items())}


def _find_files():  # type: ignore[no-untyped-def]
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False)
