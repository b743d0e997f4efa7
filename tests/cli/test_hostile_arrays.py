"""Arrays that attack or are broken: exit 2 with one line that names the file, nothing executed."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_data import IMAGES, LABELS, refused

pytestmark = pytest.mark.usefixtures("memory_is_bounded")


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("attacked",))


def write_npy_claiming(path: Path, shape: tuple[int, ...]) -> Path:
    """A .npy whose header promises more than the file has, with labels beside it."""
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        stream.write(bytes(64))
    np.save(path.with_name("y_train.npy"), LABELS)
    return path.parent


def idx(path: Path, shape: tuple[int, ...], content: bytes, magic: int = 8) -> None:
    path.write_bytes(struct.pack(f">HBB{len(shape)}I", 0, magic, len(shape), *shape) + content)


ARRAYS = [
    (lambda d: npz(d / "x.npz", x_train=np.array([Attack()] * 6), y_train=LABELS), ["x.npz", "Python objects"]),
    (lambda d: npz(d / "x.npz", x_train=IMAGES, y_train=np.array([Attack()] * 6)), ["x.npz", "Python objects"]),
    (lambda d: npz(d / "x.npz", images=IMAGES), ["x.npz", "no labels for the images 'images'"]),
    (lambda d: npz(d / "x.npz", y_train=LABELS), ["x.npz", "no array of images"]),
    (lambda d: npz(d / "x.npz", images=IMAGES, labels=LABELS[:5]), ["x.npz", "'labels' is int64 (5,)", "6 whole"]),
    (lambda d: npz(d / "x.npz", images=IMAGES, labels=LABELS / 2), ["x.npz", "'labels' is float64"]),
    (lambda d: npz(d / "x.npz", images=IMAGES / 255, labels=LABELS), ["x.npz", "'images' is float64", "uint8"]),
    (
        lambda d: npz(d / "x.npz", images=np.zeros((6, 5, 5, 2), np.uint8), labels=LABELS),
        ["x.npz", "'images' is uint8 (6, 5, 5, 2)"],
    ),
    (lambda d: npz(d / "x.npz", images=IMAGES[:0], labels=LABELS[:0]), ["x.npz", "'images' is uint8 (0, 4, 4, 3)"]),
    (lambda d: npz(d / "x.npz", images=IMAGES, labels=-LABELS), ["x.npz", "is -1, expected 0 or more"]),
    (lambda d: npz(d / "x.npz", images=IMAGES, labels=LABELS * 0), ["x.npz", "one class only ('0')"]),
    (lambda d: npz(d / "x.npz", images=IMAGES, labels=LABELS + 1), ["x.npz", "the label 3 is no output", "from 1"]),
    (lambda d: write_npy_claiming(d / "x_train.npy", (10**12, 4, 4)), ["x_train.npy", "damaged"]),
    (lambda d: write_npy_claiming(d / "x_train.npy", (-4, 4, 4)), ["x_train.npy", "damaged"]),
]


@pytest.mark.parametrize(("make", "words"), ARRAYS)
def test_arrays(
    make: Callable,
    words: list[str],
    salve: Callable,
    colour_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    refused(salve("inspect", colour_model, make(data)), *words)
    assert not (tmp_path / "attacked").exists()


def test_a_pickle_is_not_opened(salve: Callable, colour_model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": Attack()}))
    refused(salve("inspect", colour_model, tmp_path / "data_batch_1"), "is a pickle, which is code; not read")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    ("shape", "content", "magic", "words"),
    [
        ((6, 4, 4), bytes(90), 8, "damaged: 106 bytes of 112"),
        ((2**31, 4, 4), bytes(96), 8, "damaged"),
        ((6, 4, 4), bytes(96), 0x0D, "not an IDX file of bytes"),
        ((), b"", 8, "not an IDX file of bytes"),
    ],
    ids=["short", "huge", "float", "no dimensions"],
)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_idx(
    shape, content: bytes, magic: int, words: str, zipped: bool, salve: Callable, colour_model: Path, tmp_path: Path
) -> None:
    images = tmp_path / "train-images-idx3-ubyte"
    idx(images, shape, content, magic)
    idx(tmp_path / "train-labels-idx1-ubyte", (6,), LABELS.astype(np.uint8).tobytes())
    if zipped:
        images.with_name(images.name + ".gz").write_bytes(gzip.compress(images.read_bytes()))
        images.unlink()
    words = {"damaged: 106 bytes of 112": "damaged: 90 of 96 values"}.get(words, words) if zipped else words
    words = "MiB" if zipped and shape and shape[0] == 2**31 else words
    refused(salve("inspect", colour_model, tmp_path), "train-images-idx3-ubyte", words)
