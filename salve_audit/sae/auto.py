"""``--sae auto``: which variant, how many latents, how sparse (docs/method.md §1.4).

Each variant is brought to the sparsest point that keeps the accuracy and R²; among these the one whose features other
seeds find again best (mean |cosine| of matched latents) is taken. Sparsity alone would be the wrong judge between
variants: top-k codes reach the rule with a handful of active latents where linear ones need dozens, but which latents
they are then changes with the seed, and a finding that another seed does not repeat is worth nothing to a reviewer.
The contest is held within the leading principal components; its winner alone is trained on everything.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from salve_audit.sae.contender import Contender, finish, headstart, search
from salve_audit.sae.problem import Problem, at_width, change_variant, narrow
from salve_audit.sae.settings import LEAST_LATENTS
from salve_audit.sae.tuning import SparsityPoint, choose, satisfies, shortfall
from salve_audit.sae.variant_names import JUMPRELU, LINEAR_L1, TOPK

logger = logging.getLogger(__name__)

LINEAR, COUNTED, OTHERS = LINEAR_L1, TOPK, (JUMPRELU,)  # signed codes, a count, thresholds: one of each kind
SAME_STABILITY = 0.02  # mean cosines closer than this are one: then the sparser wins
AS_SPARSE = 1.25  # an L0 within this factor is as good (one step of k where k is 5): then the fewer latents win
MAX_WIDTHS = 3
MOST_COMPONENTS, MOST_SAMPLES, FEW_SEEDS = 128, 1024, 3  # of the contest


def contend(problem: Problem, *, fixed_width: bool) -> list[Contender]:
    """Every variant at its best within the leading components, then the winner of these on everything.

    What tells the variants apart, how well other seeds find their latents again, shows there already, at a fraction of
    the cost. Where the winner misses the rule on everything, ``linear-l1``, which reconstructs best, is tried as well.

    Args:
        problem: of ``linear-l1``.
        fixed_width: the number of latents was given.

    Returns:
        The contest's contenders, and after them those on everything.
    """
    arena = narrow(problem, MOST_COMPONENTS, MOST_SAMPLES, n_seeds=min(problem.n_seeds, FEW_SEEDS))
    contest = _hold_contest(arena, reserved=problem.reserved, fixed_width=fixed_width)
    winner = pick(contest)
    finals = [_repeat(problem, winner, wider=problem.n_latents / arena.n_latents)]
    if not finals[0].satisfied and winner.problem.variant.name != LINEAR:
        if problem.clock.allows(problem.reserved):
            finals.append(finish(problem, search(problem)))
        else:
            problem.clock.miss(f"{LINEAR} on all components")
    return [*contest, *finals]


def _hold_contest(arena: Problem, *, reserved: float, fixed_width: bool) -> list[Contender]:
    """The variants, each trained with a few seeds; none is begun that leaves too little time for `reserved`."""
    contenders = [finish(arena, search(arena))]
    counted = change_variant(arena, COUNTED)
    paths = search_widths(counted, fixed_width=fixed_width)
    width, path = pick_width(paths)
    contenders.append(_with_paths(finish(at_width(counted, width), path), counted, paths))
    for name in OTHERS:
        other = at_width(change_variant(arena, name), width)
        if not arena.clock.allows(reserved):
            arena.clock.miss(name)
            continue
        contenders.append(finish(other, search(other)))
    for contender in contenders:
        cosine, l0 = _matched(contender), contender.chosen.quality.l0
        logger.info("%s: L0 %.1f, mean |cosine| with other seeds %.2f", contender.problem.variant.name, l0, cosine)
    return contenders


def _repeat(problem: Problem, winner: Contender, *, wider: float) -> Contender:
    """The winner's variant on everything, with so many times the latents, searched from a little denser than before."""
    narrowed = winner.problem
    whole = at_width(change_variant(problem, narrowed.variant.name), round(wider * narrowed.n_latents))
    return finish(whole, search(whole, headstart(whole, wider * winner.chosen.sparsity)))


def search_widths(problem: Problem, *, fixed_width: bool) -> dict[int, list[SparsityPoint]]:
    """Paths by number of latents: halved while that is as sparse, doubled while that is sparser."""
    paths = {problem.n_latents: search(problem)}
    if fixed_width:
        return paths
    least = max(LEAST_LATENTS // 2, 2 * problem.head.n_classes)
    width = problem.n_latents
    while len(paths) < MAX_WIDTHS and width // 2 >= least:
        wider, width = width, width // 2
        paths[width] = _search_at(width, problem, paths)
        if not _as_sparse(paths[width], paths[wider]):
            break
    width = problem.n_latents
    while len(paths) < MAX_WIDTHS and pick_width(paths)[0] == width:
        width *= 2
        paths[width] = _search_at(width, problem, paths)
    return paths


def _search_at(width: int, problem: Problem, paths: dict[int, list[SparsityPoint]]) -> list[SparsityPoint]:
    """The path with so many latents, from a little denser than the best number of latents so far needs."""
    other = at_width(problem, width)
    return search(other, headstart(other, choose(pick_width(paths)[1]).sparsity))


def pick_width(paths: dict[int, list[SparsityPoint]]) -> tuple[int, list[SparsityPoint]]:
    """The fewest latents with which the path gets as sparse as with any number."""
    best = {width: choose(path) for width, path in paths.items()}
    good = {width: point for width, point in best.items() if satisfies(point.quality)}
    if not good:
        width = min(best, key=lambda width: (shortfall(best[width].quality), width))
        return width, paths[width]
    sparsest = min(point.quality.l0 for point in good.values())
    width = min(width for width, point in good.items() if point.quality.l0 <= AS_SPARSE * sparsest)
    return width, paths[width]


def _as_sparse(path: list[SparsityPoint], wider: list[SparsityPoint]) -> bool:
    here, there = choose(path).quality, choose(wider).quality
    return satisfies(here) and (not satisfies(there) or here.l0 <= AS_SPARSE * there.l0)


def _with_paths(contender: Contender, problem: Problem, paths: dict[int, list[SparsityPoint]]) -> Contender:
    """The contender, remembering what was tried at other numbers of latents."""
    width = contender.problem.n_latents
    tried = [(at_width(problem, n_latents), path) for n_latents, path in paths.items() if n_latents != width]
    return dataclasses.replace(contender, also=tuple((p, c) for p, path in tried for c in path))


def pick(contenders: Sequence[Contender]) -> Contender:
    """The most stable of those that satisfy the rule, the sparser of equals; else the one that misses it least."""
    good = [contender for contender in contenders if contender.satisfied]
    if not good:
        return min(contenders, key=lambda contender: shortfall(contender.chosen.quality))
    best = max(_matched(contender) for contender in good)
    equal = [contender for contender in good if _matched(contender) >= best - SAME_STABILITY]
    return min(equal, key=lambda contender: contender.chosen.quality.l0)


def _matched(contender: Contender) -> float:
    return contender.stability.matched_cosine if contender.stability is not None else 0.0
