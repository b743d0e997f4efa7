"""Small files that would expand to far more memory or time, through the command line."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from quick_audits import PAPER as QUICK
from zipped_pickles import write_zipped

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="needs links and limits of memory"),
]
MAX_RSS, MAX_ADDRESSES = 4 << 30, 8 << 30


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
    scalar = b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(S'V2000000000'\nI00\nI01\ntRtR"
    return b"(d" + b"".join(b"S'k%d'\n" % i + scalar + b"s" for i in range(4)) + b"."


def zeros_compressed(n_megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(n_megabytes)) + packer.flush()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def image_bombs() -> dict[str, bytes]:
    large, bombs = Image.new("L", (30_000, 5_000)), {}
    for name, options in {"bomb.png": {"compress_level": 1}, "bomb.tif": {"compression": "tiff_adobe_deflate"}}.items():
        stream = io.BytesIO()
        large.save(stream, {"bomb.png": "png", "bomb.tif": "tiff"}[name], **options)
        bombs[name] = stream.getvalue()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    text = png_chunk(b"zTXt", b"Comment\0\0" + zeros_compressed(600))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(72))) + png_chunk(b"IEND", b"")
    bombs["text.png"] = b"\x89PNG\r\n\x1a\n" + header + text + pixels
    return bombs


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


# all bombs go through one process of its own, whose address space is limited and whose peak is measured
RUNNER = """
import contextlib, io, json, resource, sys, time
addresses, out, data, *models = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (int(addresses), int(addresses)))
from salve_audit.cli.app import run
for model in models:
    err, began = io.StringIO(), time.process_time()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = run([model, "--out", out] + ([] if model.endswith(".npz") else [data]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([model, code, err.getvalue(), peak, time.process_time() - began]), flush=True)
"""


def test_nothing_expands_beyond_the_memory(
    small_checkpoint: dict, arrays: dict, small_data: Path, tmp_path: Path
) -> None:
    bombs = write_bombs(tmp_path, small_checkpoint, arrays, small_data)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(MAX_ADDRESSES), tmp_path / "out", small_data, *bombs.values()],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(bombs), done.stderr[-2000:]
    for model, code, err, peak, seconds in lines:
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert code == 2, (model, err)
        assert len(errors) == 1, err
        assert Path(model).name in errors[0], err
        assert "internal error" not in err
        assert "Traceback" not in err
        assert peak < MAX_RSS, (model, peak)
        assert seconds < 30, (model, seconds)
    assert not (tmp_path / "out").exists()


def test_image_bombs_are_skipped_by_name(salve, small_model: Path, own_data: Path, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bombs = image_bombs()
    before = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    for (name, content), folder in zip(bombs.items(), "abc", strict=True):
        (own_data / folder / name).write_bytes(content)
    done = salve(small_model, own_data, "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    skipped = {
        skipped["path"]: skipped["reason"]
        for skipped in json.loads((tmp_path / "out/audit.json").read_text())["data"]["skipped"]
    }
    assert set(skipped) == {"a/bomb.png", "b/bomb.tif", "c/text.png"}
    assert "150" in skipped["a/bomb.png"] or "million" in skipped["a/bomb.png"]
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 1 << 30
