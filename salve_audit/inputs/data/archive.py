"""A .zip, .tar or .tar.gz of class folders, or WebDataset shards, to a Catalogue."""

from __future__ import annotations

import gzip
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import Catalogue, find_role
from salve_audit.inputs.data.columns import LABEL_COLUMNS, find_column
from salve_audit.inputs.data.layout import is_image, read_layout
from salve_audit.inputs.data.leftovers import HEAD, Leftovers, is_foreign, is_thumbnails
from salve_audit.inputs.data.rows import Row, RowSet, group_rows
from salve_audit.inputs.data.sources.members import ArchiveSource, HeldSource, Member
from salve_audit.inputs.data.sources.source import ImageSource, reader_of_heads
from salve_audit.inputs.data.sources.tar_index import index_tar, walk_tar
from salve_audit.inputs.data.sources.zip_index import index_zip
from salve_audit.inputs.names import check_relative, show_name
from salve_audit.inputs.reasons import summarise_error
from salve_audit.results.decisions import Decision

MAX_HELD = 256 * 1024**2  # of a compressed tar, which cannot be read in place
MAX_LABEL_BYTES = 64 * 1024
WDS_HINT = "a WebDataset has KEY.jpg with KEY.cls, or with KEY.json that has 'label'"

logger = logging.getLogger(__name__)


def read_archives(paths: Sequence[Path], root: Path) -> Catalogue:
    """The images in one archive, or in several shards.

    Args:
        paths: .zip, .tar or .tar.gz files.
        root: for messages; keys of several shards begin with their paths below it.

    Raises:
        DataError: damaged, hostile, or without labels.
    """
    source = _open_source(paths, root)
    names = list(source.members) if isinstance(source, ArchiveSource) else list(source.contents)
    tree = NameTree(root, names, reader_of_heads(source))
    splits = {path: _split_of_shard(path, root) if len(paths) > 1 else "" for path in paths}
    prefixes = {f"{_prefix(path, root, paths)}": splits[path] for path in paths}
    rows = _read_companions(source, tree, prefixes)
    if rows:
        return group_rows(RowSet(root=root, source=source, kind="WebDataset", rows=rows))
    if len(paths) > 1:
        raise DataError(str(root), "no labels in these shards", hint=WDS_HINT)
    return read_layout(tree, source)


def _open_source(paths: Sequence[Path], root: Path) -> ArchiveSource | HeldSource:
    members: dict[str, Member] = {}
    for number, path in enumerate(paths):
        with path.open("rb") as stream:
            magic = stream.read(2)
        if magic == b"\x1f\x8b":
            if len(paths) > 1:
                raise DataError(str(path), "a compressed shard cannot be read in place", hint=f"gunzip {path.name}")
            return _hold_tar_gz(path)
        in_shard = index_zip(path) if magic == b"PK" else index_tar(path)
        prefix = _prefix(path, root, paths)
        for name, member in in_shard.items():
            members[prefix + _checked(path, name)] = member._replace(file=number)
    return ArchiveSource(tuple(paths), members)


def _prefix(path: Path, root: Path, paths: Sequence[Path]) -> str:
    return f"{path.relative_to(root).as_posix()}/" if len(paths) > 1 else ""


def _checked(path: Path, name: str) -> str:
    try:
        return check_relative(name)
    except ValueError as error:
        raise DataError(str(path), f"its member {show_name(name)} {error}; refused") from error


def _hold_tar_gz(path: Path) -> HeldSource:
    contents, held = {}, 0
    try:
        with gzip.open(path, "rb") as stream:
            for entry in walk_tar(path, stream):  # type: ignore[arg-type]  # seeks forward only
                held += entry.size
                if held > MAX_HELD or entry.offset > 4 * MAX_HELD:
                    why = f"a compressed tar of more than {MAX_HELD // 1024**2} MiB has no random access"
                    raise DataError(str(path), why, hint="gunzip it: a plain .tar is read in place at any size")
                content = stream.read(entry.size)
                if len(content) < entry.size:
                    raise DataError(str(path), f"damaged: it ends inside {show_name(entry.name)}", hint="copy it again")
                contents[_checked(path, entry.name)] = content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(str(path), f"a damaged .tar.gz ({summarise_error(error)})", hint="copy it again") from error
    return HeldSource(contents, held)


def _split_of_shard(path: Path, root: Path) -> str:
    """The split in a shard's path (``train-000001.tar``, ``train/01.tar``: ``train``), empty where it has none."""
    words = path.relative_to(root).as_posix().lower()
    for mark in "/_.":
        words = words.replace(mark, "-")
    return next((word for word in words.split("-") if find_role(word)), "")


