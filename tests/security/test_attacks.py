"""Real attacks through the command line: nothing is executed, nothing outside is read, memory stays bounded."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs links and limits of memory")

QUICK = (
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
MAX_RSS, MAX_ADDRESSES = 4 << 30, 8 << 30


class Call:
    """Unpickles to ``function(*arguments)``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def getattr_gadget(marker: Path) -> bytes:
    """``getattr(os, "mkdir")(marker)``, the function found by getattr, so that no name betrays it."""
    return b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'mkdir'\ntR(S'%s'\ntR." % str(marker).encode()


def dotted_gadget(marker: Path) -> bytes:
    """``torch.serialization.os.mkdir``: reached through a module that is allowed."""
    return pickle.dumps({}, 4)[:2] + b"\x8c\x13torch.serialization\x8c\x08os.mkdir\x93\x8c%c%s\x85R." % (
        len(str(marker)),
        str(marker).encode(),
    )


def build_gadget(marker: Path) -> bytes:
    """An allowed OrderedDict whose state names a ``__reduce__`` of its own."""
    return b"ccollections\nOrderedDict\n)R(dS'__reduce__'\ncos\nmkdir\nsb(S'%s'\ntR." % str(marker).encode()


def eval_of(marker: Path) -> Call:
    return Call(builtins.eval, f"__import__('os').mkdir({str(marker)!r})")


def write_zipped(path: Path, data: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """What torch.save writes, with `data` as its pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", bytes(4))
    return path


PROGRAMS: dict[str, Callable[[Path], bytes]] = {
    "reduce": lambda marker: pickle.dumps(Call(os.mkdir, str(marker)), 2),
    "reduce in a state_dict": lambda marker: pickle.dumps({"state_dict": {"fc.weight": Call(os.mkdir, str(marker))}}),
    "eval": lambda marker: pickle.dumps({"fc.weight": eval_of(marker)}, 4),
    "eval in optimizer state": lambda marker: pickle.dumps({"optimizer": eval_of(marker), "state_dict": {}}, 2),
    "getattr": getattr_gadget,
    "dotted name": dotted_gadget,
    "build": build_gadget,
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("form", ["m.pt", "m.pth", "m.ckpt", "zipped.pt", "zipped.bin", "folder"])
def test_programs_in_checkpoints_do_not_run(form: str, name: str, salve, small_data: Path, tmp_path: Path) -> None:
    marker, out = tmp_path / "attacked", tmp_path / "out"
    content = PROGRAMS[name](marker)
    path = tmp_path / form
    if form == "folder":
        path.mkdir()
        (path / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 3}))
        (path / "pytorch_model.bin").write_bytes(content)
    elif form.startswith("zipped"):
        write_zipped(path, content)
    else:
        path.write_bytes(content)
    salve(path, small_data, "--out", out).assert_refused(form)
    assert not marker.exists()
    assert not out.exists()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_are_real(name: str, tmp_path: Path) -> None:
    """Each would have left its mark if it had been unpickled without care."""
    if name in ("dotted name", "build"):
        pytest.skip("aims at careless allow-lists; plain pickle raises before or after the call")
    pickle.loads(PROGRAMS[name](tmp_path / "attacked"))
    assert (tmp_path / "attacked").is_dir()


@pytest.mark.parametrize("command", [("report",), ("gate", "--fail-under", "1")])
def test_a_pickle_given_as_audit_json(command: tuple[str, ...], salve, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_bytes(PROGRAMS["reduce"](tmp_path / "attacked"))
    salve(command[0], path, *command[1:]).assert_refused("audit.json")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("name", ["acts", "labels", "weight", "bias", "class_names"])
def test_pickles_in_arrays_are_not_opened(name: str, salve, arrays: dict, tmp_path: Path) -> None:
    arrays[name] = np.array([Call(os.mkdir, str(tmp_path / "attacked"))] * 3, dtype=object)
    np.savez(tmp_path / "x.npz", **arrays)
    salve(tmp_path / "x.npz", "--out", tmp_path / "out", *QUICK).assert_refused("x.npz", name, "Python objects")
    assert not (tmp_path / "attacked").exists()
    assert not (tmp_path / "out").exists()


# Memory. All bombs go through one process of its own, whose address space is limited and whose peak is measured.


def rebuild(*shape: int, key: str = "0") -> bytes:
    """Opcodes for a tensor of `shape` that repeats the single float in the file."""
    sizes = b"".join(b"I%d\n" % side for side in shape)
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'" + key.encode() + b"'\nS'cpu'\nI1\n"
        b"tQI0\n(" + sizes + b"t(" + b"I0\n" * len(shape) + b"tI00\nccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def nested_pickle() -> bytes:
    """Eight dictionaries of 300 names each, every name the same next dictionary: 300**8 paths in a few kilobytes."""
    content: dict[str, Any] = {"w": 1}
    for _ in range(9):
        content = {f"k{i}": content for i in range(300)}
    return pickle.dumps(content, 2)


def self_containing_pickle() -> bytes:
    content: dict[str, Any] = {}
    content.update({f"k{i}": content for i in range(300)})
    return pickle.dumps(content, 2)


def scalar_bomb() -> bytes:
    """numpy's own constructor of a scalar of two gigabytes, four times."""
    one = b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(S'V2000000000'\nI00\nI01\ntRtR"
    return b"(d" + b"".join(b"S'k%d'\n" % i + one + b"s" for i in range(4)) + b"."


def zeros_compressed(n_megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(n_megabytes)) + packer.flush()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture_bombs() -> dict[str, bytes]:
    large, found = Image.new("L", (30_000, 5_000)), {}
    for name, options in {"bomb.png": {"compress_level": 1}, "bomb.tif": {"compression": "tiff_adobe_deflate"}}.items():
        stream = io.BytesIO()
        large.save(stream, {"bomb.png": "png", "bomb.tif": "tiff"}[name], **options)
        found[name] = stream.getvalue()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    text = png_chunk(b"zTXt", b"Comment\0\0" + zeros_compressed(600))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(72))) + png_chunk(b"IEND", b"")
    found["text.png"] = b"\x89PNG\r\n\x1a\n" + header + text + pixels
    return found


N_BOMB = 60 << 26  # bytes, close to the 4 GiB that a plain zip can say


def write_deflated(path: Path, name: str, start: bytes, filling: bytes) -> None:
    """A zip with one member of `start` and `N_BOMB` times `filling`; one compressed block is repeated."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(filling * (1 << 26)) + packer.flush(zlib.Z_FULL_FLUSH)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "3\n")
        archive.writestr(name, first + block * (N_BOMB >> 26) + packer.flush())
    content = bytearray(path.read_bytes())
    size = struct.pack("<I", len(start) + N_BOMB)
    local, central = content.rindex(b"PK\3\4"), content.rindex(b"PK\1\2")
    content[local + 8 : local + 10] = content[central + 10 : central + 12] = struct.pack("<H", 8)
    content[local + 22 : local + 26] = content[central + 24 : central + 28] = size
    path.write_bytes(content)


def write_bombs(root: Path, checkpoint: dict[str, Any], arrays: dict[str, np.ndarray], data: Path) -> dict[str, Path]:
    """Models and arrays that would take far more memory, or time, than the files' own size."""
    weights = {"fc.weight": (3_000_000_000, 2), "fc.bias": (3_000_000_000,)}
    views = b"(d" + b"".join(b"S'%s'\n" % key.encode() + rebuild(*shape) + b"s" for key, shape in weights.items())
    bombs = {
        "views.pt": write_zipped(root / "views.pt", views + b"."),
        "scalars.pt": write_zipped(root / "scalars.pt", scalar_bomb()),
        "bytearray.pt": write_zipped(root / "bytearray.pt", b"(dS'k'\nc__builtin__\nbytearray\n(I6000000000\ntRs."),
        "tensor.pt": write_zipped(root / "tensor.pt", b"(dS'fc.weight'\nctorch\nTensor\n(I3000000000\nI2\ntRs."),
        "nested.pt": write_zipped(root / "nested.pt", nested_pickle()),
        "itself.pt": write_zipped(root / "itself.pt", self_containing_pickle()),
        "deflated.pt": root / "deflated.pt",
        "long.pt": root / "long.pt",
    }
    write_deflated(bombs["deflated.pt"], "archive/data.pkl", b"", b"(")
    bombs["long.pt"].write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 6 << 30) + b"x" * 64)
    state = checkpoint["state_dict"]
    wide = {**state, "fc.weight": torch.zeros(1).expand(200_000_000, 32), "fc.bias": torch.zeros(1).expand(200_000_000)}
    torch.save({**checkpoint, "state_dict": wide, "args": {**checkpoint["args"], "num_classes": 200_000_000}},
               root / "wide.pt")  # fmt: skip
    settings = {**checkpoint["args"], "num_classes": 2_000_000_000}
    torch.save({**checkpoint, "args": settings}, root / "claims.pt")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (N_BOMB // 32, 8)})
    write_deflated(root / "arrays.npz", "acts.npy", header.getvalue(), b"\0")
    with zipfile.ZipFile(root / "arrays.npz", "a") as archive:
        for name in ("labels", "weight", "bias"):
            content = io.BytesIO()
            np.save(content, arrays[name])
            archive.writestr(f"{name}.npy", content.getvalue())
    return {**bombs, "wide.pt": root / "wide.pt", "claims.pt": root / "claims.pt", "arrays.npz": root / "arrays.npz"}


RUNNER = """
import contextlib, io, json, resource, sys, time
addresses, out, data, *models = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (int(addresses), int(addresses)))
from salve_audit.cli.app import run
for model in models:
    err, began = io.StringIO(), time.monotonic()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = run([model, "--out", out] + ([] if model.endswith(".npz") else [data]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([model, code, err.getvalue(), peak, time.monotonic() - began]), flush=True)
"""


def test_nothing_expands_beyond_the_memory(
    small_checkpoint: dict, arrays: dict, small_data: Path, tmp_path: Path
) -> None:
    bombs = write_bombs(tmp_path, small_checkpoint, arrays, small_data)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(MAX_ADDRESSES), tmp_path / "out", small_data, *bombs.values()],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(bombs), done.stderr[-2000:]
    for model, code, err, peak, seconds in found:
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert code == 2, (model, err)
        assert len(errors) == 1, err
        assert Path(model).name in errors[0], err
        assert "internal error" not in err
        assert "Traceback" not in err
        assert peak < MAX_RSS, (model, peak)
        assert seconds < 30, (model, seconds)
    assert not (tmp_path / "out").exists()


