"""A folder of class folders to a Catalogue: train/ and val/, or one level."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import Catalogue
from salve_audit.inputs.data.layout import is_image, read_layout
from salve_audit.inputs.data.sources.source import FolderSource

logger = logging.getLogger(__name__)


def read_folder(root: Path) -> Catalogue:
    """Reads the class folders below the resolved folder `root`.

    Raises:
        DataError: see `read_layout`.
    """
    return read_layout(DiskTree(root), FolderSource(root))


class DiskTree:
    """A folder on disk, as `read_layout` sees it; links that leave it are not followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._warned: set[str] = set()

    def list_folders(self, part: str) -> list[str]:
        """Sorted names of the visible folders in `part`; none where that is no folder."""
        if not os.path.isdir(self.root / part):
            return []
        return sorted(entry.name for entry in self._scan(part) if entry.is_dir())

    def list_images(self, part: str) -> list[str]:
        """Sorted names of the images directly in `part`."""
        return sorted(entry.name for entry in self._scan(part) if is_image(entry.name) and entry.is_file())

    def walk(self, part: str) -> Iterator[str]:
        """Paths of the images below `part`, subfolders included."""
        waiting = [part]
        while waiting:
            here = waiting.pop()
            for entry in self._scan(here):
                if entry.is_dir():
                    if not entry.is_symlink():  # a linked folder could lead in a circle
                        waiting.append(f"{here}/{entry.name}")
                elif is_image(entry.name) and entry.is_file():
                    if not _is_unicode(entry.name):
                        why = f"the file name {entry.name!r} is not UTF-8"
                        raise DataError(str(self.root / here), why, hint="rename it")
                    yield f"{here}/{entry.name}"

    def _scan(self, part: str) -> Iterator[os.DirEntry[str]]:
        """Visible entries of `part`; links to places outside the root are left out, with a warning."""
        try:
            with os.scandir(self.root / part) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(self.root):
                        self._warn(entry.path)
                        continue
                    yield entry
        except OSError as error:
            raise DataError(str(self.root / part), f"cannot be read ({error.strerror})") from error

    def _warn(self, path: str) -> None:
        if path not in self._warned:  # some folders are looked at twice
            self._warned.add(path)
            logger.warning("%s: a link that leaves the folder, not followed", path)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
