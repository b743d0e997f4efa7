"""The stage as the audit calls it: fit activations in, the chosen autoencoder with its frontier and stability out."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.errors import UsageError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.results import SaeInfo, SaePoint
from salve_audit.sae.anew import choose_anew
from salve_audit.sae.auto import LINEAR, contend, pick
from salve_audit.sae.contender import Contender, choose_final, finish, search
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.problem import Problem, prepare_problem
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.supervised_concepts import Concepts
from salve_audit.sae.tuning import satisfies
from salve_audit.sae.variant_names import AUTO

logger = logging.getLogger(__name__)

POOR_R2 = 0.5  # below which codes stand for less than half of the activations' variance


@dataclass(frozen=True)
class SaeOutcome:
    """The chosen autoencoder.

    Attributes:
        sae: what the later stages use.
        info: for audit.json; every number of it is measured on the held-out validation part of the fit split.
        seeds: all seeds at the chosen sparsity; ``seeds[0]`` is `sae`, the one that the others resemble most.
        anew: as audits with other seeds would choose it (see `choose_anew`).
    """

    sae: TrainedSae
    info: SaeInfo
    seeds: tuple[TrainedSae, ...]
    anew: tuple[TrainedSae, ...] = ()


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
        head: the verified head, (k, d).
        settings: see `SaeSettings`.
        concepts: of the n samples, for ``supervised``; None: the classes.

    Raises:
        DataError: NaN or infinite values, activations without variance, too few samples to hold any out.
        UsageError: no such variant, or a sparsity or recipe for variants that are still to be chosen.
        NothingMeasuredError: training diverged.
    """
    auto = settings.variant == AUTO
    if auto:
        _refuse_recipe(settings)
        settings = dataclasses.replace(settings, variant=LINEAR)
    problem = prepare_problem(acts, labels, head, settings, concepts)
    contenders = _train_contenders(problem, settings, auto=auto)
    winner = pick([contender for contender in contenders if contender.problem.components is None])
    anew = choose_anew(acts, labels, head, settings, winner, concepts)
    problem.clock.finish()
    _warn_of_shortfall(winner)
    points = [point for contender in contenders for point in contender.points(winner=contender is winner)]
    frontier = tuple(sorted(points, key=lambda point: (point.variant, point.n_latents, point.sparsity, point.chosen)))
    return SaeOutcome(winner.seeds[0], _info(winner, frontier), winner.seeds, anew)


def _train_contenders(problem: Problem, settings: SaeSettings, *, auto: bool) -> list[Contender]:
    """All variants where they compete, else one: at the sparsity that is given, or at the one that is searched."""
    sparsity = settings.sparsity if settings.sparsity is not None else problem.variant.default_sparsity
    if sparsity is not None:
        return [choose_final(problem, [], [problem.visit_seeds(sparsity, None)])]
    if auto:
        return contend(problem, fixed_width=settings.n_latents is not None)
    return [finish(problem, search(problem))]


def _warn_of_shortfall(winner: Contender) -> None:
    quality = winner.chosen.quality
    if winner.problem.is_judged_by_classes:
        if not winner.satisfied:
            text = "the autoencoder keeps %.1f %% of the accuracy at R² %.3f (wanted: 99 %% at %.2g)"
            logger.warning(text, 100 * quality.accuracy_kept, quality.r2, quality.least_r2)
    elif quality.r2 < POOR_R2:
        text = "the autoencoder reconstructs little of held-out activations: R² %.3f; its codes say little of them"
        logger.warning(text, quality.r2)
    elif not winner.satisfied:
        logger.warning(
            "the autoencoder reaches R² %.3f on held-out activations (wanted: %.2g)", quality.r2, quality.least_r2
        )


def _refuse_recipe(settings: SaeSettings) -> None:
    """One λ, k or number of epochs is not the same to every variant."""
    for key in ("sparsity", "epochs", "batch_size", "learning_rate"):
        if getattr(settings, key) is not None:
            raise UsageError(key, "auto chooses it for every variant", hint="name a variant to set it")


def _info(winner: Contender, frontier: tuple[SaePoint, ...]) -> SaeInfo:
    problem, quality = winner.problem, winner.chosen.quality
    return SaeInfo(
        variant=problem.variant.name,
        n_latents=winner.seeds[0].n_latents,
        sparsity=winner.chosen.sparsity,
        r2=quality.r2,
        l0=quality.l0,
        n_dead=quality.n_dead - (problem.n_latents - winner.seeds[0].n_latents),
        accuracy_original=quality.accuracy_original,
        accuracy_reconstructed=quality.accuracy_reconstructed,
        logit_kl=quality.logit_kl,
        satisfied=satisfies(quality),
        stability=winner.stability,
        frontier=frontier,
        least_r2=quality.least_r2,
        components=None if problem.subspace is None else problem.subspace.rank,
        cut_short=tuple(problem.clock.cut_short),
        concepts=problem.block.names if problem.block else (),
    )
