"""The stage as the audit calls it: fit activations in, the chosen autoencoder with its frontier and stability out."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.inputs.head import LinearHead
from salve_audit.results import SaeInfo, SaePoint, Stability
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.problem import Problem, prepare_problem
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stability import assess_stability
from salve_audit.sae.supervised_concepts import Concepts
from salve_audit.sae.tuning import Candidate, choose, satisfies, search_path, settle

logger = logging.getLogger(__name__)


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
    acts: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    head: LinearHead,
    settings: SaeSettings,
    concepts: Concepts | None = None,
) -> SaeOutcome:
    """Trains on 85 % of the fit split, stratified by class; the other 15 % choose the sparsity and give every number.

    The same activations, settings and machine (and number of threads) give the same bytes.

    Args:
        acts: (n, d) float32 activations of the fit split, memory-mapped or not.
        labels: (n,) class indices in 0..k-1.
        head: the proven head, (k, d).
        settings: see `SaeSettings`.
        concepts: of the n samples, for ``supervised``; None: the classes.

    Raises:
        DataError: NaN or infinite values, activations without variance, too few samples to hold any out.
        UsageError: no such variant.
        NothingMeasuredError: training diverged.
    """
    problem = prepare_problem(acts, labels, head, settings, concepts)
    sparsity = settings.sparsity if settings.sparsity is not None else problem.variant.default_sparsity
    path: list[Candidate] = []
    if sparsity is None:
        path = search_path(problem.visit, problem.ladder)
        full = problem.visit_seeds(choose(path).sparsity, None)
        attainable = any(satisfies(one.quality) for one in [*path, full])
        anew = problem.variant.settles_anew
        finals = settle(full, problem.visit_seeds, problem.ladder, anew=anew) if attainable else [full]
    else:
        finals = [problem.visit_seeds(sparsity, None)]
    chosen = choose(finals)
    if not satisfies(chosen.quality):
        kept, r2 = 100 * chosen.quality.accuracy_kept, chosen.quality.r2
        logger.warning("the autoencoder keeps %.1f %% of the accuracy at R² %.3f (wanted: 99 %% at 0.9)", kept, r2)
    seeds = tuple(problem.canonical(chosen.parameters, chosen.sparsity, i) for i in range(problem.n_seeds))
    points = [_point(problem, one, chosen=one is chosen) for one in [*path, *finals]]
    frontier = tuple(sorted(points, key=lambda one: (one.sparsity, one.chosen)))
    return SaeOutcome(seeds[0], _info(problem, chosen, assess_stability(seeds), frontier), seeds)


def _point(problem: Problem, one: Candidate, *, chosen: bool) -> SaePoint:
    return SaePoint(
        variant=problem.variant.name,
        n_latents=problem.n_latents,
        sparsity=one.sparsity,
        r2=one.quality.r2,
        l0=one.quality.l0,
        n_dead=one.quality.n_dead,
        accuracy=one.quality.accuracy_reconstructed,
        accuracy_kept=one.quality.accuracy_kept,
        logit_kl=one.quality.logit_kl,
        mean_abs_code=one.quality.mean_abs_code,
        chosen=chosen,
    )


def _info(problem: Problem, chosen: Candidate, stability: Stability | None, frontier: tuple[SaePoint, ...]) -> SaeInfo:
    quality = chosen.quality
    return SaeInfo(
        variant=problem.variant.name,
        n_latents=problem.n_latents,
        sparsity=chosen.sparsity,
        r2=quality.r2,
        l0=quality.l0,
        n_dead=quality.n_dead,
        accuracy_original=quality.accuracy_original,
        accuracy_reconstructed=quality.accuracy_reconstructed,
        logit_kl=quality.logit_kl,
        satisfied=satisfies(quality),
        stability=stability,
        frontier=frontier,
        concepts=problem.block.names if problem.block else (),
    )
