"""The index of architectures: one entry each, compressed, keyed by timm's version.

The shipped file is made by ``scripts/build_architecture_index.py``. For another version of timm,
``python -m salve_audit.inputs.model.inference.build`` writes one into the user's cache, which is looked at first;
without it the shipped one is used, and what it names is checked by building it (see `match`).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import lzma
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm

from salve_audit.inputs.cache_dir import user_cache_dir

FILE = Path(__file__).with_name("architectures.json.xz")
FORMAT = 2
LARGEST = 64 << 20  # bytes unpacked; the real one has 2 MB
Dims = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class SizeRule:
    """Growth of one side with the image: `values` of dim `dim` of `tensor` at the three `sizes`.

    A grid of patches, a bias per pair of positions and a row of positions are all quadratic in the size, so three
    points fix the curve.
    """

    tensor: str
    dim: int
    sizes: tuple[int, ...]
    values: tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """One architecture, with the arguments that rename its tensors.

    Attributes:
        name: timm's name, or ``torchvision:NAME``.
        kwargs: arguments beside classes, channels and size.
        names_hash: of the tensors' names.
        fixed_hash: of names and shapes, the sides that follow classes, channels or size left out.
        default_hash: of names and shapes, with the sides of the default size.
        sketch: for the likeness to other weights.
        classes, chans, sizes: the dims left out, by tensor.
        chan_unit: side of the first of `chans` for each channel of the image.
        rule: how the size is read off, or None where nothing shows it.
        default_size: side of the images that the architecture is for.
        order_hash: of the shapes in their order, see `hash_order`.
    """

    name: str
    kwargs: Mapping[str, Any]
    names_hash: str
    fixed_hash: str
    default_hash: str
    sketch: tuple[str, ...]
    classes: Dims
    chans: Dims
    sizes: Dims
    chan_unit: int
    rule: SizeRule | None
    default_size: int | None
    order_hash: str


@dataclass(frozen=True)
class Index:
    """All entries.

    Attributes:
        version: of timm, that they were measured with.
        entries: in timm's order, torchvision's last.
    """

    version: str
    entries: tuple[Entry, ...]

    @functools.cached_property
    def by_names(self) -> Mapping[str, tuple[Entry, ...]]:
        """Entries by the hash of their tensors' names."""
        entries: dict[str, list[Entry]] = {}
        for entry in self.entries:
            entries.setdefault(entry.names_hash, []).append(entry)
        return {key: tuple(value) for key, value in entries.items()}

    @functools.cached_property
    def by_order(self) -> Mapping[str, tuple[Entry, ...]]:
        """Entries by the hash of their shapes in order."""
        entries: dict[str, list[Entry]] = {}
        for entry in self.entries:
            entries.setdefault(entry.order_hash, []).append(entry)
        return {key: tuple(value) for key, value in entries.items()}

    @property
    def is_current(self) -> bool:
        """True for an index that was measured with the installed timm."""
        return self.version == timm.__version__


def load_index() -> Index:
    """The index of the installed timm from the user's cache, else the shipped one."""
    own = cached_path()
    if os.path.isfile(own):  # unlike Path.is_file, no exception where access is denied
        try:
            return decode_index(own.read_bytes())
        except (ValueError, KeyError, TypeError, OSError, lzma.LZMAError):
            pass  # half written or of another version of this tool: the shipped one serves
    return decode_index(FILE.read_bytes())


def cached_path() -> Path:
    """Path of an index of the installed timm in the user's cache."""
    return user_cache_dir() / f"architectures-{FORMAT}-timm-{timm.__version__}.json.xz"


def encode_index(index: Index) -> bytes:
    """The index as compressed JSON; the maps of dims, which families share, are stored once."""
    tables: dict[str, int] = {}

    def place(value: Any) -> int:
        return tables.setdefault(json.dumps(value), len(tables))

    rows = []
    for entry in index.entries:
        row = dataclasses.asdict(entry)
        for key in ("kwargs", "classes", "chans", "sizes", "rule"):
            row[key] = place(row[key])
        rows.append(list(row.values()))
    content = {
        "format": FORMAT,
        "timm": index.version,
        "tables": [json.loads(table) for table in tables],
        "entries": rows,
    }
    return lzma.compress(json.dumps(content, separators=(",", ":")).encode(), preset=9 | lzma.PRESET_EXTREME)


def decode_index(packed: bytes) -> Index:
    """The inverse of `encode_index`.

    Raises:
        ValueError: it is of another format, or too large.
    """
    unpacker = lzma.LZMADecompressor()
    content = json.loads(unpacker.decompress(packed, LARGEST))
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, expected {FORMAT}")
    tables = content["tables"]
    dims = [
        {name: tuple(sides) if isinstance(sides, list) else sides for name, sides in table.items()} if table else {}
        for table in tables
    ]
    entries = []
    for row in content["entries"]:
        (
            name,
            kwargs,
            names_hash,
            fixed_hash,
            default_hash,
            sketch,
            classes,
            chans,
            sizes,
            unit,
            rule,
            default_size,
            order,
        ) = row
        entries.append(
            Entry(
                name,
                dims[kwargs],
                names_hash,
                fixed_hash,
                default_hash,
                tuple(sketch),
                dims[classes],
                dims[chans],
                dims[sizes],
                unit,
                SizeRule(**dims[rule]) if tables[rule] else None,
                default_size,
                order,
            )
        )
    return Index(content["timm"], tuple(entries))
