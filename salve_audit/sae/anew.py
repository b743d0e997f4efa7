"""The autoencoder as audits with other seeds would choose it: another held-out part, sparsity and start.

Seeds at the chosen sparsity agree where audits do not: few held-out samples choose another sparsity every time, and a
sparser dictionary merges what a denser one keeps apart. The variant and the number of latents are the winner's.
"""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
from jaxtyping import Float, Int

from salve_audit.errors import DataError, NothingMeasuredError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.contender import Contender, finish, headstart, search
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.problem import prepare_problem
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.supervised_concepts import Concepts

logger = logging.getLogger(__name__)

ENOUGH = 1000  # held-out samples, from which on the choice hardly depends on which they are
APART = 1000  # seeds between two audits, so that they share none


def choose_anew(
    acts: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    head: LinearHead,
    settings: SaeSettings,
    winner: Contender,
    concepts: Concepts | None = None,
) -> tuple[TrainedSae, ...]:
    """An autoencoder for each seed but the first, as an audit with that seed would choose it.

    Args:
        acts, labels, head, settings, concepts: see `train_sae`.
        winner: what this audit chose.

    Returns:
        none where none are asked for, the sparsity was given, one seed was trained or the held-out part is large; fewer
        where time is up.
    """
    problem = winner.problem
    if not settings.anew or not winner.path or len(problem.validation[1]) >= ENOUGH:
        return ()
    own = dataclasses.replace(
        settings, variant=problem.variant.name, n_latents=problem.n_latents, n_seeds=1, budget=None, progress=None
    )
    found = []
    same = {name: getattr(problem, name) for name in ("clock", "trims", "recipe", "brief_recipe")}
    for i in range(1, problem.n_seeds):
        if not problem.clock.allows(problem.count_work(problem.recipe, 1)):
            problem.clock.miss("autoencoders chosen anew")
            break
        try:
            anew = dataclasses.replace(own, seed=settings.seed + APART * i)
            other = dataclasses.replace(prepare_problem(acts, labels, head, anew, concepts), **same)
            found.append(finish(other, search(other, headstart(other, winner.chosen.sparsity))).seeds[0])
        except (DataError, NothingMeasuredError) as error:  # it only widens an interval
            logger.warning("an autoencoder chosen anew is left out: %s", error)
    return tuple(found)
