"""What ``--sae auto`` chooses, and in what time: real activations and made ones, and how the time grows.

    python benchmarks/sae_choice.py --acts ACTS.npz [ACTS.npz ...]
    python benchmarks/sae_choice.py --made 10000x2048x100 [NxDxK ...]
    python benchmarks/sae_choice.py --growth

It uses only what older versions have too: with PYTHONPATH set to a checkout of one, it prints that version's rows.
Run it on an otherwise idle machine. Exponents are the slopes of log time over log size between the first and the last
size.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.metrics import measure_quality
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae

GROWTH = {"n": (1_000, 10_000, 100_000), "d": (128, 512, 2_048), "k": (2, 20, 200, 1_000)}
AT = {"n": 10_000, "d": 512, "k": 20}
N_AUDIT, MOST_FITTED = 2_000, 8_000
Arrays = dict[str, np.ndarray]


def make_activations(n: int, d: int, k: int, seed: int = 0) -> Arrays:
    """ReLU of sums of sparse positive features: some of a class's own, some shared, and noise; a ridge head."""
    rng, n_features = np.random.default_rng(seed), max(60, 3 * k if k <= 100 else k + 200)
    n_all = n + N_AUDIT
    labels = np.arange(n_all) % k
    features = rng.normal(size=(n_features, d)) * 8 / math.sqrt(d)
    own = np.abs(rng.normal(size=(k, n_features))) * (rng.random((k, n_features)) < min(0.25, 12 / n_features)) * 3
    acts = np.empty((n_all, d), np.float32)
    for start in range(0, n_all, 5_000):
        of = labels[start : start + 5_000]
        fires = rng.random((len(of), n_features)) < min(0.2, 10 / n_features)
        codes = np.abs(rng.normal(size=fires.shape)) * fires + own[of] * rng.gamma(4, 0.25, size=fires.shape)
        acts[start : start + 5_000] = np.maximum(0, 0.3 * codes @ features + 0.15 * rng.normal(size=(len(of), d)))
    centre, fitted = (
        acts[: min(n, MOST_FITTED)].mean(0, dtype=np.float64),
        acts[: min(n, MOST_FITTED)].astype(np.float64),
    )
    targets = np.eye(k)[labels[: len(fitted)]] - 1 / k
    moments = (fitted - centre).T @ (fitted - centre)
    weight = 8 * np.linalg.solve(moments + 1e-2 * np.trace(moments) / d * np.eye(d), (fitted - centre).T @ targets).T
    return {
        "fit_acts": acts[:n],
        "fit_labels": labels[:n],
        "audit_acts": acts[n:],
        "audit_labels": labels[n:],
        "head_weight": weight.astype(np.float32),
        "head_bias": (8 / k - weight @ centre).astype(np.float32),
    }


def train_by_default(name: str, arrays: Arrays) -> float:
    """Prints a row; seconds."""
    head = LinearHead(arrays["head_weight"], arrays["head_bias"], "head")
    start = time.perf_counter()
    outcome = train_sae(arrays["fit_acts"], arrays["fit_labels"], head, SaeSettings())
    seconds, info = time.perf_counter() - start, outcome.info
    quality = measure_quality(outcome.sae, arrays["audit_acts"], arrays["audit_labels"], head)
    n, d = arrays["fit_acts"].shape
    stability = 0.0 if info.stability is None else info.stability.matched_cosine
    print(
        f"{name:14s} n {n:6d} d {d:4d} k {head.n_classes:4d} {seconds:7.1f} s  {info.variant}, {info.n_latents} "
        f"latents  R2 {quality.r2:.3f}  L0 {quality.l0:6.1f}  kept {100 * quality.accuracy_kept:6.2f} %  stability "
        f"{stability:.3f}  {'meets' if info.satisfied else 'misses'} its goal",
        flush=True,
    )
    return seconds


def measure_growth() -> None:
    for axis, sizes in GROWTH.items():
        seconds = [train_by_default(f"{axis} = {size}", make_activations(**{**AT, axis: size})) for size in sizes]
        exponent = math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])
        print(f"time grows with {axis} to the power of {exponent:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acts", type=Path, nargs="+", default=[])
    parser.add_argument("--made", nargs="+", default=[], metavar="NxDxK")
    parser.add_argument("--growth", action="store_true")
    options = parser.parse_args()
    train_by_default("(warming up)", make_activations(300, 32, 3))
    for path in options.acts:
        with np.load(path) as arrays:
            train_by_default(path.stem, dict(arrays))
    for text in options.made:
        n, d, k = map(int, text.split("x"))
        train_by_default("made", make_activations(n, d, k))
    if options.growth:
        measure_growth()


if __name__ == "__main__":
    main()
