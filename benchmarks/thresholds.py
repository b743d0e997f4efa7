"""Thresholds: time, memory and error of the exact computation beside a grid and beside brentq.

    python benchmarks/thresholds.py            # 10,000 samples, d = 512, k = 10
    python benchmarks/thresholds.py --large    # also 50,000 samples, d = 2,048, k = 1,000

Post-ReLU activations of classes along their weight rows, one latent per class. The exact row computes everything
(analytical, numerical, flip, empirical, statuses); the rivals compute the own-logit root alone, on the same samples:

* grid: 400 strengths up to the last breakpoint, first sign change, linear interpolation (the paper's procedure);
* brentq: scipy's bracketing root finder, one sample at a time, on a subset.

The error is relative to the exact root, over samples where it lies before the last breakpoint; "missed" are samples
for which the method finds no root or another one (off by more than 1 %).
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from salve_audit.inputs.head import LinearHead
from salve_audit.reliance.by_class import class_thresholds
from salve_audit.reliance.scaling import Samples

GRID = 400
BRENTQ_SAMPLES = 1000


@dataclass(frozen=True)
class World:
    samples: Samples
    coupling: np.ndarray  # (k, d)


def make_world(n: int, d: int, k: int) -> World:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(k, d)).astype(np.float32) / np.sqrt(d)
    labels = np.repeat(np.arange(k), n // k)
    acts = np.empty((len(labels), d), dtype=np.float32)
    for start in range(0, len(labels), 1000):
        part = labels[start : start + 1000]
        noise = rng.normal(size=(len(part), d), scale=0.5) - 0.2
        acts[start : start + 1000] = np.maximum(noise + 8 * weight[part], 0)
    coupling = np.abs(rng.normal(size=(k, d)))
    coupling /= np.linalg.norm(coupling, axis=1, keepdims=True)
    return World(Samples(acts, labels, LinearHead(weight, np.zeros(k, np.float32), "fc")), coupling)


def own_terms(world: World, index: int) -> tuple[np.ndarray, np.ndarray]:
    acts = world.samples.of_class(index).acts.astype(np.float64)
    return acts * world.samples.head.weight[index].astype(np.float64), world.coupling[index]


def grid_roots(world: World) -> np.ndarray:
    """First sign change of the own logit on a grid of strengths, interpolated; NaN where none is seen."""
    found = []
    for index in range(len(world.coupling)):
        terms, coupling = own_terms(world, index)
        strengths = np.linspace(0, 1 / coupling.min(), GRID)
        value = terms @ np.maximum(0, 1 - strengths[:, None] * coupling).T  # (n, g)
        at = (value <= 0).argmax(1)
        rows = np.arange(len(value))
        before, after = value[rows, at - 1], value[rows, at]
        root = strengths[at - 1] + (strengths[at] - strengths[at - 1]) * before / (before - after)
        found.append(np.where(at > 0, root, np.nan))
    return np.concatenate(found)


def brentq_roots(world: World, n: int) -> np.ndarray:
    """scipy's root finder on the first n samples; NaN where the ends do not bracket."""
    found: list[float] = []
    for index in range(len(world.coupling)):
        terms, coupling = own_terms(world, index)
        for row in terms[: max(0, n - len(found))]:

            def logit(alpha: float, row: np.ndarray = row, coupling: np.ndarray = coupling) -> float:
                return float(row @ np.maximum(0, 1 - alpha * coupling))

            last = 1 / coupling.min()
            ends = logit(0.0), logit(last * (1 - 1e-9))
            found.append(optimize.brentq(logit, 0, last * (1 - 1e-9)) if ends[0] * ends[1] < 0 else np.nan)
    return np.array(found)


def print_row(name: str, seconds: float, n: int, found: np.ndarray, exact: np.ndarray, last: np.ndarray) -> None:
    proper = exact < last * (1 - 1e-6)
    error = np.abs(found - exact)[proper] / exact[proper]
    missed = np.isnan(error) | (error > 0.01)
    middle = f"{np.median(error[~missed]):.1e}" if (~missed).any() else "-"
    print(f"{name:28s} {seconds:9.2f} {1e6 * seconds / n:11.1f} {middle:>13s} {100 * missed.mean():9.1f} %")


def run(n: int, d: int, k: int, rivals: bool) -> None:
    world = make_world(n, d, k)
    start = time.perf_counter()
    by_class = class_thresholds(world.samples, world.coupling)
    seconds = time.perf_counter() - start
    exact = np.concatenate([one.numerical for one in by_class])
    last = np.repeat(1 / world.coupling.min(1), n // k)
    print(f"\n{n:,} samples, d = {d:,}, k = {k:,}; peak memory {peak_memory():.2f} GB")
    print(f"{'method':28s} {'seconds':>9s} {'us/sample':>11s} {'median error':>13s} {'missed':>11s}")
    print_row("exact, all thresholds", seconds, n, exact, exact, last)
    if rivals:
        start = time.perf_counter()
        found = grid_roots(world)
        print_row(f"grid of {GRID}, own root only", time.perf_counter() - start, n, found, exact, last)
        start = time.perf_counter()
        found = brentq_roots(world, BRENTQ_SAMPLES)
        m = len(found)
        name = f"brentq, own root, {m:,} samples"
        print_row(name, time.perf_counter() - start, m, found, exact[:m], last[:m])


def peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also 50,000 samples, d = 2,048, k = 1,000 (minutes)")
    large = parser.parse_args().large
    run(10_000, 512, 10, rivals=True)
    if large:
        run(50_000, 2048, 1000, rivals=False)
