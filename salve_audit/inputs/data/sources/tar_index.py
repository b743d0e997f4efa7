"""The members of a .tar: one walk over its headers, with every length bounded; tarfile's own reader bounds none."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from salve_audit.errors import DataError
from salve_audit.inputs.data.sources.members import Member

MAX_MEMBERS = 20_000_000
MAX_EXTENDED = 1024**2  # bytes of a long name or of a pax header
BLOCK = tarfile.BLOCKSIZE
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
IN_WORDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}

logger = logging.getLogger(__name__)


class TarEntry(NamedTuple):
    """A plain file in a tar: name, where its data begins, size."""

    name: str
    offset: int
    size: int


def index_tar(path: Path, file: int = 0) -> dict[str, Member]:
    """Member name -> where it lies; of members with one name the last counts, as for tar itself.

    Raises:
        DataError: no tar, or damaged.
    """
    try:
        with path.open("rb") as stream:
            n_bytes = stream.seek(0, 2)
            stream.seek(0)
            members = {
                entry.name: Member(file, entry.offset, entry.size, entry.size) for entry in walk_tar(path, stream)
            }
    except OSError as error:
        raise DataError(str(path), f"cannot be read ({error.strerror or error})") from error
    for name, member in members.items():
        if member.offset + member.size > n_bytes:
            raise DataError(str(path), f"damaged: the archive ends inside {name!r}", hint="copy it again")
    return members


def walk_tar(path: Path, stream: BinaryIO) -> Iterator[TarEntry]:
    """Plain files in order; links, devices and other kinds are left out, and counted in one warning for each kind.

    The stream may be a pipe that can only seek forward. After an entry is yielded the stream stands at its data.

    Raises:
        DataError: no tar, or damaged.
    """
    position, extended, left_out = 0, _Extended(), dict[str, list[str]]()
    for count in range(MAX_MEMBERS + 1):
        stream.seek(position)
        header = stream.read(BLOCK)
        if len(header) < BLOCK or header == b"\0" * BLOCK:
            if count == 0:
                raise DataError(str(path), "an empty or damaged tar archive")
            warn_of_left_out(path, left_out)
            return
        info = _parse(path, header, position)
        position += BLOCK
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE):
            extended = extended.read(path, info, stream)
            position += _padded(info.size)
            continue
        size = info.size if extended.size is None else extended.size
        name = extended.name or info.name
        if info.type in PLAIN and not extended.sparse and not name.endswith("/"):
            yield TarEntry(name, position, size)
        elif info.type != tarfile.DIRTYPE:
            left_out.setdefault(IN_WORDS.get(info.type, "no plain file"), []).append(name)
        if info.type not in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE):
            position += _padded(size)
        extended = _Extended()
    raise DataError(str(path), f"more than {MAX_MEMBERS:,} members")


def warn_of_left_out(path: Path, left_out: Mapping[str, Sequence[str]]) -> None:
    """One warning for each kind of member that is no plain file: its name, and the number of others."""
    for words, names in left_out.items():
        others = f", as are {len(names) - 1:,} others" if len(names) > 1 else ""
        logger.warning("%s: %r is %s, left out%s", path, names[0], words, others)


class _Extended(NamedTuple):
    """Extended headers about the member that follows them."""

    name: str = ""
    size: int | None = None
    sparse: bool = False

    def read(self, path: Path, info: tarfile.TarInfo, stream: BinaryIO) -> _Extended:
        """These headers updated by the header `info`, whose data is next in `stream`."""
        if info.size > MAX_EXTENDED:
            raise DataError(str(path), f"damaged: a header of {info.size:,} bytes")
        data = stream.read(info.size)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            return self._replace(name=data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape"))
        if info.type != tarfile.XHDTYPE:
            return self
        records = dict(_pax_records(path, data))
        size = records.get("size", "")
        return self._replace(
            name=records.get("path", self.name),
            size=int(size) if size.isascii() and size.isdigit() and len(size) < 19 else self.size,
            sparse=self.sparse or any(key.startswith("GNU.sparse") for key in records),
        )


def _pax_records(path: Path, data: bytes) -> Iterator[tuple[str, str]]:
    """``LENGTH KEY=VALUE\\n`` records."""
    while data.strip(b"\0"):
        length, _, _ = data.partition(b" ")
        n = int(length) if length.isdigit() and len(length) < 8 else 0
        key, equals, value = data[len(length) + 1 : n - 1].partition(b"=")
        if not (len(length) + 2 < n <= len(data)) or not equals:
            raise DataError(str(path), "damaged: a pax header that cannot be read")
        yield key.decode("utf-8", "replace"), value.decode("utf-8", "surrogateescape")
        data = data[n:]


def _parse(path: Path, header: bytes, position: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, IndexError) as error:
        why = "not a tar archive" if position == 0 else f"damaged at byte {position:,}"
        raise DataError(str(path), why, hint="copy it again" if position else None) from error
    if info.size < 0:
        raise DataError(str(path), f"damaged at byte {position:,}: a negative size")
    return info


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
