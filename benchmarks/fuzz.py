"""Fuzzes every loader with mutated files for a given time; prints the number of inputs and the findings.

::

    python benchmarks/fuzz.py --seconds 3600

A finding is anything but success or SalveError. Inputs are valid small files with bytes changed, cut out, repeated or
replaced by numbers at the edges; hypothesis draws the changes in the tests, a seeded generator draws them here.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as save_safetensors

from salve_audit.config_file import read_settings
from salve_audit.errors import SalveError
from salve_audit.inputs import load_classifier, load_images
from salve_audit.inputs.arrays.arrayset import load_arrays
from salve_audit.results.audit import parse_audit
from salve_audit.sae.files import FORMAT, load_sae
from salve_audit.sae.variants import VARIANTS

KINDS = ("flip", "set", "cut", "repeat", "insert", "number", "end")
EDGES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)
CHANGES = st.tuples(st.sampled_from(KINDS), st.floats(0, 1, exclude_max=True), st.integers(0, 255))


@dataclass(frozen=True)
class Seed:
    """A valid file and who reads it."""

    name: str
    content: bytes
    load: Callable[[Path], Any]


def mutate(content: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    """`content` after (kind, place as a share of the length, value) one after the other."""
    data = bytearray(content)
    for kind, share, value in changes:
        at = int(share * max(len(data), 1))
        if kind == "flip" and data:
            data[at] ^= 1 << value % 8
        elif kind == "set" and data:
            data[at] = value
        elif kind == "cut":
            del data[at : at + value]
        elif kind == "repeat":
            data[at:at] = data[at : at + value]
        elif kind == "insert":
            data[at:at] = bytes([value]) * (value % 17)
        elif kind == "number":
            data[at : at + 8] = EDGES[value % len(EDGES)].to_bytes(8, "little" if value % 2 else "big")
        elif kind == "end":
            del data[at:]
    return bytes(data)


def try_input(seed: Seed, content: bytes, folder: Path) -> str | None:
    """Loads `content` as the seed's kind of file: None, or the traceback of a finding."""
    folder.mkdir(exist_ok=True)
    path = folder / seed.name
    path.write_bytes(content)
    try:
        seed.load(path)
    except SalveError:
        return None
    except Exception:  # whatever else escapes is what is looked for
        return f"{seed.name}: {traceback.format_exc()}"
    finally:
        path.unlink()
    return None


def make_seeds(folder: Path) -> list[Seed]:
    """One small valid file of every kind."""
    with torch.random.fork_rng(devices=[]):
        kwargs = {"channels": (8, 8, 16, 32), "stem_width": 8}
        state = timm.create_model("resnet10t", num_classes=3, **kwargs).state_dict()
    checkpoint = {"arch": "resnet10t", "state_dict": state, "args": {"num_classes": 3, "model_kwargs": kwargs}}
    models = {"zipped.pt": _torch_bytes(checkpoint, True), "legacy.pt": _torch_bytes(checkpoint, False)}
    labels = np.arange(30) % 3
    acts = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    arrays = {"acts": acts, "labels": labels, "weight": np.eye(3, 4, dtype=np.float32), "bias": np.zeros(3, np.float32)}
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    manifest = "path,label\n" + "".join(f"{i}.png,{'abc'[i % 3]}\n" for i in range(9))
    settings = b'seed = 3\nlimit = 10\nformat = ["json"]\nfail-under = 1.5\n'
    for i in range(9):
        (folder / f"{i}.png").write_bytes(_png())
    return [
        *(Seed(name, content, load_classifier) for name, content in models.items()),
        Seed("x.npz", _npz_bytes(**arrays), lambda path: load_arrays(path, 0)),
        Seed("x.safetensors", save_safetensors(tensors), lambda path: load_arrays(path, 0)),
        Seed("pictures.npz", _npz_bytes(images=np.zeros((9, 4, 4, 3), np.uint8), labels=labels[:9]), _load_images),
        Seed("pictures.zip", _zip_bytes(), _load_images),
        Seed("pictures.tar", _tar_bytes(), _load_images),
        Seed("sae.safetensors", _sae_bytes(), load_sae),
        Seed("settings.toml", settings, lambda path: read_settings(path, path.parent)),
        Seed("list.csv", manifest.encode(), lambda path: _load_manifest(path, folder)),
        Seed("audit.json", _audit_bytes(), lambda path: parse_audit(path.read_text("utf-8", errors="replace"))),
    ]


def _load_images(path: Path) -> Any:
    return load_images(path, 0)


def _load_manifest(path: Path, folder: Path) -> Any:
    for picture in folder.glob("*.png"):
        beside = path.with_name(picture.name)
        if not beside.exists():
            beside.write_bytes(picture.read_bytes())
    return load_images(path, 0)


def _torch_bytes(content: Any, zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def _npz_bytes(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "png")
    return stream.getvalue()


def _zip_bytes() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for i in range(9):
            archive.writestr(f"{'abc'[i % 3]}/{i}.png", _png())
    return stream.getvalue()


def _tar_bytes() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for i in range(9):
            info = tarfile.TarInfo(f"{'abc'[i % 3]}/{i}.png")
            info.size = len(_png())
            archive.addfile(info, io.BytesIO(_png()))
    return stream.getvalue()


def _sae_bytes() -> bytes:
    tensors = {
        "dictionary": torch.eye(4).repeat(2, 1),
        "encoder_weight": torch.zeros(8, 4),
        "encoder_bias": torch.zeros(8),
        "decoder_bias": torch.zeros(4),
    }
    metadata = {"format": FORMAT, "variant": next(iter(VARIANTS)), "hyperparameters": "{}"}
    return save_safetensors(tensors, metadata)


def _audit_bytes() -> bytes:
    saved = Path(__file__).parents[1] / "sample_reports" / "demo" / "audit.json"
    return saved.read_bytes() if saved.is_file() else json.dumps({"schema_version": 1}).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, counts, findings = np.random.default_rng(given.seed), Counter[str](), Counter[str]()
    with TemporaryDirectory() as name:
        folder = Path(name)
        seeds, end = make_seeds(folder), time.monotonic() + given.seconds
        while time.monotonic() < end:
            seed = seeds[int(rng.integers(len(seeds)))]
            changes = [
                (KINDS[int(rng.integers(len(KINDS)))], float(rng.random()), int(rng.integers(256)))
                for _ in range(int(rng.integers(1, 5)))
            ]
            found = try_input(seed, mutate(seed.content, changes), folder / "fuzzed")
            counts[seed.name] += 1
            if found is not None:
                if found not in findings:
                    print(f"finding by {changes}:\n{found}", flush=True)
                findings[found] += 1
    print(", ".join(f"{kind} {n:,}" for kind, n in sorted(counts.items())))
    print(f"{counts.total():,} inputs, {findings.total()} findings ({len(findings)} kinds)")


if __name__ == "__main__":
    main()
