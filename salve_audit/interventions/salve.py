"""SALVE: scale every weight by how strongly the latent reaches its coordinate.

``W'(α) = W diag(s(α))`` with ``s(α) = max(0, 1 − α c)`` to suppress and ``1 + α c`` to enhance, ``c = |D_l|``; the bias
stays. The strength is the normalised one, ``α̂ = α max_j c_j``: at α̂ = 1 the most coupled coordinate is gone.

Source: SALVE, arXiv 2512.15938, section on weight editing; docs/method.md §5.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.interventions.affine import STRENGTH_LIMIT, AffineHead, Intervention
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.registry import SALVE
from salve_audit.reliance.margins import relative_coupling


def suppress(context: EditContext) -> Intervention:
    """The latent's suppression; its largest strength removes every coupled coordinate (down to a millionth)."""
    return scaled_suppression(SALVE.key, context.head, context.coupling, context.feature)


def enhance(context: EditContext) -> Intervention:
    """The latent's enhancement, up to eleven times the weight of the most coupled coordinate."""
    head, relative = context.head, relative_coupling(context.coupling)

    def enhanced(strength: float) -> AffineHead:
        return AffineHead(head.weight * (1.0 + strength * relative), head.bias)

    return Intervention(f"{SALVE.key}-enhance", enhanced, max_strength=10.0, feature=context.feature)


def scaled_suppression(method: str, head: AffineHead, coupling: Float[np.ndarray, " d"], feature: int) -> Intervention:
    """``W diag(max(0, 1 − α̂ c / max c))`` for any coupling (d,) >= 0; without coupling it changes nothing."""
    relative = relative_coupling(coupling)

    def suppressed(strength: float) -> AffineHead:
        return AffineHead(head.weight * np.maximum(0.0, 1.0 - strength * relative), head.bias)

    smallest = float(relative[relative > 0].min(initial=1.0))
    # A hair beyond 1 / smallest, so that rounding leaves no trace of the last weights.
    erasing = min((1.0 + 1e-9) / smallest, STRENGTH_LIMIT)
    return Intervention(method, suppressed, max_strength=erasing, feature=feature, coupling=coupling)
