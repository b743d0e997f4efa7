"""Time and memory of every stage by the number of images, on made activations, with growth exponents.

::

    python benchmarks/scale.py --sizes 10000 100000 1000000        # d = 2,048, k = 1,000; 8 GB of disk at a million

Activations come from a memory-mapped file as after a backbone pass; there are no images, so that what is measured is
all that follows the pass. Memory is the highest that the process holds of its own (RssAnon: what an audit needs) and
with pages of mapped files (VmHWM: the system takes these back when it needs them). Time is that of the clock and, in
brackets, of all cores, which a busy machine changes little. An exponent of 1 is core time or memory in proportion to n.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from salve_audit.activations.shards import Progress, npy_header
from salve_audit.activations.store import Activations, ActivationSplit
from salve_audit.audit.assemble import StageResults, assemble
from salve_audit.audit.line import AUTOENCODER, INTERVENTIONS, RELIANCE, STRESS
from salve_audit.audit.progress import Reporter
from salve_audit.audit.samples import describe_removals, samples_bytes
from salve_audit.audit.stage_cache import StageCache
from salve_audit.audit.stage_runner import Stage, StageRunner
from salve_audit.audit.subject import Subject
from salve_audit.config import AuditConfig
from salve_audit.evidence.stage import absent_evidence
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.results import ModelInfo

RANK, BLOCK, FIT_SHARE = 256, 8192, 0.6
STAGES: tuple[Stage, ...] = (AUTOENCODER, RELIANCE, INTERVENTIONS, STRESS)


@dataclass
class Cost:
    """Seconds of the clock and of all cores, and bytes at most: the process's own, and with mapped files."""

    seconds: float = 0.0
    core_seconds: float = 0.0
    own: int = 0
    resident: int = 0


@dataclass
class Measured:
    """Costs by stage, and the sizes of what is written."""

    costs: dict[str, Cost] = field(default_factory=dict)
    audit_json: int = 0
    samples: int = 0


def make_activations(path: Path, n: int, d: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, LinearHead]:
    """Rectified sums of a few hundred directions, some of them a class's own, memory-mapped; labels and a head."""
    rng = np.random.default_rng(seed)
    rank = min(RANK, d)
    directions = np.maximum(rng.normal(size=(rank, d)), 0).astype(np.float32)
    loads = (rng.random((k, rank)) < 0.08).astype(np.float32)  # each class by some twenty of them
    labels = np.arange(n) % k
    with path.open("wb") as stream:
        stream.write(npy_header(Progress(n, n, 0, d)))
        for start in range(0, n, BLOCK):
            own = labels[start : start + BLOCK]
            codes = loads[own] * rng.gamma(2.0, 0.5, (len(own), rank)) + 0.15 * rng.random((len(own), rank))
            acts = codes.astype(np.float32) @ directions + 0.3 * rng.standard_normal((len(own), d), np.float32)
            stream.write(np.maximum(acts, 0).data)
    means = loads @ directions
    centred = means - means.mean(0)
    weight = (centred / np.linalg.norm(centred, axis=1, keepdims=True)).astype(np.float32)
    bias = -0.5 * np.einsum("kd,kd->k", weight, means).astype(np.float32)
    return np.load(path, mmap_mode="r"), labels, LinearHead(weight, bias, "head")


def make_subject(path: Path, n: int, d: int, k: int) -> Subject:
    """A subject without images."""
    acts, labels, head = make_activations(path, n, d, k)
    n_fit = int(FIT_SHARE * n)
    names = tuple(f"val/{row:08d}.jpg" for row in range(n))
    splits = [ActivationSplit(acts[rows], labels[rows], names[rows]) for rows in (slice(n_fit), slice(n_fit, n))]
    activations = Activations(*splits, head, None, f"made {n} {d} {k}", "", False, ())
    model = ModelInfo("made", "none (arrays)", "made", "head", None, d, k, head.weight.size, None)
    classes = tuple(f"class {index:04d}" for index in range(k))
    return Subject(activations, classes, model, "", "made", "made", False, ())


