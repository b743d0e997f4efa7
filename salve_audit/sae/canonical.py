"""Conversion of trained parameters to canonical form: unit-norm rows, model units, a fixed order and sign."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.sae.activation import LINEAR, Activation
from salve_audit.sae.normalisation import Normalisation
from salve_audit.sae.parameters import CodeMoments, Parameters, compute_code_moments


def canonical_arrays(
    parameters: Parameters,
    acts: Float[Tensor, "n d"],
    normalisation: Normalisation,
    n_latents: int,
    activation: Activation = LINEAR,
    basis: Float[np.ndarray, "r d"] | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of a `TrainedSae` with `n_latents` latents, from a single problem with at most as many.

    With x = (a - μ) / σ, z = E x + e and x̂ = z D + δ, a row of norm r becomes D / r with code σ r z, hence the encoder
    r E with bias r (σ e - E μ), and the decoder bias σ δ + μ. Latents come in order of falling mean square code, with
    the sign that makes the mean cube positive: a feature that fires on few samples fires upwards. Latents that were
    dropped, or whose code is 0 on every training sample, follow with a code of 0 and a row that is a coordinate axis.
    Thresholds are scaled along with the codes, σ r θ.

    Args:
        parameters: trained, with a seed axis of length 1.
        acts: (n, d) or (n, r) training samples as training sees them, for order and sign.
        normalisation: what training saw.
        n_latents: m.
        activation: of the codes in training units; the result has a ``threshold`` if it has one.
        basis: orthonormal rows, whose coordinates training saw; None: those of the activations.
    """
    trained = {name: value[0].detach().cpu().double().numpy() for name, value in parameters.items()}
    order, scale = _sort_latents(trained, compute_code_moments(parameters, acts, activation))
    if basis is not None:
        trained |= {name: trained[name] @ basis for name in ("dictionary", "encoder_weight", "decoder_bias")}
    d = trained["dictionary"].shape[1]
    arrays = {
        "dictionary": np.eye(d)[np.arange(n_latents) % d],
        "encoder_weight": np.zeros((n_latents, d)),
        "encoder_bias": np.zeros(n_latents),
        "decoder_bias": normalisation.scale * trained["decoder_bias"] + normalisation.mean,
    }
    n = len(order)
    arrays["dictionary"][:n] = trained["dictionary"][order] * np.sign(scale)[:, None] / np.abs(scale)[:, None]
    arrays["encoder_weight"][:n] = trained["encoder_weight"][order] * scale[:, None]
    folded = arrays["encoder_weight"][:n] @ normalisation.mean
    arrays["encoder_bias"][:n] = normalisation.scale * scale * trained["encoder_bias"][order] - folded
    if activation.threshold is not None:
        arrays["threshold"] = np.zeros(n_latents)
        arrays["threshold"][:n] = normalisation.scale * scale * activation.threshold[order]
    return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}


def _sort_latents(
    trained: Mapping[str, np.ndarray], moments: CodeMoments
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The latents that fire, by falling mean square code, and their rows' norms with the sign of the mean cube."""
    norms = np.linalg.norm(trained["dictionary"], axis=1)
    order = np.argsort(-moments.square * norms**2, kind="stable")
    if "group" in trained:  # nested prefixes stay prefixes
        order = order[np.argsort(trained["group"][order], kind="stable")]
    order = order[(norms[order] > 0) & (moments.largest[order] > 0)]
    return order, (norms * np.where(moments.cube < 0, -1.0, 1.0))[order]
