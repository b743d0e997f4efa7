"""A cache under a URL: a folder of this machine that is filled from there, and copied to it file by file.

Everything is computed and mapped on a disk here. What is complete is sent; what is missing here is fetched where it is
asked for. A store that fails in the midst of an audit is one warning, and the audit goes on with its folder alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from salve_audit.activations.room import FULL, FullError
from salve_audit.errors import UsageError
from salve_audit.inputs.remote import RemoteFolder

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass
class RemoteCache:
    """A cache under a URL.

    Attributes:
        folder: of this machine; the paths that methods are given lie in it.
        store: where everything is kept.
    """

    folder: Path
    store: RemoteFolder
    _is_lost: bool = field(default=False, repr=False)

    def check(self) -> None:
        """Looks before the work whether the bucket is there.

        Raises:
            UsageError: it is not, or the store cannot be reached.
        """
        try:
            self.store.check_bucket()
        except FileNotFoundError as error:
            raise UsageError("--cache", f"{self.store.url}: there is no such bucket", hint="create it first") from error
        except OSError as error:
            raise UsageError("--cache", f"{self.store.url} cannot be reached ({error})") from error

    def fetch(self, path: Path) -> bool:
        """Copies a file here, if it is there; True if it is here now."""
        name = self._name(path)
        if not path.exists() and self._ask(lambda: self.store.has(name), False):
            self._ask(lambda: self._fetch(name, path), None)
        return path.exists()

    def fetch_parts(self, folder: Path) -> None:
        """Copies the files below a folder that are not here."""
        for name in self.list_names(folder):
            self.fetch(folder / name)

    def fetch_whole(self, folder: Path, last: str) -> None:
        """Copies a folder here that is not here, if its `last` file is there; it appears whole."""
        if folder.is_dir() or not self._ask(lambda: self.store.has(f"{self._name(folder)}/{last}"), False):
            return
        work = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:12]}.work")

        def fetch() -> None:
            for name in self.list_names(folder):
                self._fetch(f"{self._name(folder)}/{name}", work / name)
            with contextlib.suppress(OSError):  # another run was faster
                os.rename(work, folder)

        try:
            self._ask(fetch, None)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def list_names(self, folder: Path) -> list[str]:
        """Names of the files below a folder, there."""
        return self._ask(lambda: self.store.below(self._name(folder)).list_names(), [])

    def read(self, path: Path) -> bytes:
        """A file's content, from there; nothing where it is not."""
        return self._ask(lambda: self.store.read(self._name(path)), b"")

    def send(self, path: Path) -> None:
        """Copies a file there."""
        self._tell(lambda: self.store.send(path, self._name(path)))

    def write(self, path: Path, content: bytes) -> bool:
        """Writes a file there alone; True if it is written."""
        return self._tell(lambda: self.store.write(self._name(path), content))

    def create(self, path: Path, content: bytes) -> bool:
        """Writes a file there alone, unless there is one; True if it is written."""
        return self._ask(lambda: self.store.create(self._name(path), content), False)

    def remove(self, path: Path) -> None:
        """Removes a folder there, or a file."""
        self._tell(lambda: self.store.remove(self._name(path)))

    def _fetch(self, name: str, path: Path) -> None:
        """Copies a file here; a full disk is none of the store's failures."""
        try:
            self.store.fetch(name, path)
        except OSError as error:
            if error.errno in FULL:
                why = f"the disk is full; {name} of {self.store.url} is to be copied there"
                raise FullError(
                    str(self.folder), why, hint="make room, or name another folder with XDG_CACHE_HOME"
                ) from error
            raise

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _ask(self, question: Callable[[], T], otherwise: T) -> T:
        """The answer of the store; `otherwise` where what is asked for is not there, or the store is lost."""
        answers: list[T] = []

        def ask() -> None:
            with contextlib.suppress(FileNotFoundError):
                answers.append(question())

        self._tell(ask)
        return answers[0] if answers else otherwise

    def _tell(self, work: Callable[[], None]) -> bool:
        """Does something with the store, but nothing more once it has failed; True if it is done."""
        if self._is_lost:
            return False
        try:
            work()
        except OSError as error:
            self._is_lost = True
            logger.warning("%s cannot be used (%s): results are kept in %s alone", self.store.url, error, self.folder)
        return not self._is_lost
