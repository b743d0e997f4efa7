"""One kind of autoencoder searched, trained in full with all seeds, and judged."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from salve_audit.results import SaePoint, Stability
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.parameters import select_problem
from salve_audit.sae.problem import Problem
from salve_audit.sae.stability import assess_stability, compare_pairs, find_representative
from salve_audit.sae.tuning import GROWTH, NUDGE, SparsityPoint, choose, satisfies, search_path, settle


@dataclass(frozen=True, eq=False)
class Contender:
    """A variant with a number of latents, at its own best sparsity.

    Attributes:
        problem: what it was trained on.
        path: points of one seed, trained briefly.
        finals: points trained in full, or briefly from such a one, with all seeds.
        chosen: the one of them that stands for the variant; its parameters hold all seeds.
        seeds: canonical, the first one is the autoencoder that would be used; the others follow by seed.
        stability: over the seeds; None for a single one.
        also: further points for the frontier, each with the problem it belongs to.
    """

    problem: Problem
    path: tuple[SparsityPoint, ...]
    finals: tuple[SparsityPoint, ...]
    chosen: SparsityPoint
    seeds: tuple[TrainedSae, ...]
    stability: Stability | None
    also: tuple[tuple[Problem, SparsityPoint], ...] = ()

    @property
    def satisfied(self) -> bool:
        """True if it keeps what docs/method.md §1 asks for."""
        return satisfies(self.chosen.quality)

    def points(self, *, winner: bool) -> list[SaePoint]:
        """The visited points for the frontier; how well latents match over seeds is known for the chosen one alone."""
        points = [describe_point(problem, point) for problem, point in self.also]
        points += [describe_point(self.problem, point) for point in self.path]
        for point in self.finals:
            described = dataclasses.replace(describe_point(self.problem, point), full=True)
            if point is self.chosen:
                matched = None if self.stability is None else self.stability.matched_cosine
                described = dataclasses.replace(described, chosen=winner, matched_cosine=matched)
            points.append(described)
        return points


def headstart(problem: Problem, sparsity: float) -> float:
    """The sparsity to start searching at: a little denser than what much the same problem needed."""
    return float(math.ceil(GROWTH * sparsity)) if problem.variant.counted else sparsity / GROWTH


def search(problem: Problem, start: float | None = None) -> list[SparsityPoint]:
    """The sparsity path, one briefly trained autoencoder after the other, from `start` if it is given."""
    ladder = problem.ladder
    if start is not None:
        ladder = dataclasses.replace(ladder, start=min(start, ladder.start) if problem.variant.counted else start)
    return search_path(problem.visit, ladder, lambda: problem.clock.allows(problem.reserved))


def finish(problem: Problem, path: list[SparsityPoint]) -> Contender:
    """Trains all seeds in full at the best point of the path and settles beside it where the rule can be met."""
    sparsity = choose(path).sparsity
    if problem.variant.settles_anew:  # the brief path flatters them, and only sparser points cost little
        sparsity = problem.ladder.move(sparsity, NUDGE**-2) or sparsity
    full = problem.visit_seeds(sparsity, None)
    done = problem.components is not None and satisfies(full.quality)
    if done or not any(satisfies(point.quality) for point in [*path, full]):
        return choose_final(problem, path, [full])
    nudged = _nudge(problem, full)
    best = choose([full, *nudged])
    finals = [full]
    if best is not full:
        anew = problem.variant.settles_anew and not satisfies(full.quality)
        finals.append(problem.visit_seeds(best.sparsity, None if anew else full.parameters))
    return choose_final(problem, [*path, *nudged], finals)


def _nudge(problem: Problem, full: SparsityPoint) -> list[SparsityPoint]:
    """Neighbours of a point trained in full, by the first of its seeds alone."""
    first = dataclasses.replace(full, parameters=select_problem(full.parameters, 0))
    anew, most = problem.variant.settles_anew, problem.most_nudges
    return settle(first, problem.visit, problem.ladder, problem.can_settle, anew=anew, most=most)[1:]


def choose_final(problem: Problem, path: list[SparsityPoint], finals: list[SparsityPoint]) -> Contender:
    """The best of `finals`, in canonical form; latents that merging left over are dropped where m was not given.

    The seed to be used is the one whose latents the others find again best, of those that satisfy the rule if any does:
    an outlier says more about its seed than about the model.
    """
    best = choose(finals)
    seeds = [problem.canonical(best.parameters, best.sparsity, i) for i in range(problem.n_seeds)]
    qualities = [problem.measure(seed) for seed in seeds]
    good = [i for i, quality in enumerate(qualities) if satisfies(quality)] or list(range(len(seeds)))
    pairs = compare_pairs(seeds)
    first = find_representative(pairs, good)
    chosen = dataclasses.replace(best, quality=qualities[first])
    finals = [chosen if point is best else point for point in finals]
    seeds = [seeds[first], *seeds[:first], *seeds[first + 1 :]]
    if problem.trims:
        seeds = [trim(seed) for seed in seeds]
    return Contender(problem, tuple(path), tuple(finals), chosen, tuple(seeds), assess_stability(pairs))


def trim(sae: TrainedSae) -> TrainedSae:
    """Without the latents that cannot fire; one is left in any case."""
    rows = np.flatnonzero(sae.alive)
    rows = rows if len(rows) else np.arange(1)
    activation = sae.activation
    if activation.threshold is not None:
        activation = dataclasses.replace(activation, threshold=np.ascontiguousarray(activation.threshold[rows]))
    elif activation.k is not None:
        activation = dataclasses.replace(activation, k=min(activation.k, len(rows)))
    return dataclasses.replace(
        sae,
        dictionary=np.ascontiguousarray(sae.dictionary[rows]),
        encoder_weight=np.ascontiguousarray(sae.encoder_weight[rows]),
        encoder_bias=np.ascontiguousarray(sae.encoder_bias[rows]),
        activation=activation,
    )


def describe_point(problem: Problem, point: SparsityPoint) -> SaePoint:
    """A point on the way for audit.json."""
    return SaePoint(
        variant=problem.variant.name,
        n_latents=problem.n_latents,
        sparsity=point.sparsity,
        r2=point.quality.r2,
        l0=point.quality.l0,
        n_dead=point.quality.n_dead,
        accuracy=point.quality.accuracy_reconstructed,
        accuracy_kept=point.quality.accuracy_kept,
        logit_kl=point.quality.logit_kl,
        mean_abs_code=point.quality.mean_abs_code,
        matched_cosine=None,
        full=False,
        chosen=False,
        components=problem.components,
    )
