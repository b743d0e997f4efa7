"""At least 150 malformed inputs: exit 2, one line that begins with `error:`, nothing else; no output folder."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save as save_safetensors

pytestmark = pytest.mark.slow

N_CUTS = 8
LABELS = np.array([0, 1, 2] * 3)
IMAGES = np.zeros((9, 4, 4, 3), np.uint8)


def cut(content: bytes, n: int = N_CUTS) -> Iterator[tuple[str, bytes]]:
    """The beginnings of `content` in the first bytes and at even shares."""
    for length in sorted({1, 8, *(len(content) * i // n for i in range(1, n))}):
        yield f"first {length} bytes", content[:length]


def torch_bytes(content: Any, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "png")
    return stream.getvalue()


def idx(*shape: int, magic: int = 8, content: bytes | None = None) -> bytes:
    header = struct.pack(f">HBB{len(shape)}I", 0, magic, len(shape), *shape)
    return header + (bytes(int(np.prod(shape))) if content is None else content)


def npz_bytes(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archive_bytes(kind: str) -> bytes:
    stream = io.BytesIO()
    names = [f"{label}/{i}.png" for label in "abc" for i in range(3)]
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            for name in names:
                archive.writestr(name, png())
        return stream.getvalue()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(png())
            archive.addfile(info, io.BytesIO(png()))
    return gzip.compress(stream.getvalue(), mtime=0) if kind == "tar.gz" else stream.getvalue()


def parquet_bytes(**columns: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def header_of(content: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def malformed_models(checkpoint: dict[str, Any]) -> Iterator[tuple[str, str, bytes]]:
    """(what is wrong, name of the file, its content)."""
    state = checkpoint["state_dict"]
    for kind, zipped in (("zip", True), ("legacy", False)):
        for what, content in cut(torch_bytes(checkpoint, zipped)):
            yield f"{kind} {what}", "m.pt", content
    safe = save_safetensors({name: value.contiguous() for name, value in state.items()})
    for what, content in cut(safe):
        yield f"safetensors {what}", "m.safetensors", content
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    for what, change in {
        "unknown dtype": {"dtype": "X9"}, "negative shape": {"shape": [-2, 2]}, "shape of text": {"shape": "two"},
        "too many bytes": {"data_offsets": [0, 1 << 40]}, "backwards": {"data_offsets": [16, 0]},
        "shape too large": {"shape": [1 << 40, 1 << 40]}, "no offsets": {"data_offsets": None},
    }.items():  # fmt: skip
        yield f"safetensors {what}", "m.safetensors", header_of({"fc.weight": {**entry, **change}}, bytes(16))
    yield "safetensors empty header", "m.safetensors", header_of({})
    yield "safetensors header of a list", "m.safetensors", struct.pack("<Q", 2) + b"[]"
    yield "safetensors endless header", "m.safetensors", struct.pack("<Q", 1 << 62) + b"{"
    scalar = torch.zeros(())
    bad: dict[str, Any] = {
        "text": "weights", "number": 3, "list": [state], "none": None, "tensor": torch.zeros(3), "empty": {},
        "empty state_dict": {"state_dict": {}}, "state_dict is a list": {"state_dict": [1, 2]},
        "a value is text": {"state_dict": {**state, "fc.bias": "zeros"}},
        "a key is a number": {"state_dict": {**state, 7: scalar}},
        "complex": {**checkpoint, "state_dict": {**state, "fc.weight": torch.zeros(3, 32, dtype=torch.complex64)}},
        "sparse": {**checkpoint, "state_dict": {**state, "fc.weight": torch.zeros(3, 32).to_sparse()}},
        "NaN": {**checkpoint, "state_dict": {**state, "fc.weight": state["fc.weight"] * float("nan")}},
        "infinite": {**checkpoint, "state_dict": {**state, "fc.bias": state["fc.bias"] + float("inf")}},
        "unknown architecture": {**checkpoint, "arch": "resnet_of_nobody", "state_dict": {"fc.weight": scalar}},
        "arch is a path": {"arch": "../../x", "state_dict": {"a": torch.zeros(2, 3)}},
        "model_kwargs of text": {**checkpoint, "args": {**checkpoint["args"], "model_kwargs": "depth"}},
        "model_kwargs fetch": {**checkpoint, "args": {**checkpoint["args"], "model_kwargs": {"pretrained": True}}},
        "model_kwargs unknown": {**checkpoint, "args": {**checkpoint["args"], "model_kwargs": {"no_such": 1}}},
        "negative classes": {**checkpoint, "args": {**checkpoint["args"], "num_classes": -3}},
        "classes of text": {**checkpoint, "args": {**checkpoint["args"], "num_classes": "three"}},
        "image of no size": {**checkpoint, "args": {**checkpoint["args"], "img_size": 0}},
        "image of text": {**checkpoint, "args": {**checkpoint["args"], "img_size": "large"}},
        "std of zero": {**checkpoint, "args": {**checkpoint["args"], "std": (0.0, 0.0, 0.0)}},
        "mean of two": {**checkpoint, "args": {**checkpoint["args"], "mean": (0.5, 0.5)}},
        "meta": {**checkpoint, "state_dict": {name: value.to("meta") for name, value in state.items()}},
    }  # fmt: skip
    for name in ("fc.weight", "fc.bias", "conv1.0.weight", "layer1.0.conv1.weight"):
        value = state[name]
        bad[f"no {name}"] = {**checkpoint, "state_dict": {key: tensor for key, tensor in state.items() if key != name}}
        for what, other in {"transposed": torch.zeros((*value.shape[::-1], 2)), "empty": torch.zeros(0)}.items():
            bad[f"{name} {what}"] = {**checkpoint, "state_dict": {**state, name: other}}
    for what, content in bad.items():
        yield what, "m.pt", torch_bytes(content)
    for what, content in {
        "empty file": b"", "text": b"hello\n", "zeros": bytes(4096), "html": b"<html>404</html>",
        "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100), "png": png(), "gzip": gzip.compress(b"x"),
        "other zip": archive_bytes("zip"), "tar": archive_bytes("tar"), "plain pickle": pickle.dumps([1, 2, 3]),
        "stop": b".", "deep": b"(" * 100_000, "deep lists": b"]" * 50_000 + b"a" * 49_999 + b".",
        "memo": b"\x80\x02h\x07.", "recursive": b"\x80\x02}q\x00U\x01ah\x00s.",
    }.items():  # fmt: skip
        yield f"{what} as .pt", "m.pt", content
        if what in ("empty file", "text", "zeros", "png"):
            yield f"{what} as .safetensors", "m.safetensors", content
            yield f"{what} as .onnx", "m.onnx", content


HUB = {
    "no JSON": "{", "list": "[]", "empty": "{}", "not UTF-8": b"\xff\xfe", "deep": "[" * 100_000,
    "number as architecture": '{"architecture": 7}', "unknown architecture": '{"architecture": "resnet_of_nobody"}',
    "path as architecture": '{"architecture": "../x.py:f"}', "classes of text": '{"architecture": "resnet18", '
    '"num_classes": "many"}', "unknown model type": '{"model_type": "no_such", "architectures": ["NoSuch"]}',
    "model_args of text": '{"architecture": "resnet10t", "model_args": "x"}',
}  # fmt: skip


def malformed_arrays() -> Iterator[tuple[str, str, bytes]]:
    acts, weight = np.ones((9, 4), np.float32), np.ones((3, 4), np.float32)
    good: dict[str, Any] = {"acts": acts, "labels": LABELS, "weight": weight, "bias": np.zeros(3, np.float32)}
    for what, content in cut(npz_bytes(**good)):
        yield f"npz {what}", "x.npz", content
    for name in ("acts", "labels", "weight"):
        yield f"no {name}", "x.npz", npz_bytes(**{key: value for key, value in good.items() if key != name})
    changes: dict[str, tuple[str, Any]] = {
        "acts of text": ("acts", np.array(["x"] * 9)), "complex acts": ("acts", acts * 1j),
        "NaN": ("acts", acts * np.nan), "infinite": ("weight", weight * np.inf), "empty acts": ("acts", acts[:0]),
        "acts of one axis": ("acts", acts[0]), "acts of three axes": ("acts", acts[None]),
        "wide": ("acts", acts[:, :3]),
        "labels of floats": ("labels", LABELS / 2), "labels too large": ("labels", LABELS + 7),
        "negative labels": ("labels", -LABELS), "too few labels": ("labels", LABELS[:4]),
        "square labels": ("labels", np.zeros((9, 9), int)), "one class": ("labels", LABELS * 0),
        "bias too long": ("bias", np.zeros(9)), "bias of text": ("bias", np.array(["a", "b", "c"])),
        "empty weight": ("weight", weight[:0]), "names too few": ("class_names", np.array(["a"])),
        "names twice": ("class_names", np.array(["a", "a", "b"])), "names of numbers": ("class_names", np.arange(3)),
        "structured acts": ("acts", np.zeros(9, [("a", "f4")])), "dates": ("acts", np.zeros((9, 4), "M8[s]")),
    }  # fmt: skip
    for what, (name, value) in changes.items():
        yield what, "x.npz", npz_bytes(**{**good, name: value})


def malformed_data() -> Iterator[tuple[str, str, bytes]]:
    for kind in ("zip", "tar", "tar.gz"):
        for what, content in cut(archive_bytes(kind), 5 if kind != "tar" else 2):
            yield f"{kind} {what}", f"x.{kind}", content
    stamp = npz_bytes(images=IMAGES, labels=LABELS)
    for what, content in cut(stamp):
        yield f"images npz {what}", "x.npz", content
    for what, content in {
        "shape": npz_bytes(images=IMAGES[0, 0], labels=LABELS), "dtype": npz_bytes(images=IMAGES * 0.5, labels=LABELS),
        "no labels": npz_bytes(images=IMAGES), "few labels": npz_bytes(images=IMAGES, labels=LABELS[:3]),
        "empty": npz_bytes(images=IMAGES[:0], labels=LABELS[:0]),
    }.items():  # fmt: skip
        yield f"images npz {what}", "x.npz", content
    for what, content in cut(npy_bytes(IMAGES), 4):
        yield f"npy {what}", "x_train.npy", content
    yield "npy open bracket", "x_train.npy", npy_bytes(IMAGES).replace(b"}", b"(", 1)
    for what, content in {
        "short": idx(9, 4, 4, content=bytes(5)), "long": idx(9, 4, 4, content=bytes(500)),
        "float": idx(9, 4, 4, magic=13), "flat": idx(9), "no axes": idx(content=b""), "empty": b"",
        "header": b"\0\0\x08",
    }.items():  # fmt: skip
        yield f"idx {what}", "train-images-idx3-ubyte", content
    yield "idx huge", "train-images-idx3-ubyte", idx(1 << 31, 9, 9, content=bytes(9))
    table = parquet_bytes(path=["a.png", "b.png"], label=["a", "b"])
    for what, content in cut(table):
        yield f"parquet {what}", "x.parquet", content
    yield "parquet without path", "x.parquet", parquet_bytes(label=["a", "b"])
    yield (
        "parquet without rows",
        "x.parquet",
        parquet_bytes(path=pa.array([], pa.string()), label=pa.array([], pa.string())),
    )
    texts: dict[str, str | bytes] = {
        "no columns": "a,b\n1,2\n", "header only": "path,label\n", "few fields": "path,label\na\n",
        "missing image": "path,label\nno.png,a\n", "quote": 'path,label\n"a\n',
        "zero byte": "path,label\na\0.png,a\n",
        "UTF-16": "path,label\na.png,a\n".encode("utf-16"), "blank": "\n\n\n",
        "column twice": "path,path,label\na,b,c\n",
    }  # fmt: skip
    for what, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        yield f"csv {what}", "x.csv", content
        yield f"tsv {what}", "x.tsv", content.replace(b",", b"\t")
    for what, line in {"open": "{", "list": "[1]", "number": "7", "no path": '{"label": 1}', "null": '{"path": null}',
                       "deep": "[" * 9999, "missing": '{"path": "no.png", "label": "a"}'}.items():  # fmt: skip
        yield f"jsonl {what}", "x.jsonl", line.encode() + b"\n"
    for what, content in {"empty": b"", "text": b"hi", "png": png(), "cut png": png()[:20], "bzip2": b"BZh9" + bytes(9),
                          "pickle": pickle.dumps({1: 2}), "7z": b"7z\xbc\xaf" + bytes(99)}.items():  # fmt: skip
        yield f"{what} as data", "x.dat", content


def assert_refused(done: Any, what: str, out: Path) -> str | None:
    """What is wrong with the refusal, or None."""
    lines = done.err.splitlines()
    n_errors = sum(line.startswith("error: ") for line in lines)
    if done.code != 2 or n_errors != 1 or "internal error" in done.err or "Traceback" in done.err or out.exists():
        return f"{what}: exit {done.code}, {n_errors} errors, {done.err[-300:]!r}"
    return None


def run_all(cases: Iterator[tuple[str, str, bytes]], run: Callable[[Path], Any], folder: Path) -> tuple[int, list[str]]:
    wrong, n = [], 0
    for what, name, content in cases:
        here = folder / str(n)
        here.mkdir()
        (here / name).write_bytes(content)
        n += 1
        problem = assert_refused(run(here / name), what, folder / "out")
        if problem:
            wrong.append(problem)
    return n, wrong


def test_malformed_models(salve, small_checkpoint: dict, tmp_path: Path) -> None:
    n, wrong = run_all(malformed_models(small_checkpoint), lambda path: salve("inspect", path), tmp_path)
    assert not wrong, "\n".join(wrong)
    assert n >= 80


@pytest.mark.parametrize("what", HUB)
def test_malformed_configurations(what: str, salve, small_checkpoint: dict, tmp_path: Path) -> None:
    content = HUB[what]
    state = (
        {"a.weight": torch.zeros(2, 3)} if what not in ("no JSON", "list", "deep") else small_checkpoint["state_dict"]
    )
    (tmp_path / "model.safetensors").write_bytes(save_safetensors(state))
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    problem = assert_refused(salve("inspect", tmp_path), what, tmp_path / "out")
    assert problem is None, problem


def test_malformed_arrays(salve, tmp_path: Path) -> None:
    n, wrong = run_all(malformed_arrays(), lambda path: salve(path, "--out", tmp_path / "out", "--quiet"), tmp_path)
    assert not wrong, "\n".join(wrong)
    assert n >= 30


def test_malformed_data(salve, small_model: Path, tmp_path: Path) -> None:
    n, wrong = run_all(malformed_data(), lambda path: salve("inspect", small_model, path), tmp_path)
    assert not wrong, "\n".join(wrong)
    assert n >= 60
