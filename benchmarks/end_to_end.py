"""The whole audit by stage, beside a bare forward pass of the same model over the same images.

    python benchmarks/end_to_end.py MODEL DATA [--arch NAME] [--out DIR]

The bare pass is decode + transform + forward + argmax with the audit's own loader, nothing kept. The claim to check is
the ratio: what the audit costs beyond looking at the images once. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from salve_audit.activations.device import choose_workers
from salve_audit.activations.images import LoaderSettings, build_loader
from salve_audit.audit.measure import measure
from salve_audit.audit.progress import Reporter, StageTime
from salve_audit.audit.run import open_cache, write_audit
from salve_audit.config import AuditConfig
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.model.checkpoint import load_classifier


def time_bare_pass(config: AuditConfig) -> tuple[float, int]:
    """(seconds, images) of decode + forward + argmax over both splits."""
    classifier = load_classifier(Path(config.model), arch=config.arch)
    images = load_images(Path(config.data), seed=config.seed, limit=config.limit)
    paths = (*images.fit.paths, *images.audit.paths)
    loader = build_loader(
        images.reader,
        paths,
        classifier.transform,
        LoaderSettings(config.batch_size, choose_workers(config.workers, torch.device("cpu"))),
    )
    model = classifier.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start, n = time.perf_counter(), 0
    with torch.inference_mode():
        for batch in loader:
            pixels = batch.images.to(memory_format=torch.channels_last)
            n += len(model(pixels).argmax(1))
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
    def stage(self, name: str, purpose: str = "") -> Iterator[StageTime]:
        self.memory.stage = name
        with super().stage(name, purpose) as time:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--arch")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    memory = MemoryWatch()
    memory.start()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(arguments.out or Path(scratch) / "report")
        config = AuditConfig(
            model=arguments.model, data=arguments.data, arch=arguments.arch, out=out, cache=Path(scratch) / "cache"
        )
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


if __name__ == "__main__":
    main()
