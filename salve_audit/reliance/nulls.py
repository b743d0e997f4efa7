"""Null controls, by which to see whether any direction would do as well as the dominant feature (docs/method.md §4).

Two nulls for each class: the same coupling with its coordinates permuted, and the coupling of another latent that is
dominant for no class. Strengths are compared in α̂, so all draws have the same largest coupling. Reliance on the
feature is real only where its flip median lies below nearly all draws of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.reliance.margins import Rivals, find_margin_events, list_rivals, sort_coupling
from salve_audit.reliance.scaling import Samples
from salve_audit.results import NullControl


@dataclass(frozen=True)
class NullSettings:
    """Draws per null, and correct samples per class that are used at most."""

    n_draws: int = 49
    n_samples: int = 100


def control_class(
    own: Samples,
    target: int,
    dictionary: Float[np.ndarray, "m d"],
    latents: tuple[int, Int[np.ndarray, " o"]],
    rng: np.random.Generator,
    settings: NullSettings,
) -> NullControl:
    """Both nulls for one class.

    Args:
        own: audit samples of the class.
        target: its index.
        dictionary: one decoder direction per latent.
        latents: the dominant latent, and those that are dominant for no class.
        rng: draws samples, permutations and latents.
        settings: how many of each.
    """
    weight, bias = own.head.weight.astype(np.float64), own.head.bias.astype(np.float64)
    acts, rivals = _draw_correct(own, target, rng, settings.n_samples), list_rivals(weight, bias, target)

    def median(coupling: Float[np.ndarray, " d"]) -> float:
        return flip_median(acts, rivals, coupling)

    dominant, others = latents
    coupling = np.abs(dictionary[dominant].astype(np.float64))
    observed = median(coupling)
    permuted = np.array([median(rng.permutation(coupling)) for _ in range(settings.n_draws)])
    chosen = rng.permutation(others)[: settings.n_draws]
    random = np.array([median(np.abs(dictionary[latent].astype(np.float64))) for latent in chosen])
    return NullControl(
        n_samples=len(acts),
        observed=_finite(observed),
        permuted_median=_median(permuted),
        permuted_p=_p_value(observed, permuted),
        random_median=_median(random),
        random_p=_p_value(observed, random),
        n_draws=settings.n_draws,
        n_random=len(random),
    )


def _draw_correct(own: Samples, target: int, rng: np.random.Generator, n_samples: int) -> Float[np.ndarray, "r d"]:
    """Float64 activations of at most so many samples that are predicted as the class, in their order."""
    acts = np.asarray(own.acts, dtype=np.float64)
    logits = acts @ own.head.weight.astype(np.float64).T + own.head.bias.astype(np.float64)
    rivals = np.delete(logits, target, axis=1).max(1, initial=-np.inf)
    correct = np.flatnonzero(logits[:, target] > rivals)
    return acts[np.sort(rng.permutation(correct)[:n_samples])]


def beyond_null(null: NullControl, level: float = 0.05) -> bool | None:
    """True if the feature's flip median is below both nulls; None where neither has enough draws for this level."""
    draws = ((null.permuted_p, null.n_draws), (null.random_p, null.n_random))
    judged = [p <= level for p, n in draws if p is not None and 1 / (1 + n) <= level]
    return all(judged) if judged else None


def flip_median(acts: Float[np.ndarray, "n d"], rivals: Rivals, coupling: Float[np.ndarray, " d"]) -> float:
    """Kaplan-Meier median of the flip threshold in α̂ over correct samples; inf: not reached, nan: no samples."""
    if not len(acts):
        return float("nan")
    flip = np.sort(find_margin_events(acts, rivals, sort_coupling(coupling)).flip)
    return float(flip[(len(flip) + 1) // 2 - 1])


def _p_value(observed: float, draws: Float[np.ndarray, " t"]) -> float | None:
    """Share of draws that flip the class at least as early; None without samples or draws."""
    if np.isnan(observed) or not len(draws):
        return None
    return float((1 + (draws <= observed).sum()) / (1 + len(draws)))


def _median(draws: Float[np.ndarray, " t"]) -> float | None:
    return _finite(float(np.sort(draws)[len(draws) // 2])) if len(draws) else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
