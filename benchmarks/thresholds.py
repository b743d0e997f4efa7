"""Thresholds: time, memory and error of the exact computation beside a grid and beside brentq.

    python benchmarks/thresholds.py            # 10,000 samples, d = 512, k = 10
    python benchmarks/thresholds.py --large    # also 50,000 samples, d = 2,048, k = 1,000

Post-ReLU activations of classes along their weight rows, one latent per class. The exact row computes everything
(analytical, numerical, flip, empirical, statuses); the rivals compute the own-logit root alone, on the same samples:

* grid: 400 strengths up to the last breakpoint, first sign change, linear interpolation (the paper's procedure);
* brentq: scipy's root finder inside the grid's first bracket, one sample at a time, on a subset.

The reference is a walk over all breakpoints in extended precision (80 bits), on 20 samples of each class (of the first
50 classes). Errors are relative to it, over samples whose root lies before the last breakpoint; "missed" are samples
for which a method finds no root or another one (off by more than 1 %).
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.reliance.by_class import class_thresholds
from salve_audit.reliance.scaling import Samples

GRID = 400
REFERENCE_SAMPLES = 20  # of each class


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


def reference_roots(world: World) -> tuple[np.ndarray, np.ndarray]:
    """(rows, roots) by brute force: the logit at every breakpoint, then the root on the first piece that crosses."""
    rows, roots = [], []
    for index in range(min(50, len(world.coupling))):
        terms, coupling = own_terms(world, index)
        at = np.flatnonzero(world.samples.labels == index)[:REFERENCE_SAMPLES]
        order = np.argsort(-coupling)
        long_terms = terms[: len(at), order].astype(np.longdouble)
        breakpoints = np.concatenate([[0], 1 / coupling[order].astype(np.longdouble)])
        scale = np.maximum(0, 1 - breakpoints[:, None] * coupling[order])  # (p, d)
        scale *= np.arange(len(order)) >= np.arange(len(breakpoints))[:, None]  # gone at its own breakpoint, exactly
        value = long_terms @ scale.T  # (n, p)
        for row, values in zip(at, value, strict=True):
            hit = np.flatnonzero(values[1:] <= 0)
            if values[0] > 0 and len(hit):
                a, b = values[hit[0]], values[hit[0] + 1]
                low, high = breakpoints[hit[0]], breakpoints[hit[0] + 1]
                rows.append(row)
                roots.append(float(low + (high - low) * a / (a - b)))
    return np.array(rows), np.array(roots)


def grid_values(terms: np.ndarray, coupling: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(strengths, logits (n, g), index of the first nonpositive one or 0)."""
    strengths = np.linspace(0, 1 / coupling.min(), GRID)
    value = terms @ np.maximum(0, 1 - strengths[:, None] * coupling).T
    return strengths, value, (value <= 0).argmax(1)


def grid_roots(world: World) -> np.ndarray:
    """First sign change of the own logit on a grid of strengths, interpolated; NaN where none is seen."""
    thresholds = []
    for index in range(len(world.coupling)):
        strengths, value, at = grid_values(*own_terms(world, index))
        rows = np.arange(len(value))
        before, after = value[rows, at - 1], value[rows, at]
        root = strengths[at - 1] + (strengths[at] - strengths[at - 1]) * before / (before - after)
        thresholds.append(np.where(at > 0, root, np.nan))
    return np.concatenate(thresholds)


def brentq_roots(world: World) -> np.ndarray:
    """scipy's root finder inside the grid's first bracket, on REFERENCE_SAMPLES of each class; NaN elsewhere."""
    roots = np.full(len(world.samples.labels), np.nan)
    for index in range(len(world.coupling)):
        terms, coupling = own_terms(world, index)
        rows = np.flatnonzero(world.samples.labels == index)[:REFERENCE_SAMPLES]
        strengths, _, at = grid_values(terms[: len(rows)], coupling)
        for row, term, hit in zip(rows, terms, at, strict=False):

            def logit(alpha: float, term: np.ndarray = term, coupling: np.ndarray = coupling) -> float:
                return float(term @ np.maximum(0, 1 - alpha * coupling))

            if hit and logit(strengths[hit - 1]) * logit(strengths[hit]) < 0:
                roots[row] = optimize.brentq(logit, strengths[hit - 1], strengths[hit])
    return roots


def print_row(name: str, seconds: float, n: int, thresholds: np.ndarray, world: World) -> None:
    rows, exact = reference_roots(world)
    last = 1 / world.coupling.min(1)[world.samples.labels[rows]]
    proper = exact < last * (1 - 1e-6)
    error = np.abs(thresholds[rows] - exact)[proper] / exact[proper]
    missed = np.isnan(error) | (error > 0.01)
    worst = f"{error[~missed].max():.1e}" if (~missed).any() else "-"
    print(f"{name:30s} {seconds:9.2f} {1e6 * seconds / n:11.1f} {worst:>13s} {100 * missed.mean():9.1f} %")


def run(n: int, d: int, k: int, rivals: bool) -> None:
    world = make_world(n, d, k)
    start = time.perf_counter()
    by_class = class_thresholds(world.samples, [world.coupling])[0]
    seconds = time.perf_counter() - start
    print(f"\n{n:,} samples, d = {d:,}, k = {k:,}; peak memory {peak_memory():.2f} GB")
    print(f"{'method':30s} {'seconds':>9s} {'us/sample':>11s} {'largest error':>13s} {'missed':>11s}")
    print_row(
        "exact, all thresholds",
        seconds,
        n,
        np.concatenate([class_result.numerical for class_result in by_class]),
        world,
    )
    if rivals:
        start = time.perf_counter()
        roots = grid_roots(world)
        print_row(f"grid of {GRID}, own root only", time.perf_counter() - start, n, roots, world)
        start = time.perf_counter()
        roots = brentq_roots(world)
        print_row("brentq in it, own root only", time.perf_counter() - start, REFERENCE_SAMPLES * k, roots, world)


def peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also 50,000 samples, d = 2,048, k = 1,000 (minutes)")
    large = parser.parse_args().large
    run(10_000, 512, 10, rivals=True)
    if large:
        run(50_000, 2048, 1000, rivals=False)
