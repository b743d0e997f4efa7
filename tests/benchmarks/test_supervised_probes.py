"""Logistic probes of the benchmark of supervised autoencoders, and how unseen pairs are scored, beside brute force."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # the scripts import one another

from supervised_methods import fit_probes
from supervised_pairs import leave_out, tell
from supervised_worlds import Part

from salve_audit.sae.supervised_concepts import Concepts


def _part(n: int = 400) -> Part:
    """Two concepts, each a direction of four, with noise."""
    rng = np.random.default_rng(0)
    shown = rng.random((n, 2)) < 0.5
    acts = shown @ np.array([[3.0, 0, 0, 0], [0, 0, 2.0, 0]]) + rng.normal(size=(n, 4))
    return Part(acts.astype(np.float32), np.zeros(n, int), Concepts(("a", "b"), shown))


def test_probes_know_a_concept_in_pairs_that_they_never_saw() -> None:
    part = _part()
    fit = leave_out(part, 0, 1)
    assert len(fit.acts) == (~part.concepts.present.all(1)).sum()
    assert not fit.concepts.present.all(1).any()
    codes = fit_probes("logistic", fit).encode(part.acts)
    assert codes.shape == (400, 2)
    rows = np.arange(400)
    own, other = part.concepts.present.T
    asked = [(codes[i, 0], codes[j, 0]) for i in rows[own & other] for j in rows[~own]]
    brute = float(np.mean([(x > y) + 0.5 * (x == y) for x, y in asked]))
    assert np.isclose(tell(codes, part.concepts.present, (0, 1), rows), brute)
    assert brute > 0.85
