"""The folder of a manifest, which its paths are relative to: on a disk, or under a URL."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Protocol, cast

from salve_audit.inputs.data.archive import NameTree
from salve_audit.inputs.data.folder import DiskTree
from salve_audit.inputs.data.layout import Tree
from salve_audit.inputs.data.sources.remote import RemoteSource
from salve_audit.inputs.data.sources.source import FolderSource, ImageSource
from salve_audit.inputs.remote import RemoteFolder, UrlPath


class ManifestFolder(Protocol):
    """What a manifest asks of its folder; names are relative and were checked to be so."""

    @property
    def root(self) -> Path:
        """For messages."""

    @property
    def source(self) -> ImageSource:
        """Reads the files."""

    @property
    def tree(self) -> Tree:
        """All that lies in the folder."""

    def has_file(self, name: str) -> bool:
        """True if there is such a file."""

    def holds(self, name: str) -> bool:
        """False where the name is a link that leads out of the folder, or lies behind one."""


class DiskFolder:
    """A folder on a disk; one inside it is resolved once, not once for each of its files."""

    def __init__(self, root: Path, follow_links: bool) -> None:
        self.root, self.follow_links = root, follow_links
        self.source, self.tree = FolderSource(root), DiskTree(root, follow_links)
        self._inside: dict[str, bool] = {}

    def has_file(self, name: str) -> bool:
        """True if there is such a file, or a link to one."""
        return os.path.isfile(self.root / name)

    def holds(self, name: str) -> bool:
        """False where the name leads out through a link that is not to be followed."""
        if self.follow_links:
            return True
        parent = os.path.dirname(name)
        if parent not in self._inside:
            self._inside[parent] = self._is_inside(self.root / parent)
        whole = f"{self.root}/{name}"
        return self._inside[parent] and (not os.path.islink(whole) or self._is_inside(Path(whole)))

    def _is_inside(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError):  # a circle of links
            return False


class UrlFolder:
    """A folder under a URL; it is listed only where the manifest's names are not those of files."""

    def __init__(self, folder: RemoteFolder) -> None:
        self.folder, self.source = folder, RemoteSource(folder)
        self.root = cast(Path, UrlPath(folder.url))

    @functools.cached_property
    def tree(self) -> Tree:
        """All that lies in the folder."""
        return NameTree(self.root, [*self._names])

    @functools.cached_property
    def _names(self) -> dict[str, None]:
        return dict.fromkeys(self.folder.list_names())

    def has_file(self, name: str) -> bool:
        """True if there is such a file; asked one by one until the folder is listed."""
        return name in self._names if "_names" in vars(self) else self.folder.has(name)

    def holds(self, name: str) -> bool:
        """True: there are no links."""
        return True