@contextmanager
def measuring(cost: Cost) -> Iterator[None]:
    """Time and memory of a block; memory is looked at fifty times a second."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            cost.own = max(cost.own, _status("RssAnon"))

    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    watcher, began, worked = threading.Thread(target=watch, daemon=True), time.perf_counter(), time.process_time()
    watcher.start()
    try:
        yield
    finally:
        cost.seconds, cost.core_seconds = time.perf_counter() - began, time.process_time() - worked
        done.set()
        watcher.join()
        cost.own = max(cost.own, _status("RssAnon"))
        cost.resident = _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def measure(folder: Path, n: int, d: int, k: int, options: argparse.Namespace, found: Measured) -> None:
    """All stages on `n` images; `found` has those that were done, whatever ends it."""
    config = AuditConfig(model="made.npz", evidence="off", sae=options.sae, sae_budget=options.sae_budget)
    subject = make_subject(folder / "acts.npy", n, d, k)
    runner = StageRunner(config, subject, StageCache(None, 0), Reporter())
    for stage in STAGES:
        cost = Cost()
        with measuring(cost):
            runner.run(stage)
        found.costs[stage.name] = cost  # not of one that failed
        print(f"  n = {n:,}: {stage.name} {cost.seconds:.1f} s, {cost.own / 1e9:.2f} GB", file=sys.stderr, flush=True)
    results = runner.results
    cost = found.costs["results"] = Cost()
    with measuring(cost):
        reliance = results[RELIANCE.name]
        removals = describe_removals(
            absent_evidence(reliance.classes, "no images"), len(subject.activations.audit.labels), k
        )
        found.samples = len(samples_bytes(subject.activations.audit, reliance.samples, subject.classes, removals))
        stages = StageResults(
            subject,
            results[AUTOENCODER.name].info,
            "",
            reliance,
            results[INTERVENTIONS.name],
            "cpu",
            results[STRESS.name],
        )
        found.audit_json = len(assemble(config, stages).to_json().encode())


def print_table(sizes: list[int], found: list[Measured]) -> None:
    """A line per stage: seconds and gigabytes by size, and exponents over the last two sizes."""
    print("| stage | " + " | ".join(f"n = {n:,}" for n in sizes) + " | time ~ n^ | memory ~ n^ |")
    print("|---" * (len(sizes) + 3) + "|")
    for name in found[0].costs:
        costs = [each.costs.get(name, Cost()) for each in found]
        cells = [
            f"{c.seconds:.0f} s ({c.core_seconds:.0f}), {c.own / 1e9:.2f} GB ({c.resident / 1e9:.2f})" for c in costs
        ]
        grown = ["", ""]
        if len(sizes) > 1 and costs[-1].core_seconds and costs[-2].core_seconds:
            step = math.log(sizes[-1] / sizes[-2])
            ratios = (costs[-1].core_seconds / costs[-2].core_seconds, costs[-1].own / costs[-2].own)
            grown = [f"{math.log(ratio) / step:.2f}" for ratio in ratios]
        print(f"| {name} | {' | '.join(cells)} | {grown[0]} | {grown[1]} |")
    written = [f"{each.audit_json / 1e6:.1f} MB, {each.samples / 1e6:.1f} MB" for each in found]
    print(f"| audit.json, samples.parquet | {' | '.join(written)} | | |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--sae", default="auto")
    parser.add_argument("--sae-budget", type=float, default=None)
    parser.add_argument("--work", default=None, help="a folder with room for the activations")
    parser.add_argument("-v", action="store_true")
    options = parser.parse_args()
    if options.v:
        logging.basicConfig(level=logging.INFO, format="%(relativeCreated)8d %(name)s %(message)s")
    found = list[Measured]()
    try:
        for n in options.sizes:
            found.append(Measured())
            with TemporaryDirectory(dir=options.work) as folder:
                measure(Path(folder), n, options.d, options.k, options, found[-1])
    finally:
        print_table(options.sizes[: len(found)], found)


if __name__ == "__main__":
    main()
