"""A folder of class folders to a Catalogue: train/ and val/, or one level."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import Catalogue
from salve_audit.inputs.data.layout import is_image, read_layout
from salve_audit.inputs.data.leftovers import Leftovers, head_reader, is_foreign, is_thumbnails
from salve_audit.inputs.data.sources.source import FolderSource
from salve_audit.results.decisions import Decision


def read_folder(root: Path, follow_links: bool = False) -> Catalogue:
    """Reads the class folders below the resolved folder `root`.

    Raises:
        DataError: see `read_layout`.
    """
    tree = DiskTree(root, follow_links)
    try:
        return read_layout(tree, FolderSource(root))
    except DataError as error:
        n_links, n_broken = len(tree.leftovers.links), len(tree.leftovers.broken)
        if n_links and error.hint is not None:
            why = f"{error.why}; {n_links:,} links that lead out of the data are not followed"
            hint = "--follow-links follows them, as torchvision and timm do"
            raise DataError(error.what, why, hint=hint) from None
        if n_broken and error.hint is not None:
            why = f"{error.why}; {n_broken:,} links lead to files that are not there"
            raise DataError(error.what, why, hint="git annex get or dvc pull may fetch them") from None
        raise


class DiskTree:
    """A folder on disk, as `read_layout` sees it; links that leave it are followed on demand."""

    def __init__(self, root: Path, follow_links: bool = False) -> None:
        self.root, self.follow_links = root, follow_links
        self.leftovers = Leftovers()

    def list_folders(self, part: str) -> list[str]:
        """Sorted names of the visible folders in `part`; none where that is no folder."""
        if not os.path.isdir(self.root / part):
            return []
        return sorted(entry.name for entry in self._scan(part) if entry.is_dir())

    list_any_folders = list_folders

    def list_images(self, part: str) -> list[str]:
        """Sorted names of the images directly in `part`."""
        return sorted(entry.name for entry in self._scan(part) if is_image(entry.name) and entry.is_file())

    def walk(self, part: str) -> Iterator[str]:
        """Paths of the images below `part`, subfolders included; a folder that is linked twice is read once."""
        waiting, visited = [part], set[str]()
        while waiting:
            here = waiting.pop()
            self.leftovers.enter(here)
            for entry in self._scan(here):
                if entry.is_dir():
                    if self._is_new(entry, visited):
                        waiting.append(f"{here}/{entry.name}")
                elif entry.is_file():
                    if not is_image(entry.name):
                        self.leftovers.add_file(here, entry.name)
                        continue
                    if not _is_unicode(entry.name):
                        why = f"the file name {entry.name!r} is not UTF-8"
                        raise DataError(str(self.root / here), why, hint="rename it")
                    self.leftovers.add_image(here, entry.name)
                    yield f"{here}/{entry.name}"
                elif entry.is_symlink():
                    self.leftovers.broken.add(entry.path)

    def has_files(self, part: str, ending: str) -> bool:
        """True for files with that ending directly in `part`."""
        if not os.path.isdir(self.root / part):
            return False
        return any(entry.name.lower().endswith(ending) and entry.is_file() for entry in self._scan(part))

    def describe(self) -> tuple[Decision, ...]:
        """The decisions about what was left out."""
        return self.leftovers.describe(head_reader(self.root))

    def describe_hidden(self) -> str:
        """Which files were left out although they are images by their first bytes."""
        return self.leftovers.describe_hidden(head_reader(self.root))

    def _is_new(self, entry: os.DirEntry[str], visited: set[str]) -> bool:
        """True for a folder to enter: no thumbnails, and no link to one that was entered or that holds it."""
        if is_thumbnails(entry.name):
            self.leftovers.folders.add(entry.path)
            return False
        if not entry.is_symlink():
            return True
        target = os.path.realpath(entry.path)
        here = f"{os.path.realpath(os.path.dirname(entry.path))}{os.sep}"
        if target in visited or here.startswith(f"{target}{os.sep}"):
            return False
        visited.add(target)
        return True

    def _scan(self, part: str) -> Iterator[os.DirEntry[str]]:
        """Visible entries of `part`, without foreign folders, and without links that leave the root."""
        try:
            with os.scandir(self.root / part) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if self._leaves(entry):
                        self.leftovers.links.add(entry.path)
                    elif is_foreign(entry.name) and entry.is_dir():
                        self.leftovers.folders.add(entry.path)
                    else:
                        yield entry
        except OSError as error:
            raise DataError(str(self.root / part), f"cannot be read ({error.strerror})") from error

    def _leaves(self, entry: os.DirEntry[str]) -> bool:
        if self.follow_links or not entry.is_symlink():
            return False
        return not Path(entry.path).resolve().is_relative_to(self.root)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
