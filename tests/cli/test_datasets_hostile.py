"""Data that attacks or is broken: exit 2 with one line that names the file, nothing executed, nothing read outside."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import resource
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

MAX_GROWTH = 1.5 * 1024**3  # bytes; the audit itself stays far below 4 GB


@pytest.fixture(autouse=True)
def _memory_is_bounded() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MAX_GROWTH


def png(seed: int = 0, side: int = 8) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def refused(done: Any, *words: str) -> None:
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == 2, done.err + done.out
    assert len(errors) == 1, done.err
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    assert done.out == ""
    for word in words:
        assert word in done.err, done.err


def members() -> dict[str, bytes]:
    return {f"{split}/{name}/{i}.png": png(i) for split in ("train", "val") for name in "abc" for i in range(3)}


def make_zip(path: Path, extra: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members(), **(extra or {})}.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, *extra: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members().items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info, content in extra:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


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


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


IMAGES, LABELS = np.zeros((6, 4, 4, 3), np.uint8), np.array([0, 1, 2, 0, 1, 2])


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
    (lambda d: npz(d / "x.npz", images=IMAGES), ["x.npz", "no labels for the pictures 'images'"]),
    (lambda d: npz(d / "x.npz", y_train=LABELS), ["x.npz", "no array of pictures"]),
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


ROWS = [{"path": f"{name}{i}.png", "label": name} for name in "abc" for i in range(2)]


def with_row(**changes: Any) -> list[dict[str, Any]]:
    return [{**ROWS[0], **changes}, *ROWS[1:]]


def as_jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


MANIFESTS = [
    ("m.jsonl", as_jsonl(with_row(path="../secret.png")), ["row 1", "leads out of its folder"]),
    ("m.jsonl", as_jsonl(with_row(path="/etc/passwd")), ["row 1", "is an absolute path"]),
    ("m.jsonl", as_jsonl(with_row(path="c:/x.png")), ["row 1", "is an absolute path"]),
    ("m.jsonl", as_jsonl(with_row(path="https://example.org/x.png")), ["is a URL"]),
    ("m.jsonl", as_jsonl(with_row(path="out.png")), ["leads out of its folder through a link"]),
    ("m.jsonl", as_jsonl(with_row(path="outside/x.png")), ["leads out of its folder through a link"]),
    ("m.jsonl", as_jsonl(with_row(path="circle/x.png")), ["m.jsonl"]),
    ("m.jsonl", as_jsonl(with_row(path="")), ["is empty"]),
    ("m.jsonl", as_jsonl(with_row(path="a\0b.png")), ["zero byte"]),
    ("m.jsonl", as_jsonl(with_row(path="x" * 40_000)), ["longer than"]),
    ("m.jsonl", as_jsonl(with_row(path=7)), ["is no text"]),
    ("m.jsonl", as_jsonl(with_row(path="\ud800.png")), ["is not UTF-8"]),
    ("m.jsonl", as_jsonl(with_row(label=None)), ["1 of 6 pictures have no label, the first is 'a0.png'"]),
    ("m.jsonl", as_jsonl(with_row(label=[1])), ["the label of row 1 is a list"]),
    ("m.jsonl", as_jsonl(with_row(path="b0.png")), ["'b0.png' is listed twice"]),
    ("m.jsonl", as_jsonl([{"path": row["path"]} for row in ROWS]), ["no column 'label'"]),
    ("m.jsonl", "{\n", ["line 1 is not JSON"]),
    ("m.jsonl", "[1]\n", ["line 1 is a list"]),
    ("m.jsonl", "[" * 100_000, ["line 1 is not JSON"]),
    ("m.jsonl", "\n\n", ["no column 'path'"]),
    ("m.csv", "path,label\na.png\n", ["line 2 has 1 fields, the first line has 2"]),
    ("m.csv", "path,path\n", ["two columns have the same name"]),
    ("m.csv", 'path,label\n"a.png,b\n', ["damaged at line"]),
    ("m.csv", "picture,label\na,b\n", ["no column 'path' (columns: 'picture', 'label')"]),
    ("m.csv", "path,label\n", ["no pictures with labels"]),
    ("m.csv", "path,label,split\na0.png,a,one\nb0.png,b,two\n", ["splits called 'one', 'two'"]),
    ("m.csv", "path,label\n" + "x" * 200_000 + ",a\n", ["damaged at line 2"]),
    ("m.tsv", b"path\tlabel\n\xff\xfe\tb\n", ["is not UTF-8 text"]),
    ("m.parquet", b"PAR1 is how it begins, nothing else", ["m.parquet", "damaged"]),
]


@pytest.mark.skipif(os.name == "nt", reason="needs links")
@pytest.mark.parametrize(("name", "content", "words"), MANIFESTS)
def test_manifests(
    name: str, content: str | bytes, words: list[str], salve: Callable, colour_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for row in ROWS:
        (folder / row["path"]).write_bytes(png())
    (tmp_path / "x.png").write_bytes(png())
    (folder / "out.png").symlink_to(tmp_path / "x.png")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "circle").symlink_to(folder / "circle")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    refused(salve("inspect", colour_model, folder / name), name, *words)


def test_a_manifest_of_files_that_are_elsewhere(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\n" + "".join(f"x/{i}.png,{'ab'[i % 2]}\n" for i in range(500)))
    refused(salve("inspect", colour_model, tmp_path / "m.csv"), "none of its first 100 files exists ('x/0.png')")


@pytest.mark.skipif(os.name == "nt", reason="needs pipes")
def test_a_pipe_in_a_manifest_is_not_waited_for(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    for row in ROWS[1:]:
        (tmp_path / row["path"]).write_bytes(png())
    os.mkfifo(tmp_path / ROWS[0]["path"])
    (tmp_path / "m.jsonl").write_text(as_jsonl(ROWS))
    done = salve(colour_model, tmp_path / "m.jsonl", "--out", tmp_path / "out", "--no-cache")
    refused(done, ROWS[0]["path"], "no plain file")
    for name in ("x.pt", "x.onnx", "x.safetensors", "config.json"):
        os.mkfifo(tmp_path / name)
    for name in ("x.pt", "x.onnx", "x.safetensors"):
        refused(salve("inspect", tmp_path / name), "is neither a file nor a folder")
    (tmp_path / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    refused(salve("inspect", tmp_path), "config.json", "no plain file")


def table(n: int = 9, **columns: Any) -> pa.Table:
    cells = [{"bytes": png(i), "path": "x.png"} for i in range(n)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.table({"image": pa.array(cells, kind), "label": pa.array([i % 3 for i in range(n)]), **columns})


def save_dataset(root: Path, state: Any, found: pa.Table | None = None) -> Path:
    with pa.ipc.new_stream(root / "data-0.arrow", (found or table()).schema) as writer:
        writer.write_table(found or table())
    (root / "state.json").write_text(json.dumps(state))
    return root


FILES = {"_data_files": [{"filename": "data-0.arrow"}]}
TABLES = [
    (lambda d: pq.write_table(table().drop(["label"]), d / "x.parquet"), "x.parquet", ["no column of labels"]),
    (lambda d: pq.write_table(table().set_column(1, "label", pa.array([0.5] * 9)), d / "x.parquet"), "x.parquet",
     ["a label is a float"]),
    (lambda d: (d / "x.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1"), "x.parquet", ["x.parquet", "damaged"]),
    (lambda d: (pq.write_table(table(), d / "x.parquet"), truncate(d / "x.parquet", 0.5)), "x.parquet", ["damaged"]),
    (lambda d: save_dataset(d, {"_data_files": [{"filename": "../x.arrow"}]}), "", ["leads out of its folder"]),
    (lambda d: save_dataset(d, {"_data_files": [{"filename": "other.arrow"}]}), "", ["other.arrow", "no such file"]),
    (lambda d: save_dataset(d, {"_data_files": 3}), "", ["lists no data files"]),
    (lambda d: save_dataset(d, {**FILES, "_indices_files": [{"filename": "i.arrow"}]}), "", ["flatten_indices"]),
    (lambda d: (save_dataset(d, FILES), truncate(d / "data-0.arrow", 0.6)), "", ["data-0.arrow", "damaged"]),
    (lambda d: (save_dataset(d, FILES), (d / "state.json").write_text("{")), "", ["state.json", "damaged"]),
    (lambda d: (save_dataset(d, FILES), exchange(d / "data-0.arrow", b"image", b"i\xffage")), "", ["data-0.arrow"]),
    (lambda d: (pq.write_table(table(), d / "x.parquet"), exchange(d / "x.parquet", b"image", b"i\xffage")),
     "x.parquet", ["damaged"]),
]  # fmt: skip


def truncate(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def exchange(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new))


@pytest.mark.parametrize(("make", "name", "words"), TABLES)
def test_tables(
    make: Callable, name: str, words: list[str], salve: Callable, colour_model: Path, tmp_path: Path
) -> None:
    make(tmp_path)
    refused(salve("inspect", colour_model, tmp_path / name), *words)


def test_rows_without_bytes_open_nothing(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    cells = [{"bytes": None, "path": "/etc/passwd"}] * 9
    bare = table().set_column(0, "image", pa.array(cells, table().schema.field("image").type))
    pq.write_table(bare, tmp_path / "x.parquet")
    done = salve(colour_model, tmp_path / "x.parquet", "--out", tmp_path / "out", "--no-cache")
    refused(done, "x.parquet/", "only a path or nothing")


def test_a_huge_value_that_is_repeated(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    """25 MB once in the dictionary of the file, 100 times in its rows: expanded it would be 2.5 GB."""
    cells = pa.array([bytes(25_000_000)])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), cells)
    bomb = pa.table({"image": column, "label": pa.array([i % 3 for i in range(100)])})
    pq.write_table(bomb, tmp_path / "x.parquet", dictionary_pagesize_limit=100_000_000, store_schema=False)
    assert (tmp_path / "x.parquet").stat().st_size < 5_000_000
    done = salve(colour_model, tmp_path / "x.parquet", "--out", tmp_path / "out", "--no-cache")
    refused(done, "x.parquet", "not a picture in a known format")


def write_pictures(root: Path) -> Path:
    root.mkdir()
    for name, content in members().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


NO_LABELS = [
    (lambda d: [(d / f"{i}.png").write_bytes(png(i)) for i in range(5)], "", ["pictures without labels"]),
    (
        lambda d: [(d / "a.png").write_bytes(png()), (d / "list.csv").write_text("path,label\na.png,a")],
        "",
        ["list.csv"],
    ),
    (lambda d: (d / "a.png").write_bytes(png()), "a.png", ["one picture, without labels"]),
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
    """Nothing but DataError or UsageError escapes, reading every picture included."""
    from salve_audit.activations.fingerprint import hash_pictures
    from salve_audit.errors import SalveError
    from salve_audit.inputs import load_images

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
            hash_pictures(images.pictures, images.fit.paths + images.audit.paths)
        except SalveError as error:
            errors.append(str(error))
    assert len(errors) >= 5
    assert all(kind in error for error in errors)


def test_a_picture_that_changes_while_it_is_read(
    salve: Callable, colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between hashing and decoding a picture is replaced: its activations must not be kept under the old hash."""
    from salve_audit.activations import extraction

    data, original = write_pictures(tmp_path / "data"), extraction.run_pass

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
    """A few such pictures among many are counted and named; none is decoded."""
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
    quick = (
        "--format",
        "json",
        "--interventions",
        "salve",
        "--no-cache",
        "--sae",
        "paper",
        "--depth",
        "off",
        "--no-images",
    )
    done = salve(colour_model, data, "--out", tmp_path / "out", *quick)
    assert done.code == 0, done.err
    skipped = json.loads((tmp_path / "out" / "audit.json").read_text())["data"]["skipped"]
    assert {one["path"]: one["reason"] for one in skipped} == {
        "train/a/bomb.png": "more than 50 million pixels",
        "train/b/script.png": "not a picture in a known format",
        "val/c/line.png": "4 x 9000 pixels, a side is over 1000 times the other",
    }


def test_a_split_whose_name_breaks_the_line_is_refused(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    root = tmp_path / "saved"
    root.mkdir()
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["tra\nin"]}))
    done = salve("inspect", colour_model, root)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert "'tra\\nin', which has characters that cannot be printed" in done.err
