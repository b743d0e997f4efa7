"""Stability of a class's finding over seeds of the autoencoder (docs/method.md §4).

Latents are matched one to one across seeds by |cosine| (Hungarian). A dominant feature is stable when in at least
four of five seeds, its own counted, the matched latent has |cosine| above 0.7 and the feature's flip median lies
inside the 95 % interval of the matched latent's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from salve_audit.reliance.by_class import class_thresholds
from salve_audit.reliance.scaling import Samples
from salve_audit.reliance.survival import MedianEstimate, estimate_median, flip_times
from salve_audit.sae.stability import MATCH_THRESHOLD, match_rows
from salve_audit.tasks import TaskMap, map_threads

STABLE_SHARE = 0.8


def find_stable(
    audit: Samples,
    medians: Sequence[MedianEstimate],
    others: Sequence[tuple[Float[np.ndarray, "_ d"], Int[np.ndarray, " k"], Float[np.ndarray, " k"]]],
    tasks: TaskMap = map_threads,
) -> list[bool | None]:
    """For each class, True if its finding is stable; None without other seeds, or with too few samples for an interval.

    Args:
        audit: audit samples.
        medians: flip medians of the classes' dominant features.
        others: per other seed its dictionary, and what `match_dominant` found in it.
        tasks: runs the thresholds of classes.
    """
    if not others:
        return [None] * len(medians)
    agreeing = np.ones(len(medians), dtype=int)  # the seed itself
    couplings = [np.abs(dictionary[match].astype(np.float64)) for dictionary, match, _ in others]
    found = class_thresholds(audit, couplings, tasks)
    for coupling, thresholds, (_, _, cosine) in zip(couplings, found, others, strict=True):
        for index, (own, median) in enumerate(zip(thresholds, medians, strict=True)):
            other = estimate_median(flip_times(own, coupling[index]))
            agreeing[index] += cosine[index] > MATCH_THRESHOLD and _inside(median.median, other)
    needed = STABLE_SHARE * (1 + len(others))
    return [bool(agreeing[i] >= needed) if median.has_interval else None for i, median in enumerate(medians)]


def match_dominant(
    dictionary: Float[np.ndarray, "m d"], other: Float[np.ndarray, "o d"], latents: Int[np.ndarray, " k"]
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """The latents of another seed that the given ones are matched to, and their |cosine|; unit-norm rows.

    Where the other seed has fewer latents, those without a partner get latent 0 and |cosine| 0.
    """
    matching = match_rows(dictionary, other)
    return np.maximum(matching.partner, 0)[latents], matching.cosine[latents]


def _inside(value: float | None, estimate: MedianEstimate) -> bool:
    """True if the median is inside the other's interval; bounds that are not reached lie beyond every strength."""
    if not estimate.has_interval:
        return False
    if value is None or estimate.median is None:
        return value is None and estimate.median is None
    low = -np.inf if estimate.low is None else estimate.low
    high = np.inf if estimate.high is None else estimate.high
    return bool(low <= value <= high)
