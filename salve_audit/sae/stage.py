"""The stage as the audit calls it: fit activations in, the chosen autoencoder with its frontier and stability out."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.inputs.head import LinearHead
from salve_audit.results import SaeInfo, SaePoint, Stability
from salve_audit.sae.metrics import Quality
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.parameters import Parameters
from salve_audit.sae.problem import Problem, prepare_problem
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stability import assess_stability
from salve_audit.sae.tuning import GROWTH, Candidate, choose, satisfies, search_path

logger = logging.getLogger(__name__)

MAX_CORRECTIONS = 3
CORRECTION = GROWTH**0.25  # λ is divided by it: the distance of neighbouring points at the end of the search


@dataclass(frozen=True)
class SaeOutcome:
    """The chosen autoencoder.

    Attributes:
        sae: what the later stages use.
        info: for audit.json; every number of it is measured on the held-out validation part of the fit split.
        seeds: all seeds at the chosen sparsity; ``seeds[0]`` is `sae`.
    """

    sae: TrainedSae
    info: SaeInfo
    seeds: tuple[TrainedSae, ...]


def train_sae(
    acts: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], head: LinearHead, settings: SaeSettings
) -> SaeOutcome:
    """Trains on 85 % of the fit split, stratified by class; the other 15 % choose the sparsity and give every number.

    The same activations, settings and machine (and number of threads) give the same bytes.

    Args:
        acts: (n, d) float32 activations of the fit split, memory-mapped or not.
        labels: (n,) class indices in 0..k-1.
        head: the proven head, (k, d).
        settings: see `SaeSettings`.

    Raises:
        DataError: NaN or infinite values, activations without variance, too few samples to hold any out.
        UsageError: no such variant.
        NothingMeasuredError: training diverged.
    """
    problem = prepare_problem(acts, labels, head, settings)
    sparsity = settings.sparsity if settings.sparsity is not None else problem.variant.default_sparsity
    path: list[Candidate] = []
    if sparsity is None:
        path = search_path(problem.visit, problem.n_latents, head.d)
        sparsity = choose(path).sparsity
    attainable = any(satisfies(one.quality) for one in path)
    parameters, sparsity = _train_seeds(problem, sparsity, attainable=attainable)
    seeds = tuple(problem.canonical(parameters, sparsity, i) for i in range(problem.n_seeds))
    quality = problem.measure(seeds[0])
    points = [_point(problem, one.sparsity, one.quality) for one in path]
    points.append(_point(problem, sparsity, quality, chosen=True))
    frontier = tuple(sorted(points, key=lambda one: (one.sparsity, one.chosen)))
    return SaeOutcome(seeds[0], _info(points[-1], quality, assess_stability(seeds), frontier), seeds)


def _train_seeds(problem: Problem, sparsity: float, *, attainable: bool) -> tuple[Parameters, float]:
    """All seeds from scratch at the chosen λ, with the full recipe; (parameters, λ).

    The path's points are trained briefly, so the rule is asked again: where the path could satisfy it and the result
    does not, λ is lowered and training continued, at most three times.
    """
    parameters = problem.train_from(None, sparsity, problem.recipe, problem.n_seeds)
    for _ in range(MAX_CORRECTIONS if attainable else 0):
        if satisfies(problem.measure(problem.canonical(parameters, sparsity))):
            break
        sparsity /= CORRECTION
        logger.info("the rule is missed after full training; λ lowered to %.4g", sparsity)
        parameters = problem.train_from(parameters, sparsity, problem.search_recipe, problem.n_seeds)
    return parameters, sparsity


def _point(problem: Problem, sparsity: float, quality: Quality, *, chosen: bool = False) -> SaePoint:
    return SaePoint(
        variant=problem.variant.name,
        n_latents=problem.n_latents,
        sparsity=sparsity,
        r2=quality.r2,
        l0=quality.l0,
        n_dead=quality.n_dead,
        accuracy=quality.accuracy_reconstructed,
        accuracy_kept=quality.accuracy_kept,
        logit_kl=quality.logit_kl,
        mean_abs_code=quality.mean_abs_code,
        chosen=chosen,
    )


def _info(point: SaePoint, quality: Quality, stability: Stability | None, frontier: tuple[SaePoint, ...]) -> SaeInfo:
    return SaeInfo(
        variant=point.variant,
        n_latents=point.n_latents,
        sparsity=point.sparsity,
        r2=point.r2,
        l0=point.l0,
        n_dead=point.n_dead,
        accuracy_original=quality.accuracy_original,
        accuracy_reconstructed=quality.accuracy_reconstructed,
        logit_kl=point.logit_kl,
        satisfied=satisfies(quality),
        stability=stability,
        frontier=frontier,
    )
