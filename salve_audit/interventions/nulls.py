"""Null controls: SALVE with everything in place but the knowledge of which coordinates matter.

``W diag(max(0, 1 − α c'))`` where c' is the feature's coupling with its coordinates shuffled, or the coupling of a
random latent that fires but dominates no class. SALVE has found something only as far as it does better than both.

Source: docs/method.md §4 and §5.
"""

from __future__ import annotations

import numpy as np

from salve_audit.interventions.affine import Intervention
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.registry import NULL_PERMUTED, NULL_RANDOM
from salve_audit.interventions.salve import scaled_suppression


def suppress_permuted(context: EditContext) -> Intervention:
    """SALVE with the coupling permuted over the coordinates."""
    shuffled = context.rng.permutation(context.coupling)
    return scaled_suppression(NULL_PERMUTED.key, context.head, shuffled, context.feature)


def suppress_random(context: EditContext) -> Intervention | None:
    """SALVE with a random latent that fires and is dominant for no class; None where there is none.

    A latent that never fires keeps the dictionary row that training began with or a unit axis: suppressing it says
    nothing about features.
    """
    free = np.setdiff1d(np.flatnonzero(context.alive), np.append(context.dominant, context.feature))
    if not free.size:
        return None
    latent = int(context.rng.choice(free))
    coupling = np.abs(np.asarray(context.dictionary[latent], dtype=np.float64))
    return scaled_suppression(NULL_RANDOM.key, context.head, coupling, latent)