def _read_companions(source: ImageSource, tree: NameTree, prefixes: Mapping[str, str]) -> list[Row]:
    """A row for each image of a WebDataset; none where these are class folders."""
    labels = {os.path.splitext(name)[0]: name for name in tree.others if name.endswith(".json")}
    labels |= {os.path.splitext(name)[0]: name for name in tree.others if name.endswith(".cls")}
    if not labels:
        return []
    rows: list[Row] = []
    taken: set[str] = set()
    left_out = ""
    for image in sorted(tree.files, key=_by_key):
        folder, _, name = image.rpartition("/")
        stem = f"{folder}/{name.partition('.')[0]}" if folder else name.partition(".")[0]
        if stem not in labels:
            continue
        if stem in taken:
            left_out = left_out or image
            continue
        label = _read_label(source, tree.root, labels[stem])
        if label is None and not rows:
            return []  # annotations of something else beside class folders
        taken.add(stem)
        prefix = next((candidate for candidate in prefixes if candidate and image.startswith(candidate)), "")
        rows.append(Row(image, label, prefixes.get(prefix, "")))
    if left_out:
        logger.warning("%s: keys have several images, the plainest name counts; %r is left out", tree.root, left_out)
    return rows


def _by_key(image: str) -> tuple[str, str, int, str]:
    """Sorts by the WebDataset key; of one key ``KEY.jpg`` before ``KEY.depth.png``."""
    folder, _, name = image.rpartition("/")
    stem, _, ending = name.partition(".")
    return folder, stem, ending.count("."), ending


def _read_label(source: ImageSource, root: Path, key: str) -> int | str | None:
    try:
        content = source.read(key)
        assert isinstance(content, bytes), "archives hold bytes"
        if len(content) > MAX_LABEL_BYTES:
            raise ValueError(f"{len(content):,} bytes for a label")
        text = content.decode("utf-8").strip()
        return _label_of_json(json.loads(text)) if key.endswith(".json") else text
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(str(root), f"the label {show_name(key)} cannot be read ({summarise_error(error)})") from error


def _label_of_json(content: object) -> int | str | None:
    if isinstance(content, dict):
        key = find_column(content, LABEL_COLUMNS)
        content = None if key is None else content[key]
    if isinstance(content, bool) or not isinstance(content, (int, str)):
        return None
    return content


class NameTree:
    """Member names as folders and images, as `read_layout` sees them; hidden ones are left out."""

    def __init__(self, root: Path, names: Sequence[str], read_head: Callable[[str, int], bytes] | None = None) -> None:
        self.root, self.read_head = root, read_head
        self.files: list[str] = []
        self.others: list[str] = []
        self._folders: dict[str, set[str]] = {"": set()}
        self._any_folders: dict[str, set[str]] = {"": set()}
        self._images: dict[str, list[str]] = {}
        self.leftovers = Leftovers()
        for name in names:
            parts = name.split("/")
            if any(part.startswith(".") for part in parts):
                continue
            if self._is_left_out(parts):
                continue
            for depth in range(len(parts) - 1):
                self._any_folders.setdefault("/".join(parts[:depth]), set()).add(parts[depth])
            if not is_image(name):
                self.others.append(name)
                self.leftovers.add_file("/".join(parts[:-1]), parts[-1])
                continue
            self.leftovers.add_image("/".join(parts[:-1]), parts[-1])
            self.files.append(name)
            self._add(parts)

    def _is_left_out(self, parts: list[str]) -> bool:
        """True for what lies in a folder that no photographer made; thumbnails lie inside of class folders."""
        for depth, part in enumerate(parts[:-1]):
            if is_foreign(part) or (depth > 0 and is_thumbnails(part)):
                if part != "__MACOSX":  # in nearly every archive that a Mac has made
                    self.leftovers.folders.add("/".join(parts[: depth + 1]))
                return True
        return False

    def has_files(self, part: str, ending: str) -> bool:
        """True for files with that ending directly in `part`."""
        return any(name.lower().endswith(ending) and name.rpartition("/")[0] == part for name in self.others)

    def describe(self) -> tuple[Decision, ...]:
        """The decisions about what was left out."""
        return self.leftovers.describe(self._read_head)

    def describe_hidden(self) -> str:
        """Which files were left out although they are images by their first bytes."""
        return self.leftovers.describe_hidden(self._read_head)

    def _read_head(self, name: str) -> bytes:
        return b"" if self.read_head is None else self.read_head(name, HEAD)

    def _add(self, parts: list[str]) -> None:
        folder = "/".join(parts[:-1])
        if folder not in self._images:
            self._images[folder] = []
            for depth in range(len(parts) - 1):
                above = "/".join(parts[:depth])
                self._folders.setdefault(above, set()).add(parts[depth])
        self._images[folder].append(parts[-1])

    def list_folders(self, part: str) -> list[str]:
        """Sorted names of the visible folders in `part`; none where that is no folder."""
        return sorted(self._folders.get(part, ()))

    def list_any_folders(self, part: str) -> list[str]:
        """As `list_folders`, with folders that have no images."""
        return sorted(self._any_folders.get(part, ()))

    def list_images(self, part: str) -> list[str]:
        """Sorted names of the images directly in `part`."""
        return sorted(self._images.get(part, ()))

    def walk(self, part: str) -> Iterator[str]:
        """Paths of the images below `part`, subfolders included."""
        waiting = [part]
        while waiting:
            here = waiting.pop()
            yield from (f"{here}/{name}" if here else name for name in self._images.get(here, ()))
            waiting.extend(f"{here}/{name}" if here else name for name in self._folders.get(here, ()))
