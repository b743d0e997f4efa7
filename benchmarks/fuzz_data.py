"""Fuzzes the readers of data sets: valid files are damaged at random; only a SalveError of one line may come out.

python benchmarks/fuzz_data.py [MINUTES] [SEED]

Prints per format how many were refused, read, or read in part, and every finding with the seed that shows it again.
"""

from __future__ import annotations

import collections
import importlib.util
import logging
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from salve_audit.errors import SalveError
from salve_audit.inputs import ImageSet, load_images
from salve_audit.inputs.picture import decode_picture

WORLD = Path(__file__).resolve().parents[1] / "tests" / "cli" / "test_datasets_hostile.py"


def load_world() -> ModuleType:
    """The writers of small valid files that the tests use."""
    spec = importlib.util.spec_from_file_location("fuzz_world", WORLD)
    assert spec is not None, WORLD
    assert spec.loader is not None, WORLD
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def writers(world: ModuleType) -> dict[str, Callable[[Path], object]]:
    """File name -> what writes a valid one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def arrow(path: Path) -> None:
        with pa.ipc.new_stream(path, world.table().schema) as writer:
            writer.write_table(world.table())

    def idx(path: Path) -> None:
        world.idx(path, (6, 4, 4), bytes(96))
        world.idx(path.with_name("train-labels-idx1-ubyte"), (6,), world.LABELS.astype(np.uint8).tobytes())

    return {
        "x.zip": world.make_zip,
        "x.tar": world.make_tar,
        "x.tar.gz": lambda path: world.make_tar(path, mode="w:gz"),
        "x.npz": lambda path: world.npz(path, images=world.IMAGES, labels=world.LABELS),
        "x.parquet": lambda path: pq.write_table(world.table(), path),
        "x.arrow": arrow,
        "x.jsonl": lambda path: path.write_text(world.as_jsonl(world.ROWS)),
        "x.csv": lambda path: path.write_text("path,label,split\na.png,a,\nb.png,a,\nc.png,b,\nd.png,b,\n"),
        "train-images-idx3-ubyte": idx,
    }


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One to five flipped bits, extreme bytes, cuts, insertions and deletions."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        at, kind = int(rng.integers(0, max(len(changed), 1))), int(rng.integers(0, 5))
        if kind == 0 and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1 and changed:
            changed[min(at, len(changed) - 1)] = int(rng.choice([0, 1, 127, 128, 255]))
        elif kind == 2:
            changed = changed[:at]
        elif kind == 3:
            changed[at:at] = rng.bytes(int(rng.integers(1, 9)))
        else:
            changed[at : at + int(rng.integers(1, 16))] = b""
    return bytes(changed)


def read_all(path: Path) -> str:
    """Reads and decodes every picture; says what came of it."""
    try:
        images = load_images(path, seed=0)
    except SalveError as error:
        return "refused" if "\n" not in str(error) else "FINDING: an error of several lines"
    keys = images.fit.paths + images.audit.paths
    return "read" if sum(is_read(images, key) for key in keys) == len(keys) else "read in part"


def is_read(images: ImageSet, key: str) -> bool:
    """Whether a picture can be read and decoded."""
    try:
        decode_picture(images.pictures.read(key), key, 3, 32)
    except (OSError, ValueError, SalveError):
        return False
    return True


def main(minutes: float, seed: int) -> None:
    logging.disable(logging.CRITICAL)
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    deadline, slowest = time.monotonic() + 60 * minutes, 0.0
    with tempfile.TemporaryDirectory() as folder:
        valid = {}
        for name, write in writers(load_world()).items():
            path = Path(folder) / name.replace(".", "-") / name
            path.parent.mkdir()
            write(path)
            valid[path] = path.read_bytes()
        while time.monotonic() < deadline:
            seed += 1
            for path, content in valid.items():
                path.write_bytes(damage(content, np.random.default_rng(seed)))
                began = time.perf_counter()
                try:
                    outcome = read_all(path)
                except Exception as error:
                    traceback.print_exc()
                    outcome = f"FINDING: {type(error).__name__} at seed {seed}"
                found[path.name][outcome] += 1
                slowest = max(slowest, time.perf_counter() - began)
    for name, counts in found.items():
        print(f"{name:24} {', '.join(f'{outcome}: {n:,}' for outcome, n in sorted(counts.items()))}")
    findings = sum(n for counts in found.values() for outcome, n in counts.items() if outcome.startswith("FINDING"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    total = sum(counts.total() for counts in found.values())
    print(f"{findings} findings in {total:,} files; slowest {slowest:.2f} s, peak {peak:,.0f} MiB")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
