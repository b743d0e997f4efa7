"""Archives that attack: exit 2 with one line, nothing outside is read or written."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from small_data import make_tar, make_zip, png, refused

pytestmark = pytest.mark.usefixtures("memory_is_bounded")


def info_of(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../outside.png", "leads out of its folder"),
        ("train/../../x.png", "leads out of its folder"),
        ("/etc/x.png", "is an absolute path"),
        ("C:\\x.png", "is an absolute path"),
        ("..\\x.png", "leads out of its folder"),
        ("a/" * 200 + "x.png", "deeper than"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_lead_out(
    name: str, why: str, kind: str, salve: Callable, colour_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"evil.{kind}"
    make_zip(path, {name: png()}) if kind == "zip" else make_tar(path, (info_of(name), png()))
    refused(salve("inspect", colour_model, path), "evil." + kind, why)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (info_of("train/a/link.png", tarfile.SYMTYPE, "/etc/passwd"), "a symbolic link"),
        (info_of("train/a/link.png", tarfile.LNKTYPE, "train/b/0.png"), "a hard link"),
        (info_of("train/a/null.png", tarfile.CHRTYPE), "a device"),
        (info_of("train/a/pipe.png", tarfile.FIFOTYPE), "a pipe"),
    ],
)
def test_links_and_devices_in_a_tar_are_left_out(
    info, words: str, salve: Callable, colour_model: Path, tmp_path: Path
) -> None:
    done = salve("inspect", colour_model, make_tar(tmp_path / "links.tar", (info, b"")))
    assert done.code == 0, done.err
    assert f"'{info.name}' is {words}, left out" in done.err
    assert "9 to fit, 9 to audit" in done.out


def test_a_link_in_a_zip_is_left_out(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    path = make_zip(tmp_path / "links.zip")
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("train/a/link.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    done = salve("inspect", colour_model, path)
    assert done.code == 0, done.err
    assert "'train/a/link.png' is a link or a device, left out" in done.err
    assert "9 to fit, 9 to audit" in done.out


def test_overlapping_members_are_a_bomb(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    """Many names for one compressed block (Fifield's zip bomb)."""
    path = tmp_path / "overlap.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/a/0.png", bytes(10_000_000))
        twin = zipfile.ZipInfo("train/a/1.png")
        for name in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
            setattr(twin, name, getattr(archive.filelist[0], name))
        archive.filelist.append(twin)
        archive.NameToInfo[twin.filename] = twin
    refused(salve("inspect", colour_model, path), "overlap.zip", "overlap, as in a zip bomb")


def test_members_that_expand_too_far_are_not_unpacked(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    path = make_zip(tmp_path / "bomb.zip", {"train/a/bomb.png": bytes(200 * 1024**2)})
    out = tmp_path / "out"
    refused(salve(colour_model, path, "--out", out, "--no-cache"), "bomb.zip", "train/a/bomb.png", "compression bomb")
    assert not out.exists()


def test_a_member_that_lies_about_its_size(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    """Declared as 100 bytes, 50 MB when unpacked: unpacking stops at 101."""
    path = make_zip(tmp_path / "lie.zip", {"train/a/lie.png": bytes(50_000_000)})
    content = bytearray(path.read_bytes())
    at = content.rindex(b"train/a/lie.png") - 46
    assert content[at : at + 4] == b"PK\x01\x02"
    content[at + 24 : at + 28] = struct.pack("<I", 100)
    path.write_bytes(content)
    done = salve(colour_model, path, "--out", tmp_path / "out", "--no-cache")
    refused(done, "train/a/lie.png", "size or checksum differ")


def test_a_tar_gz_bomb(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    big = info_of("train/a/big.png")
    big.size = 1024**3
    with gzip.open(tmp_path / "bomb.tar.gz", "wb", 1) as stream:
        stream.write(big.tobuf())
        for _ in range(40):
            stream.write(bytes(1024**2))
    refused(salve("inspect", colour_model, tmp_path / "bomb.tar.gz"), "bomb.tar.gz", "gunzip it")


def test_a_tar_whose_name_is_said_to_take_gigabytes(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    header = info_of("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    header.size = 8 * 1024**3 - 1
    with (tmp_path / "long.tar").open("wb") as stream:
        stream.write(header.tobuf(tarfile.GNU_FORMAT))
        stream.truncate(8 * 1024**3)  # sparse: takes no disk
    refused(salve("inspect", colour_model, tmp_path / "long.tar"), "long.tar", "a header of 8,589,934,591 bytes")