def test_picture_bombs_are_skipped_by_name(salve, small_model: Path, own_data: Path, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bombs = picture_bombs()
    before = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    for (name, content), folder in zip(bombs.items(), "abc", strict=True):
        (own_data / folder / name).write_bytes(content)
    done = salve(small_model, own_data, "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    skipped = {
        one["path"]: one["reason"] for one in json.loads((tmp_path / "out/audit.json").read_text())["data"]["skipped"]
    }
    assert set(skipped) == {"a/bomb.png", "b/bomb.tif", "c/text.png"}
    assert "150" in skipped["a/bomb.png"] or "million" in skipped["a/bomb.png"]
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 1 << 30


# Paths.


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture beside the data that nothing may open."""
    path = tmp_path / "outside" / "secret.png"
    path.parent.mkdir()
    Image.new("RGB", (8, 8)).save(path)
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["../outside/secret.png", "ABSOLUTE", "a/../../outside/secret.png", "a/link.png"])
def test_manifests_that_lead_out(
    name: str, ending: str, salve, small_model: Path, own_data: Path, secret: Path, opened: list[str]
) -> None:
    import pandas as pd

    (own_data / "a/link.png").symlink_to(secret)
    paths = [f"{folder}/{i:02d}.png" for folder in "abc" for i in range(6)]
    rows = pd.DataFrame({"path": [str(secret) if name == "ABSOLUTE" else name, *paths]})
    rows["label"] = ["a", *(path[0] for path in paths)]
    file = own_data / f"list.{ending}"
    {
        "csv": lambda: rows.to_csv(file, index=False),
        "tsv": lambda: rows.to_csv(file, index=False, sep="\t"),
        "jsonl": lambda: rows.to_json(file, orient="records", lines=True),
        "parquet": lambda: rows.to_parquet(file, index=False),
    }[ending]()
    opened.clear()
    salve("inspect", small_model, file).assert_refused(f"list.{ending}", "out of its folder" if name[0] in "a." else "")
    assert str(secret) not in opened


def test_links_out_of_a_folder_are_not_followed(
    salve, small_model: Path, own_data: Path, secret: Path, opened: list[str], tmp_path: Path
) -> None:
    (own_data / "a/link.png").symlink_to(secret)
    (own_data / "d").symlink_to(secret.parent)
    opened.clear()
    done = salve(small_model, own_data, "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    assert "not followed" in done.err
    assert str(secret) not in opened
    assert any(path.startswith(str(own_data.resolve())) for path in opened)  # the record does record
    assert "secret" not in (tmp_path / "out/audit.json").read_text()


@pytest.mark.parametrize("name", ["../outside/secret.png", "ABSOLUTE"])
def test_shards_of_weights_that_lead_out(name: str, salve, secret: Path, opened: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 3}))
    shard = str(secret) if name == "ABSOLUTE" else name
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"fc.weight": shard}}))
    opened.clear()
    salve("inspect", folder).assert_refused("model.safetensors.index.json", "secret.png")
    assert str(secret) not in opened


# Names.

NAMES = [
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[2J",
    "two\nlines\r\n::error::forged",
    "::error file=a.py::forged",
    "  ::set-output name=x::forged",
    "##[error]forged",
    "=cmd('/c calc')",
    "x" * 10_000,
    "\u202egnp.exe\u2066",
    "שלום",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays with one class for each of the hostile names."""
    rng = np.random.default_rng(0)
    n, labels = len(NAMES), np.arange(len(NAMES) * 12) % len(NAMES)
    acts = np.abs(rng.normal(size=(len(labels), n))).astype(np.float32)
    acts[np.arange(len(labels)), labels] += 4
    path = tmp_path_factory.mktemp("named") / "x.npz"
    weight, names = np.eye(n, dtype=np.float32), np.array(NAMES)
    np.savez(path, acts=acts, labels=labels, weight=weight, bias=np.zeros(n, np.float32), class_names=names)
    return path


def assert_nothing_forged(text: str) -> None:
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\r" not in text
    for line in text.splitlines():
        assert not line.lstrip().startswith("::"), line  # a command to the continuous integration
        assert "##[" not in line, line
        assert not line.startswith("lines"), line  # what follows a line break in a name


def test_hostile_class_names(salve, named: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = salve(named, "--out", out, "--format", "html,json", *QUICK[2:], "--fail-under", "1.5")
    assert done.code in (0, 1) or "no class could be judged" in done.err, done.err
    assert_nothing_forged(done.out)
    assert_nothing_forged(done.err)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "\x1b" not in page
    assert "{{ 7 * 7 }}" in page or "{{ 7 * 7 }}".replace(" ", "&#32;") in page  # shown, not evaluated
    assert {file.suffix for file in out.rglob("*") if file.is_file()} <= {".html", ".json", ".parquet", ".safetensors"}
    again = salve("gate", out, "--fail-under", "1.5")
    assert_nothing_forged(again.out + again.err)


def test_hostile_names_in_messages(salve, small_model: Path, own_data: Path) -> None:
    rows = [{"path": f"{folder}/{i:02d}.png", "label": name} for name, folder in zip(NAMES[:3], "abc", strict=True)
            for i in range(6)]  # fmt: skip
    file = own_data / "list.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = salve("inspect", small_model, file)
    assert_nothing_forged(done.out + done.err)
    file.write_text(json.dumps({"path": "\x1b[2J\n::error::x.png", "label": NAMES[7]}) + "\n")
    done = salve("inspect", small_model, file)
    done.assert_refused("list.jsonl")
    assert_nothing_forged(done.err)
    assert len(done.err) < 2_000


# Files that change.


def test_a_model_that_changes_while_it_is_read(
    salve, small_model: Path, small_checkpoint: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from salve_audit.inputs import weights

    path = tmp_path / "m.pt"
    shutil.copy(small_model, path)
    original = weights.load_torch_file

    def replace_first(file: Path, kind: Any) -> Any:
        state = {name: value + 1 for name, value in small_checkpoint["state_dict"].items()}
        torch.save({**small_checkpoint, "state_dict": state}, path)
        return original(file, kind)

    monkeypatch.setattr(weights, "load_torch_file", replace_first)
    salve("inspect", path).assert_refused("m.pt", "changed while")


def test_arrays_that_change_while_they_are_read(
    salve, arrays: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from salve_audit.inputs.arrays import files

    path, original = tmp_path / "x.npz", files._read_npz
    np.savez(path, **arrays)

    def replace_first(file: Path) -> Any:
        np.savez(path, **{**arrays, "bias": arrays["bias"] + 1})
        return original(file)

    monkeypatch.setattr(files, "_read_npz", replace_first)
    salve(path, "--out", tmp_path / "out", *QUICK).assert_refused("x.npz", "changed while")
    assert not (tmp_path / "out").exists()
