"""Recovery after an edit: the distance of edited images from their class (docs/method.md §5.5).

With the edit in place, each method at the strength that takes the class to the same accuracy: the smallest change of
the activation that leaves the code of the class's dominant feature as it is and brings the class back as the prediction
(post-intervention recovery, arXiv 2606.18322; here with an exact optimum instead of a gradient search). The yardstick
is how far images of other classes are from the class with no edit in place, under the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.registry import UNEDITED
from salve_audit.results import ClassRecovery, Recovery, RecoveryShare
from salve_audit.stress.intervals import wilson_bounds
from salve_audit.stress.matched_edits import MatchedEdits
from salve_audit.stress.population import Population, draw_rows
from salve_audit.stress.restoring import RestoringProblem

BUDGETS = (0.05, 0.1, 0.2)  # of the activation's norm
PER_CLASS = 50
PER_CLASS_OF_MANY = 10  # from `MANY` outputs on, as a problem then has hundreds of constraints
MANY = 100
CLASSES_OF_MANY = 20  # the most fragile ones


@dataclass(frozen=True)
class DrawnSamples:
    """Samples of one class for all methods alike.

    Attributes:
        index, name: of the class.
        encoder_row: (d,), the encoder row of its dominant feature.
        own: rows of the population, of the class and right before any edit.
        foreign: rows of other classes that are not taken for it.
    """

    index: int
    name: str
    encoder_row: Float[np.ndarray, " d"]
    own: Int[np.ndarray, " rows"]
    foreign: Int[np.ndarray, " rows"]


def sample_size(n_classes: int) -> int:
    """Samples per class, at most."""
    return PER_CLASS if n_classes < MANY else PER_CLASS_OF_MANY


def draw_recovery_samples(
    population: Population, encoder_rows: Float[np.ndarray, "k d"], names: Sequence[str], rng: np.random.Generator
) -> list[DrawnSamples]:
    """At most `sample_size` own and foreign samples per class, foreign ones evenly over the others.

    Of all examined classes, or of `CLASSES_OF_MANY` where a problem has hundreds of constraints.
    """
    samples = population.samples
    n = sample_size(len(names))
    top = samples.logits.argmax(axis=0)
    own = samples.logits[samples.labels, np.arange(len(samples.labels))]
    right = np.count_nonzero(samples.logits >= own, axis=0) == 1
    drawn = []
    classes = population.classes if len(names) < MANY else population.classes[:CLASSES_OF_MANY]
    for index in classes:
        candidates = np.flatnonzero(right & (samples.labels == index))
        foreign = np.flatnonzero((samples.labels != index) & (top != index))
        # evenly: the classes in turn, each in random order
        turn = np.empty(len(foreign))
        for label in np.unique(samples.labels[foreign]).tolist():
            members = np.flatnonzero(samples.labels[foreign] == label)
            turn[members] = rng.permutation(len(members)) + rng.random()
        chosen = np.sort(foreign[np.argsort(turn, kind="stable")[:n]])
        drawn.append(DrawnSamples(index, names[index], encoder_rows[index], draw_rows(candidates, n, rng), chosen))
    return drawn


def measure_recovery(
    population: Population, edits: MatchedEdits, drawn: Sequence[DrawnSamples]
) -> tuple[Recovery, ...]:
    """The yardstick, then every method of the comparison."""
    if not drawn or not edits.methods:
        return ()
    measured = [(samples, _sizes(population, population.head, samples, samples.foreign)) for samples in drawn]
    recoveries = [_summarise(UNEDITED.key, measured, 0)]
    for method in edits.methods:
        reached = [samples for samples in drawn if edits.reaches(method, samples.index)]
        measured = [
            (samples, _sizes(population, edits.edit(method, samples.index), samples, samples.own))
            for samples in reached
        ]
        recoveries.append(_summarise(method, measured, len(drawn) - len(reached)))
    return tuple(recoveries)


def _sizes(
    population: Population, head: AffineHead, samples: DrawnSamples, rows: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, " rows"]:
    """Distance over norm of every sample; 0: the class wins as it is."""
    acts = population.samples.acts[rows]
    norms = np.linalg.norm(acts, axis=1)
    distances = RestoringProblem(head, samples.index, samples.encoder_row).distances(acts)
    return np.asarray(distances / np.where(norms > 0, norms, 1.0))


def _summarise(
    method: str, measured: Sequence[tuple[DrawnSamples, Float[np.ndarray, " rows"]]], n_unmatched: int
) -> Recovery:
    every = np.concatenate([np.empty(0), *(sizes for _, sizes in measured)])
    away = every[every > 0]
    median, low, high = median_bounds(away)
    return Recovery(
        method=method,
        n_classes=len(measured),
        n_unmatched=n_unmatched,
        n=len(away),
        n_kept=len(every) - len(away),
        n_never=int(np.isinf(away).sum()),
        median=median,
        low=low,
        high=high,
        shares=_shares(away),
        classes=tuple(_of_class(samples.name, sizes[sizes > 0]) for samples, sizes in measured),
    )


def _of_class(name: str, sizes: Float[np.ndarray, " n"]) -> ClassRecovery:
    return ClassRecovery(name, len(sizes), int(np.isinf(sizes).sum()), median_bounds(sizes)[0])


def _shares(sizes: Float[np.ndarray, " n"]) -> tuple[RecoveryShare, ...]:
    if not len(sizes):
        return ()
    shares = np.array([(sizes <= budget).mean() for budget in BUDGETS])
    low, high = wilson_bounds(shares, np.full(len(shares), float(len(sizes))))
    return tuple(RecoveryShare(*map(float, share)) for share in zip(BUDGETS, shares, low, high, strict=True))


def median_bounds(sizes: Float[np.ndarray, " n"]) -> tuple[float | None, float | None, float | None]:
    """Median with its 95 % interval by order statistics (exact for any distribution); None: infinite, or no sample.

    Under 6 samples no two of them bound the median at 95 %, and the bounds are None.
    """
    n = len(sizes)
    if not n:
        return None, None, None
    ordered = np.sort(sizes)
    median = _finite(ordered[(n - 1) // 2 : n // 2 + 1].mean())
    below = int(stats.binom.ppf(0.025, n, 0.5))  # fewer than so many lie below the median with at most 2.5 %
    if n < 6 or below < 1:
        return median, None, None
    return median, _finite(ordered[below - 1]), _finite(ordered[n - below])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
