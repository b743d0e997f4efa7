"""The directory of a .zip: names and offsets, without unpacking anything."""

from __future__ import annotations

import zipfile
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.sources.members import Member
from salve_audit.inputs.data.sources.tar_index import warn_of_left_out
from salve_audit.inputs.reasons import summarise_error

MAX_MEMBERS = 3_000_000
TAIL = 65_557 + 20  # longest end record with its comment, and the locator of the 64-bit one
ENCRYPTED = 0x1
LOCAL_HEADER_BYTES = 30


def index_zip(path: Path) -> dict[str, Member]:
    """Member name -> where it lies; folders are left out.

    Raises:
        DataError: no zip, damaged, encrypted, too many members, or members that overlap (a zip bomb).
    """
    try:
        _check_count(path)
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except OSError as error:
        raise DataError(str(path), f"cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError, IndexError, EOFError, OverflowError) as error:
        raise DataError(str(path), f"not a zip archive, or damaged ({summarise_error(error)})") from error
    _check_overlap(path, infos)
    members, left_out = {}, []
    for info in infos:
        if info.flag_bits & ENCRYPTED:
            raise DataError(str(path), f"its member {info.filename!r} is encrypted", hint="unpack it first")
        if not _is_plain(info.external_attr >> 16):
            left_out.append(info.filename)
            continue
        members[info.filename] = Member(
            0, info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
        )
    warn_of_left_out(path, {"a link or a device": left_out} if left_out else {})
    return members


def _is_plain(mode: int) -> bool:
    """True for the Unix mode of a plain file; 0 where the archive was made on another system."""
    return mode & 0o170000 in (0, 0o100000)


def _check_count(path: Path) -> None:
    """Refuses too many members: the directory of a hostile zip would fill the memory before the first is read."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(size - TAIL, 0))
        tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return  # zipfile says it better
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    if directory == 0xFFFFFFFF or directory > size:
        directory = size
    if directory // 46 > MAX_MEMBERS:
        raise DataError(str(path), f"a directory of {directory:,} bytes, more than {MAX_MEMBERS:,} members")


def _check_overlap(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    end, last = 0, ""
    for info in sorted(infos, key=lambda entry: entry.header_offset):
        if info.header_offset < end:
            why = f"its members {last!r} and {info.filename!r} overlap, as in a zip bomb"
            raise DataError(str(path), why)
        end = info.header_offset + LOCAL_HEADER_BYTES + info.compress_size
        last = info.filename
