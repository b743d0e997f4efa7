"""The block of known concepts in front of a trained one (after arXiv 2602.00924; docs/method.md §1), in closed form.

Every concept c has one shared code e_c and one decoder row W_c. With M the (n, c) table of which sample shows which
concept, its column means m removed, and x the normalised activations, they minimise the loss of an unconstrained
feature model,

    1/n ‖x - M diag(e) W‖² + λ (‖e‖² + ‖W‖²),

each solved by ridge with the other fixed. Scale moves freely between e and W, so only the effects T = diag(e) W count;
it is shared out evenly in every round, |e_c| = ‖W_c‖, which lowers the penalty to 2 λ Σ_c ‖T_c‖ at the same fit. A
concept that explains less than that fades away.
Unseen samples get their codes by a ridge regression of M on x, strength by generalised cross-validation:
``p(x) = E x + m``. What the concepts leave over, x - (E x) T, is linear in x: a linear autoencoder trained on it folds
into one linear autoencoder of x together with the concepts.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import DataError, UsageError
from salve_audit.linear_algebra import decompose_symmetric, solve_symmetric
from salve_audit.sae.normalisation import Normalisation
from salve_audit.sae.parameters import CHUNK_ROWS
from salve_audit.sae.supervised_concepts import Concepts

logger = logging.getLogger(__name__)

PENALTY = 1e-3  # λ: with x of unit variance, far below what any real effect explains
MAX_ROUNDS, CONVERGED = 100, 1e-6
STRENGTHS = np.logspace(-6, 2, 33)  # of the encoder's ridge, around the mean eigenvalue, which is 1
FADED = 1e-3  # norm of an effect, as a share of the activations', below which a concept is taken to have none
NOTHING_LEFT = 1e-6  # of the activations' scale


@dataclass(frozen=True, eq=False)
class ConceptBlock:
    """Fitted concepts, in units of the normalised activations.

    Attributes:
        names: c of them.
        effects: (c, d), T: what a concept adds to the activations.
        encoder: (c, d), E.
        rates: (c,) m: share of the training samples that show the concept.
        normalisation: of the activations.
        leftover: the same for what the concepts leave over, in the model's units.
    """

    names: tuple[str, ...]
    effects: Float[np.ndarray, "c d"]
    encoder: Float[np.ndarray, "c d"]
    rates: Float[np.ndarray, " c"]
    normalisation: Normalisation
    leftover: Normalisation

    @property
    def remainder(self) -> Float[np.ndarray, "d d"]:
        """x @ remainder is what the concepts leave over of x."""
        return np.eye(self.effects.shape[1]) - self.encoder.T @ self.effects

    def join(self, rest: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Concepts, then the latents trained on what they leave over, as one autoencoder in canonical form.

        Args:
            rest: canonical arrays of an autoencoder of the leftover, in the model's units.
        """
        mean, scale = self.normalisation.mean, self.normalisation.scale
        norms = np.linalg.norm(self.effects, axis=1)
        directions = self.effects / norms[:, None]
        weight = self.encoder * norms[:, None]
        rest_weight = rest["encoder_weight"].astype(np.float64) @ self.remainder.T
        arrays = {
            "dictionary": np.concatenate([directions, rest["dictionary"]]),
            "encoder_weight": np.concatenate([weight, rest_weight]),
            "encoder_bias": np.concatenate(
                [scale * norms * self.rates - weight @ mean, rest["encoder_bias"] - rest_weight @ mean]
            ),
            "decoder_bias": mean - scale * (norms * self.rates) @ directions + rest["decoder_bias"],
        }
        return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}


def split_off_concepts(
    acts: Float[Tensor, "n d"], concepts: Concepts, normalisation: Normalisation
) -> tuple[ConceptBlock, Float[Tensor, "n d"]]:
    """The concepts' block, and what it leaves over of the samples, scaled to unit variance.

    Concepts without an effect are left out, with a warning.

    Args:
        acts: (n, d) normalised training samples, on the device.
        concepts: of the same samples, each with contrast.
        normalisation: of `acts`.

    Raises:
        DataError: none of them has an effect.
    """
    d = acts.shape[1]
    rates = concepts.present.mean(axis=0)
    moments = _measure(acts, concepts, rates)
    effects = fit_effects(moments.masks, moments.cross)
    has_effect = np.linalg.norm(effects, axis=1) > FADED * np.sqrt(d)
    faded = [name for name, acts_on in zip(concepts.names, has_effect, strict=True) if not acts_on]
    if faded:
        logger.warning("concepts without an effect on the activations, left out: %s", ", ".join(faded))
    if not has_effect.any():
        raise DataError("concepts", "none of them has an effect on the activations")
    names = tuple(name for name, acts_on in zip(concepts.names, has_effect, strict=True) if acts_on)
    effects, encoder = effects[has_effect], fit_encoder(moments, len(acts))[has_effect]
    rest = acts @ torch.from_numpy(np.eye(d) - encoder.T @ effects).to(acts.device, acts.dtype)
    size = float(torch.linalg.vector_norm(rest)) / math.sqrt(rest.numel())
    size = size if size > NOTHING_LEFT else 1.0
    leftover = Normalisation(np.zeros(d), normalisation.scale * size)
    return ConceptBlock(names, effects, encoder, rates[has_effect], normalisation, leftover), rest.div_(size)


