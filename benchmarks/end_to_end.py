"""The whole audit by stage, beside a bare forward pass of the same model over the same images, and how it grows.

    python benchmarks/end_to_end.py MODEL DATA [MODEL DATA ...] [--arch NAME] [--out DIR]
    python benchmarks/end_to_end.py --growth n,d,k [--most-n 100000]

The bare pass is decode + transform + forward + argmax as a plain torch loop has it: float32, batches of 64, images
decoded in between, nothing kept. The claim to check is the ratio: what the audit costs beyond looking at the images
once. Audits of a network at 64 px and of one at 224 px are named one after the other.

Growth is that of everything after the pass, over images, activations and classes, on made activations: each class has
a direction, images are noisy multiples of theirs and of some of the others', the head is a least-squares fit. An
exponent of 1 is linear; times below a second are mostly constant. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from salve_audit.activations.images import LoaderSettings, build_loader
from salve_audit.audit.measure import measure
from salve_audit.audit.progress import Reporter, StageTime
from salve_audit.audit.run import open_cache, write_audit
from salve_audit.config import AuditConfig
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.model.checkpoint import load_classifier

BARE_BATCH = 64


def time_bare_pass(config: AuditConfig) -> tuple[float, int]:
    """(seconds, images) of decode + forward + argmax over both splits."""
    classifier = load_classifier(Path(config.model), arch=config.arch)
    images = load_images(Path(config.data), seed=config.seed, limit=config.limit)
    paths = (*images.fit.paths, *images.audit.paths)
    loader = build_loader(
        images.reader,
        paths,
        classifier.transform,
        LoaderSettings(BARE_BATCH, 0),
    )
    start, n = time.perf_counter(), 0
    with torch.inference_mode():
        for batch in loader:
            n += len(classifier.model(batch.images).argmax(1))
    return time.perf_counter() - start, n


class MemoryWatch(threading.Thread):
    """Peak memory of this process and all below it at the same moment, by stage, sampled five times a second.

    Proportional set sizes: a page that processes share, as a forked one and its parent do, is counted once. Peak sizes
    of children (`getrusage`) would count the parent's pages again for every child that it starts.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stage, self.peaks, self.done = "start", {"start": held_gigabytes()}, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.2):
            stage = self.stage
            self.peaks[stage] = max(self.peaks.get(stage, 0.0), held_gigabytes())


class WatchedReporter(Reporter):
    """Tells the memory's watch which stage it is."""

    def __init__(self, memory: MemoryWatch) -> None:
        super().__init__()
        self.memory = memory

    @contextmanager
    def stage(self, name: str, purpose: str = "", from_cache: bool = False) -> Iterator[StageTime]:
        self.memory.stage = name
        with super().stage(name, purpose, from_cache) as time:
            yield time


def held_gigabytes() -> float:
    """What this process and those below it hold now."""
    held, waiting = 0, [os.getpid()]
    while waiting:
        place = Path("/proc") / str(waiting.pop())
        try:
            sizes = (place / "smaps_rollup").read_text().splitlines()
            held += next(int(line.split()[1]) for line in sizes if line.startswith("Pss:"))
            for task in (place / "task").iterdir():
                waiting += [int(number) for number in (task / "children").read_text().split()]
        except (OSError, StopIteration):  # it has just ended
            continue
    return held / 1e6


@dataclass(frozen=True)
class Shape:
    """Made activations: images (as many to audit as to fit), activations of each, classes."""

    n: int = 10_000
    d: int = 512
    k: int = 10


GROWTH = {
    "n": [Shape(n=n) for n in (1_000, 10_000, 100_000)],
    "d": [Shape(n=4_000, d=d) for d in (128, 512, 2_048)],
    "k": [Shape(n=8_000, k=k) for k in (2, 10, 100, 1_000)],
}


