"""Folders under a URL (s3://, gs:// and whatever else fsspec knows): listed, read and written as whole files.

Keys, endpoints and the like are those of the file system's own package: its environment variables, or fsspec's
configuration files. Nothing here holds an open connection, so that all of it can be sent to other processes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from salve_audit.errors import SalveError, UsageError
from salve_audit.inputs.reasons import summarise_error
from salve_audit.whole_files import written_whole

_URL = re.compile(r"(?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://")
INSTALL = "pip install 'salve-audit[url]'"
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs"})  # kinds of URLs that begin with a bucket, which must be there


def is_url(place: object) -> bool:
    """True for text such as ``s3://bucket/folder``, and ``simplecache::s3://bucket/folder``."""
    return isinstance(place, str) and _URL.match(place) is not None


class UrlPath(PurePosixPath):
    """A URL where messages and names of folders need a path; it is never opened."""

    def __str__(self) -> str:
        """The URL with the two slashes that paths make one of."""
        return super().__str__().replace(":/", "://", 1)


@dataclass(frozen=True)
class RemoteFolder:
    """A folder under a URL; names are relative to it, with slashes.

    Every failure is an `OSError` with one line, whatever the file system raises.

    Attributes:
        url: without a slash at its end.
    """

    url: str

    @classmethod
    def open(cls, url: str) -> RemoteFolder:
        """The folder, whether it is there or not.

        Raises:
            UsageError: the package for this kind of URL is not installed, or there is none, or it refuses the URL.
        """
        folder = cls(url.rstrip("/"))
        try:
            folder._locate()
        except ImportError as error:
            why = f"the package that reads such URLs is not installed ({summarise_error(error)})"
            raise UsageError(url, why, hint=INSTALL) from error
        except Exception as error:  # of a package that is not ours
            raise UsageError(url, f"is no URL that can be read ({summarise_error(error)})") from error
        return folder

    def check_bucket(self) -> None:
        """Looks whether the bucket is there; one that may be used but not looked at is believed.

        Raises:
            OSError: it is not, or the store cannot be reached.
        """
        with _as_os_error(), contextlib.suppress(PermissionError):
            files, root = self._locate()
            if _names(files) & BUCKETS:
                files.info(root.lstrip("/").split("/")[0])

    def below(self, name: str) -> RemoteFolder:
        """A folder of this one."""
        return RemoteFolder(f"{self.url}/{name}")

    def list_names(self) -> list[str]:
        """Names of all files below the folder, sorted; none where it is not there."""
        with _as_os_error():
            files, root = self._locate()
            start = f"{root.rstrip('/')}/"
            return sorted(path[len(start) :] for path in files.find(root) if path.startswith(start))

    def has(self, name: str) -> bool:
        """True if there is such a file."""
        with _as_os_error():
            files, root = self._locate()
            return bool(files.isfile(f"{root}/{name}"))

    def read(self, name: str, most: int | None = None) -> bytes:
        """A file's content; with `most`, no more of it than so many bytes."""
        with _as_os_error():
            files, root = self._locate()
            limits = {} if most is None else {"start": 0, "end": most}
            return bytes(files.cat_file(f"{root}/{name}", **limits))

    def write(self, name: str, content: bytes) -> None:
        """Write a file; stores make it visible when it is complete."""
        with _as_os_error():
            files, root = self._locate()
            files.pipe_file(f"{root}/{name}", content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file where there is none; False where there is one.

        In one step where the store can (S3, GCS), else by looking first.
        """
        with _as_os_error():
            files, root = self._locate()
            try:
                files.pipe_file(f"{root}/{name}", content, mode="create")
            except FileExistsError:
                return False
            except Exception:  # of a store, or a version of its package, that does not know how
                if files.isfile(f"{root}/{name}"):
                    return False
                files.pipe_file(f"{root}/{name}", content)
        return True

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to `path`, complete or not at all."""
        with _as_os_error():
            files, root = self._locate()
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part:
                files.get_file(f"{root}/{name}", str(part))

    def send(self, path: Path, name: str) -> None:
        """Copy a file from `path`."""
        with _as_os_error():
            files, root = self._locate()
            files.put_file(str(path), f"{root}/{name}")

    def remove(self, prefix: str) -> None:
        """Remove all files below a folder of this one, or a file."""
        with _as_os_error():
            files, root = self._locate()
            with contextlib.suppress(FileNotFoundError):
                files.rm(f"{root}/{prefix}", recursive=True)

    def _locate(self) -> tuple[Any, str]:
        """The file system and the folder's place in it; fsspec remembers file systems, for each process its own."""
        from fsspec.core import url_to_fs

        own = {"auto_mkdir": True} if self.url.startswith(("file://", "local://")) else {}  # stores have no folders
        files, root = url_to_fs(self.url, use_listings_cache=False, **own)
        return files, str(root).rstrip("/")


def _names(files: Any) -> set[str]:
    """What a file system is called: one name, or several."""
    return {files.protocol} if isinstance(files.protocol, str) else {*files.protocol}


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (OSError, SalveError):
        raise
    except Exception as error:  # file systems raise what they like
        raise OSError(summarise_error(error)) from error