def fit_effects(
    masks: Float[np.ndarray, "c c"], cross: Float[np.ndarray, "c d"], penalty: float = PENALTY
) -> Float[np.ndarray, "c d"]:
    """T, by turns ridge for W with e fixed and for e with W fixed.

    Args:
        masks: MᵀM/n, columns centred.
        cross: Mᵀx/n.
        penalty: λ.
    """
    identity = np.eye(len(masks))
    codes = np.sqrt(np.linalg.norm(cross, axis=1))
    effects = np.zeros_like(cross)
    for _ in range(MAX_ROUNDS):
        weighted = masks * codes * codes[:, None]
        decoder = solve_symmetric(weighted + penalty * identity, codes[:, None] * cross)
        gram = masks * (decoder @ decoder.T)
        codes = solve_symmetric(gram + penalty * identity, (cross * decoder).sum(axis=1))
        before, effects = effects, codes[:, None] * decoder
        codes = np.sqrt(np.linalg.norm(effects, axis=1))
        if np.abs(effects - before).max() <= CONVERGED * np.abs(effects).max():
            break
    return effects


@dataclass(frozen=True, eq=False)
class Moments:
    """Means over the samples, float64: MᵀM (c, c), Mᵀx (c, d), xᵀx (d, d); columns of M centred."""

    masks: Float[np.ndarray, "c c"]
    cross: Float[np.ndarray, "c d"]
    acts: Float[np.ndarray, "d d"]


def fit_encoder(moments: Moments, n: int) -> Float[np.ndarray, "c d"]:
    """E: ridge of every concept's column on the activations, each with the strength that generalises best."""
    values, basis = decompose_symmetric(moments.acts)
    values = values.clip(min=0)
    turned = moments.cross @ basis  # (c, d)
    best = np.full(len(turned), np.inf)
    encoder = np.zeros_like(turned)
    for strength in STRENGTHS:
        damped = values + strength
        error = np.diag(moments.masks) - (turned**2 * (values + 2 * strength) / damped**2).sum(axis=1)
        spare = 1 - (1 + (values / damped).sum()) / n  # degrees of freedom that are left, the constant counted
        if spare <= 0:
            continue
        score = error / spare**2
        better = score < best
        encoder[better] = (turned / damped)[better]
        best[better] = score[better]
    return encoder @ basis.T


def check_room(n_latents: int, names: tuple[str, ...]) -> None:
    """Checks that there are concepts, and that a latent is left for what they leave over.

    Raises:
        DataError: every concept is shown by all samples or by none.
        UsageError: no latent is left.
    """
    if not names:
        raise DataError("concepts", "none of them tells any of the training samples apart")
    if n_latents <= len(names):
        why = f"{n_latents} latents for {len(names)} concepts, none is left for the rest"
        raise UsageError("n_latents", why, hint=f"at least {len(names) + 1}")


def _measure(acts: Tensor, concepts: Concepts, rates: Float[np.ndarray, " c"]) -> Moments:
    n, d = acts.shape
    c = len(rates)
    cross, square = (torch.zeros(rows, d, dtype=torch.float64, device=acts.device) for rows in (c, d))
    together = np.zeros((c, c))
    for start in range(0, n, CHUNK_ROWS):
        chunk = acts[start : start + CHUNK_ROWS].double()
        centred = concepts.present[start : start + CHUNK_ROWS] - rates
        together += centred.T @ centred
        cross += torch.from_numpy(centred.T).to(acts.device) @ chunk
        square += chunk.T @ chunk
    return Moments(together / n, cross.cpu().numpy() / n, square.cpu().numpy() / n)