def make_activations(shape: Shape, path: Path) -> None:
    """Writes activations of classes that share some of their features, with the head that fits them best."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((shape.k, shape.d)).astype(np.float32)
    labels = np.arange(shape.n) % shape.k
    others = rng.integers(0, shape.k, shape.n)
    strengths = rng.uniform(0.5, 1.5, (shape.n, 1)).astype(np.float32)
    noise = rng.standard_normal((shape.n, shape.d)).astype(np.float32)
    acts = np.maximum(strengths * directions[labels] + 0.4 * directions[others] + noise, 0)
    centred = acts - acts.mean(0)
    targets = np.eye(shape.k, dtype=np.float32)[labels]
    ridge = centred.T @ centred + 0.1 * shape.n * np.eye(shape.d, dtype=np.float32)
    weight = 8 * np.linalg.solve(ridge, centred.T @ targets).T
    bias = -weight @ acts.mean(0)
    np.savez(path, acts=acts, labels=labels, weight=weight.astype(np.float32), bias=bias.astype(np.float32))


def measure_growth(over: str, most_n: int) -> None:
    """Prints seconds by stage for each shape, and the exponent between the first and the last."""
    shapes = [shape for shape in GROWTH[over] if shape.n <= most_n]
    seconds: list[dict[str, float]] = []
    for shape in shapes:
        with tempfile.TemporaryDirectory() as scratch:
            make_activations(shape, Path(scratch) / "made.npz")
            watch = Reporter()
            config = AuditConfig(model=Path(scratch) / "made.npz", out=Path(scratch) / "report", use_cache=False)
            audit = measure(config, watch)
            with watch.stage("report"):
                write_audit(audit.measured(), config)
        seconds.append({**watch.seconds, "all": sum(watch.seconds.values())})
        print(f"{shape}: {seconds[-1]['all']:.1f} s", flush=True)
    sizes = [getattr(shape, over) for shape in shapes]
    print(f"\n{'stage':18s} " + " ".join(f"{f'{over} = {size:,}':>12s}" for size in sizes) + f" {'exponent':>9s}")
    for name in seconds[-1]:
        times = [each.get(name, 0.0) for each in seconds]
        slope = np.log(max(times[-1], 1e-3) / max(times[0], 1e-3)) / np.log(sizes[-1] / sizes[0])
        print(f"{name:18s} " + " ".join(f"{each:12.2f}" for each in times) + f" {slope:9.2f}")


def audit_once(model: Path, data: Path, arch: str | None, folder: str | None) -> None:
    """Prints the stages of one audit, with their peak memory, beside the bare pass."""
    memory = MemoryWatch()
    memory.start()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(folder or Path(scratch) / "report")
        config = AuditConfig(model=model, data=data, arch=arch, out=out, cache=Path(scratch) / "cache")
        watch = WatchedReporter(memory)
        audit = measure(config, watch, open_cache(config))
        with watch.stage("report"):
            write_audit(audit.measured(), config)
        memory.stage = "second audit"
        again = Reporter()
        measure(config, again, open_cache(config))
    memory.stage = "bare forward pass"
    bare, n = time_bare_pass(config)
    memory.done.set()
    print(f"{'stage':18s} {'seconds':>8s} {'x bare pass':>12s} {'peak GB':>8s}")
    for name, seconds in watch.seconds.items():
        print(f"{name:18s} {seconds:8.1f} {seconds / bare:12.2f} {memory.peaks.get(name, 0.0):8.2f}")
    rest = sum(seconds for name, seconds in watch.seconds.items() if name != "activations")
    total = sum(watch.seconds.values())
    print(f"{'all but the pass':18s} {rest:8.1f} {rest / bare:12.2f}")
    print(f"{'whole audit':18s} {total:8.1f} {total / bare:12.2f}")
    print(f"{'bare forward pass':18s} {bare:8.1f} {1:12.2f}   ({n:,} images, {n / bare:.0f}/s)")
    print(f"second audit, every stage from the cache: {sum(again.seconds.values()):.2f} s")
    print(
        f"peak memory: {max(memory.peaks.values()):.2f} GB; imported {memory.peaks['start']:.2f} GB, "
        f"second audit {memory.peaks['second audit']:.2f} GB"
    )


def main() -> None:
    """Measures the audits, and the growth, that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", type=Path, metavar="MODEL DATA")
    parser.add_argument("--arch", help="of all models")
    parser.add_argument("--out", help="folder of the report of the last audit")
    parser.add_argument("--growth", default="", help="n, d, k or several with commas")
    parser.add_argument("--most-n", type=int, default=100_000)
    arguments = parser.parse_args()
    if len(arguments.pairs) % 2:
        parser.error("each MODEL needs its DATA")
    for model, data in zip(arguments.pairs[::2], arguments.pairs[1::2], strict=True):
        print(f"\n{model.name}, {data.name}")
        audit_once(model, data, arguments.arch, arguments.out)
    for over in filter(None, arguments.growth.split(",")):
        measure_growth(over, arguments.most_n)


if __name__ == "__main__":
    main()
