"""What lies among images and is none of them: other files, thumbnails, links that lead elsewhere; counted and said."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from salve_audit.inputs.data.sources.source import open_at_once
from salve_audit.results.decisions import Decision

ReadHead: TypeAlias = Callable[[str], bytes]

# folders of file servers and file managers, whatever holds them
FOREIGN = frozenset(
    {
        "@eadir", "__macosx", "#recycle", "@recycle", "@recently-snapshot", "@tmp", "$recycle.bin", "lost+found",
        "system volume information", "__pycache__",
    }
)  # fmt: skip
# inside a class folder; a class itself may be called so
THUMBNAILS = frozenset({"thumbs", "thumb", "thumbnails", "thumbnail", "_thumbs", "_thumbnails", "thumbs_", "previews"})
THUMBNAIL_FILE = re.compile(r"(?:[_\-.]thumb(?:nail)?s?|^thumb_.*)$", re.IGNORECASE)
SHOWN = 5
SNIFFED = 16  # files whose first bytes are looked at
HEAD = 16  # bytes
MAGIC = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF",
    b"RIFF": "WebP", b"P5\n": "PGM", b"P6\n": "PPM", b"\0\0\0\x0cjP": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL": "JPEG XL", b"\xff\x0a": "JPEG XL",
}  # fmt: skip
ISO_IMAGES = {
    b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC",
    b"heim": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF",
}  # fmt: skip


def is_foreign(name: str) -> bool:
    """True for a folder that a file server or file manager made."""
    return name.lower() in FOREIGN


def is_thumbnails(name: str) -> bool:
    """True for a folder of thumbnails, where it lies inside a class folder."""
    return name.lower() in THUMBNAILS


def name_image(head: bytes) -> str:
    """The format of an image file by its first bytes, of formats that are not read too; empty: it is none."""
    if head[4:8] == b"ftyp":
        return ISO_IMAGES.get(head[8:12], "")
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


@dataclass
class Leftovers:
    """Things that were left out, by the folder in which they lie: a folder may be looked at twice.

    Attributes:
        others: folder -> number of files by ending.
        examples: paths of some such files, for a look at their first bytes.
        folders: paths of folders that were not entered.
        links: paths of links that lead out of the data.
        broken: paths of links to files that are not there.
        thumbnails: folder -> number of images with names of thumbnails, which are read.
    """

    others: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    thumbnails: dict[str, int] = field(default_factory=dict)

    def enter(self, folder: str) -> None:
        """Begins to count the files of `folder` anew."""
        self.others[folder] = Counter()
        self.thumbnails[folder] = 0

    def add_file(self, folder: str, name: str) -> None:
        """Counts a file that is no image by its name."""
        ending = os.path.splitext(name)[1].lower()
        self.others.setdefault(folder, Counter())[ending] += 1
        examples = self.examples.setdefault(ending, [])
        if len(examples) < SNIFFED:
            examples.append(f"{folder}/{name}" if folder else name)

    def add_image(self, folder: str, name: str) -> None:
        """Counts an image that is called as a thumbnail."""
        if THUMBNAIL_FILE.search(os.path.splitext(name)[0]):
            self.thumbnails[folder] = self.thumbnails.get(folder, 0) + 1

    def describe(self, read_head: ReadHead) -> tuple[Decision, ...]:
        """A decision for each kind of thing that there is; `read_head` gives a file's first bytes."""
        return (*self._describe_files(read_head), *self._describe_folders(), *self._describe_links())

    def _describe_files(self, read_head: ReadHead) -> Iterator[Decision]:
        total: Counter[str] = Counter()
        for counts in self.others.values():
            total.update(counts)
        if total:
            conflict = self.describe_hidden(read_head)
            counts_shown = ", ".join(f"{n:,} {_name_ending(ending)}" for ending, n in total.most_common(SHOWN))
            yield Decision("other files", f"{total.total():,} left out", f"by their endings: {counts_shown}", conflict)
        n_thumbnails = sum(self.thumbnails.values())
        if n_thumbnails:
            why = "by their names, for instance ..._thumb.jpg"
            yield Decision("thumbnails", f"{n_thumbnails:,} images taken", why, "they may show the others once more")

    def describe_hidden(self, read_head: ReadHead) -> str:
        """Which endings of the files that were left out are of images by their first bytes; empty: none."""
        kinds = {
            ending: sorted({name for path in paths if (name := name_image(read_head(path)))})
            for ending, paths in self.examples.items()
        }
        named = ", ".join(f"{_name_ending(ending)} ({', '.join(names)})" for ending, names in kinds.items() if names)
        return f"files with {named} are images by their first bytes" if named else ""

    def _describe_folders(self) -> Iterator[Decision]:
        if self.folders:
            names = sorted({os.path.basename(folder) for folder in self.folders})
            why = "made by a file server or a file manager, or thumbnails"
            conflict = "a loader that enters them (torchvision's, timm's) counts their images"
            shown = f"{', '.join(names[:SHOWN])} left out ({len(self.folders):,} of them)"
            yield Decision("foreign folders", shown, why, conflict)

    def _describe_links(self) -> Iterator[Decision]:
        if self.links:
            conflict = "torchvision and timm follow them"
            taken = f"{len(self.links):,} that lead out of the data not followed"
            yield Decision("links", taken, "--follow-links follows them", conflict)
        if self.broken:
            why = "the files that they name are not there: git annex get or dvc pull may fetch them"
            yield Decision("broken links", f"{len(self.broken):,} left out", why, "their images are missing here")


def head_reader(root: Path) -> ReadHead:
    """Reads the first bytes of a file below `root`; empty where it cannot be read."""

    def read(path: str) -> bytes:
        try:
            with open(root / path, "rb", buffering=0, opener=open_at_once) as stream:
                return stream.read(HEAD)
        except OSError:
            return b""

    return read


def _name_ending(ending: str) -> str:
    return ending or "no ending"
