"""A small world with a known answer: activations made of sparse signed codes over a known dictionary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import SaeOutcome, train_sae

N, D, K, PLANTED = 600, 24, 4, 8
OTHERS = ("relu-l1", "topk", "signed-topk", "batchtopk", "matryoshka", "gated", "jumprelu")
QUICK = {  # settings under which a variant trains in about a second here
    "linear-l1": SaeSettings(variant="linear-l1", n_latents=16, n_seeds=3, seed=3),
    **{name: SaeSettings(variant=name, n_latents=16, n_seeds=2, seed=3) for name in OTHERS},
    "supervised": SaeSettings(variant="supervised", n_latents=16, n_seeds=2, seed=3),
    "paper": SaeSettings(variant="paper", n_latents=16, n_seeds=2, seed=3, epochs=40),
}


@dataclass(frozen=True)
class World:
    """acts (n, d), labels (n,), the head that is right on most samples, and the planted dictionary (8, d)."""

    acts: np.ndarray
    labels: np.ndarray
    head: LinearHead
    dictionary: np.ndarray


def make_world(n: int = N, d: int = D, seed: int = 0) -> World:
    """One planted row for every class, active on its samples, and four more that fire on a tenth of all samples."""
    rng = np.random.default_rng(seed)
    dictionary = np.linalg.qr(rng.normal(size=(d, PLANTED)))[0].T
    labels = np.arange(n) % K
    codes = np.zeros((n, PLANTED))
    codes[np.arange(n), labels] = rng.uniform(3, 5, n)
    codes[:, K:] = rng.normal(0, 4, (n, PLANTED - K)) * (rng.random((n, PLANTED - K)) < 0.1)
    acts = codes @ dictionary + 0.05 * rng.normal(size=(n, d)) + rng.normal(size=d)
    head = LinearHead(dictionary[:K].astype(np.float32), np.zeros(K, dtype=np.float32), "fc")
    return World(acts.astype(np.float32), labels, head, dictionary)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def train_quickly(world: World) -> Callable[[str], SaeOutcome]:
    """Variant -> its outcome on the world, trained once a session."""
    done: dict[str, SaeOutcome] = {}

    def outcome(variant: str) -> SaeOutcome:
        if variant not in done:
            done[variant] = train_sae(world.acts, world.labels, world.head, QUICK[variant])
        return done[variant]

    return outcome


@pytest.fixture(scope="session")
def quick() -> dict[str, SaeSettings]:
    """Variant -> the settings of `train_quickly`."""
    return QUICK
