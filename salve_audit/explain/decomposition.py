"""A logit taken apart, exactly: ``W_k · a + b_k = Σ_l W_k · D_l z_l + W_k · b_dec + W_k · (a − x̂) + b_k``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from salve_audit.interventions.affine import AffineHead
from salve_audit.sae.models import TrainedSae


@dataclass(frozen=True)
class LogitParts:
    """All parts of one logit, float64.

    Attributes:
        features: (m,) ``W_k · D_l z_l``.
        decoder_bias: ``W_k · b_dec``.
        error: ``W_k · (a − x̂)``.
        head_bias: ``b_k``.
    """

    features: Float[np.ndarray, " m"]
    decoder_bias: float
    error: float
    head_bias: float

    @property
    def logit(self) -> float:
        """The logit, which is the sum of all parts."""
        return float(self.features.sum() + self.decoder_bias + self.error + self.head_bias)


def decompose(
    acts: Float[np.ndarray, " d"], codes: Float[np.ndarray, " m"], sae: TrainedSae, head: AffineHead, index: int
) -> LogitParts:
    """The logit of class `index`.

    Args:
        acts: (d,) float64.
        codes: (m,) float64, of these activations.
        sae: the autoencoder.
        head: float64.
        index: the class.
    """
    row = head.weight[index]
    dictionary, bias = sae.dictionary.astype(np.float64), sae.decoder_bias.astype(np.float64)
    missed = acts - (codes @ dictionary + bias)
    return LogitParts(codes * (dictionary @ row), float(row @ bias), float(row @ missed), float(head.bias[index]))
