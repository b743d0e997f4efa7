"""Data without labels, cut or changed files, and images that are no images."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from quick_audits import PAPER
from small_data import IMAGES, LABELS, ROWS, as_jsonl, make_tar, make_zip, members, png, refused, table

pytestmark = pytest.mark.usefixtures("memory_is_bounded")


def write_images(root: Path) -> Path:
    root.mkdir()
    for name, content in members().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


NO_LABELS = [
    (lambda d: [(d / f"{i}.png").write_bytes(png(i)) for i in range(5)], "", ["images without labels"]),
    (
        lambda d: [(d / "a.png").write_bytes(png()), (d / "list.csv").write_text("path,label\na.png,a")],
        "",
        ["list.csv"],
    ),
    (lambda d: (d / "a.png").write_bytes(png()), "a.png", ["one image, without labels"]),
    (lambda d: (d / "notes.txt").write_text("hello"), "notes.txt", ["not a known format"]),
    (lambda d: (d / "empty").write_bytes(b""), "empty", ["the file is empty"]),
    (lambda d: (d / "x.7z").write_bytes(b"7z\xbc\xaf" + bytes(600)), "x.7z", ["is a 7z archive"]),
    (lambda d: os.mkfifo(d / "pipe"), "pipe", ["is neither a file nor a folder"]),
    (lambda d: os.symlink(d / "loop", d / "loop"), "loop", ["loop"]),
    (lambda d: None, "shards-{0..3}.tar", ["no such file"]),
    (lambda d: None, "shards-{0..99999999}.tar", ["more than 100,000 shards"]),
    (lambda d: None, "*.tar", ["no file fits"]),
]


@pytest.mark.skipif(os.name == "nt", reason="needs pipes and links")
@pytest.mark.parametrize(("make", "name", "words"), NO_LABELS)
def test_data_without_labels(
    make: Callable, name: str, words: list[str], salve: Callable, colour_model: Path, tmp_path: Path
) -> None:
    make(tmp_path)
    refused(salve("inspect", colour_model, tmp_path / name), *words)


def cuts(content: bytes) -> list[bytes]:
    """Truncations all over, and a few flipped bits."""
    shorter = [content[: len(content) * share // 16] for share in range(1, 16)]
    rng = np.random.default_rng(0)
    flipped = []
    for at in rng.integers(0, len(content), 8):
        changed = bytearray(content)
        changed[at] ^= 1 << int(rng.integers(0, 8))
        flipped.append(bytes(changed))
    return shorter + flipped


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "npz", "parquet", "arrow", "jsonl"])
def test_truncations_and_flipped_bits_end_in_an_error_or_an_audit(kind: str, tmp_path: Path) -> None:
    """Nothing but DataError or UsageError escapes, reading every image included."""
    from salve_audit.activations.fingerprint import hash_images
    from salve_audit.errors import SalveError
    from salve_audit.inputs.data.datasets import load_images

    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        make_zip(path)
    elif kind.startswith("tar"):
        make_tar(path, mode="w:gz" if kind == "tar.gz" else "w")
    elif kind == "npz":
        np.savez_compressed(path, images=IMAGES, labels=LABELS)
    elif kind == "parquet":
        pq.write_table(table(), path)
    elif kind == "arrow":
        with pa.ipc.new_stream(path, table().schema) as writer:
            writer.write_table(table())
    else:
        path.write_text(as_jsonl(ROWS))
    errors = []
    for content in cuts(path.read_bytes()):
        path.write_bytes(content)
        try:
            images = load_images(path, seed=0)
            hash_images(images.reader, images.fit.paths + images.audit.paths)
        except SalveError as error:
            errors.append(str(error))
    assert len(errors) >= 5
    assert all(kind in error for error in errors)


def test_a_image_that_changes_while_it_is_read(
    salve: Callable, colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between hashing and decoding an image is replaced: its activations must not be kept under the old hash."""
    from salve_audit.activations import extraction

    data, original = write_images(tmp_path / "data"), extraction.run_pass

    def replace_first(*arguments: Any) -> None:
        (data / "val/b/1.png").write_bytes(png(99))
        original(*arguments)

    monkeypatch.setattr(extraction, "run_pass", replace_first)
    done = salve(colour_model, data, "--out", tmp_path / "out", "--cache", tmp_path / "cache")
    refused(done, "val/b/1.png changed while the audit read it")
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "cache").iterdir()) == []


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_png_bomb_and_other_formats_are_skipped_by_name(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    """A few such images among many are counted and named; none is decoded."""
    data = tmp_path / "data"
    for split in ("train", "val"):
        for name in "abc":
            (data / split / name).mkdir(parents=True)
            for i in range(24):
                (data / split / name / f"{i}.png").write_bytes(png(i))
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    (data / "train/a/bomb.png").write_bytes(bomb + png_chunk(b"IEND", b""))
    (data / "train/b/script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    Image.new("RGB", (4, 9000)).save(data / "val/c/line.png")
    done = salve(colour_model, data, "--out", tmp_path / "out", *PAPER)
    assert done.code == 0, done.err
    skipped = json.loads((tmp_path / "out" / "audit.json").read_text())["data"]["skipped"]
    assert {file["path"]: file["reason"] for file in skipped} == {
        "train/a/bomb.png": "more than 50 million pixels",
        "train/b/script.png": "not an image in a known format",
        "val/c/line.png": "4 x 9000 pixels, a side is over 1000 times the other",
    }
