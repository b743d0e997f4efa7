"""Members of a .zip or .tar, read in place by stored offsets: nothing is ever unpacked to disk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from salve_audit.inputs.data.sources.source import MAX_BYTES, describe_too_large

STORED, DEFLATED = 0, 8
MAX_RATIO = 100  # no image shrinks so far, except a plain one that is small anyway:
SMALL_BYTES = 16 * 1024**2
SPARE = 1024  # bytes of a deflated member's tables before its content
LOCAL_HEADER = struct.Struct("<4s22xHH")


class Member(NamedTuple):
    """Position of a member's bytes in its archive.

    Attributes:
        file: number of the archive in the source's list.
        offset: of the data, or of the local header in a zip.
        packed, size: bytes in the archive and unpacked; equal where nothing is compressed.
        method: 0 stored, 8 deflated, -1 plain (a tar).
        crc: of the unpacked bytes, for zips.
    """

    file: int
    offset: int
    packed: int
    size: int
    method: int = -1
    crc: int = 0


@dataclass(frozen=True)
class ArchiveSource:
    """Images inside archives; keys are member names, below the shard's name where there are several archives."""

    archives: tuple[Path, ...]
    members: Mapping[str, Member] = field(repr=False)
    resident_bytes: int = 0

    def read(self, key: str) -> bytes:
        """The member's bytes, unpacked in memory and never beyond the declared size.

        Raises:
            OSError: the archive cannot be read.
            ValueError: too large, compressed suspiciously well, truncated, or not what it says.
        """
        member = self.members[key]
        check_member(member)
        packed = self._read_packed(member, member.packed)
        if len(packed) < member.packed:
            raise ValueError("damaged (the archive ends before the member does)")
        return packed if member.method < 0 else unpack(packed, member)

    def read_head(self, key: str, n_bytes: int) -> bytes:
        """The first bytes of a member, fewer where it is shorter; raises as `read`."""
        member = self.members[key]
        packed = self._read_packed(member, min(member.packed, n_bytes + SPARE))
        if member.method != DEFLATED:
            return packed[:n_bytes]
        try:
            return zlib.decompressobj(-15).decompress(packed, n_bytes)
        except zlib.error as error:
            raise ValueError(f"damaged ({error})") from error

    def _read_packed(self, member: Member, n_bytes: int) -> bytes:
        with self.archives[member.file].open("rb") as stream:
            stream.seek(member.offset)
            if member.method >= 0:
                header = stream.read(30)
                if len(header) < 30 or header[:4] != b"PK\x03\x04":
                    raise ValueError("damaged (the archive has no such member where it says)")
                _, name, extra = LOCAL_HEADER.unpack(header)
                stream.seek(name + extra, 1)
            return stream.read(n_bytes)


@dataclass(frozen=True)
class HeldSource:
    """Images held in memory: those of a compressed tar, which has no random access."""

    contents: Mapping[str, bytes] = field(repr=False)
    resident_bytes: int

    def read(self, key: str) -> bytes:
        """Bytes of the image `key`, from memory."""
        return self.contents[key]

    def read_head(self, key: str, n_bytes: int) -> bytes:
        """The first bytes of `key`."""
        return self.contents[key][:n_bytes]


def check_member(member: Member) -> None:
    """Refuses what is too large for an image or compressed too well to be one.

    Raises:
        ValueError: with the sizes.
    """
    if member.size > MAX_BYTES or member.packed > MAX_BYTES:
        raise ValueError(describe_too_large(max(member.size, member.packed)))
    if member.size > SMALL_BYTES and member.size > MAX_RATIO * member.packed:
        sizes = f"{member.packed:,} bytes become {member.size:,}"
        raise ValueError(f"refused as a compression bomb ({sizes})")


def unpack(packed: bytes, member: Member) -> bytes:
    """The member's content, checked against declared size and checksum.

    Raises:
        ValueError: another method than deflate, damaged, or larger than declared.
    """
    if member.method == STORED:
        content = packed
    elif member.method == DEFLATED:
        try:
            content = zlib.decompressobj(-15).decompress(packed, member.size + 1)
        except zlib.error as error:
            raise ValueError(f"damaged ({error})") from error
    else:
        raise ValueError(f"compressed by method {member.method}; only stored and deflate are read")
    if len(content) != member.size or zlib.crc32(content) != member.crc:
        raise ValueError("damaged (size or checksum differ from what the archive says)")
    return content
