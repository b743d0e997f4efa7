"""A trained autoencoder in canonical form: what every later stage works with.

Canonical form (docs/method.md §1): dictionary rows have unit norm, the scale sits in the codes, and the normalisation
that training used is folded back, so that codes and dictionary are in the model's own units. Without it the L1 term
could be scaled away, and every strength derived from the dictionary would depend on when training stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salve_audit.mapped_pages import release_pages
from salve_audit.sae.activation import LINEAR, Activation, find_activation_misfit

TENSORS = ("dictionary", "encoder_weight", "encoder_bias", "decoder_bias")
CHUNK_ROWS = 8192  # 16 MB of activations at d = 512: large enough for full speed, small beside any cache


@dataclass(frozen=True, eq=False)
class TrainedSae:
    """``codes = f(acts @ encoder_weight.T + encoder_bias)``, ``recon = codes @ dictionary + decoder_bias``.

    Arrays are float32 and C-contiguous, numpy at this boundary because the stages after it are. Latents are ordered by
    falling mean square code over the training samples, and signed so that the heavier tail of a code is positive.

    Attributes:
        variant: its name in `variants.VARIANTS`.
        dictionary: (m, d), one unit-norm decoder direction per row, in the model's units.
        encoder_weight: (m, d); an all-zero row is a latent that died in training, its code is exactly 0.
        encoder_bias: (m,).
        decoder_bias: (d,).
        hyperparameters: plain values that describe the training: ``sparsity``, ``seed``, ``epochs`` and so on.
        activation: f, the identity for linear codes.
    """

    variant: str
    dictionary: Float[np.ndarray, "m d"]
    encoder_weight: Float[np.ndarray, "m d"]
    encoder_bias: Float[np.ndarray, " m"]
    decoder_bias: Float[np.ndarray, " d"]
    hyperparameters: Mapping[str, Any]
    activation: Activation = LINEAR

    def __post_init__(self) -> None:
        misfit = find_misfit({name: getattr(self, name) for name in TENSORS})
        assert misfit is None, misfit
        misfit = find_activation_misfit(self.activation, self.n_latents)
        assert misfit is None, misfit

    @property
    def n_latents(self) -> int:
        return int(self.dictionary.shape[0])

    @property
    def d(self) -> int:
        return int(self.dictionary.shape[1])

    @property
    def concepts(self) -> tuple[str | None, ...]:
        """Per latent the known concept that it stands for; the latents of most variants stand for none."""
        names = self.hyperparameters.get("concepts", ())
        return (*names, *[None] * (self.n_latents - len(names)))

    @cached_property
    def alive(self) -> Bool[np.ndarray, " m"]:
        """(m,) True for latents that can fire at all; the others were silenced after training."""
        return np.asarray(self.encoder_weight.any(axis=1))

    def encode_tensor(self, acts: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """Codes of float32 activations on any device, differentiable in `acts`."""
        weight = torch.from_numpy(self.encoder_weight).to(acts.device)
        bias = torch.from_numpy(self.encoder_bias).to(acts.device)
        return self.activation.apply(torch.addmm(bias, acts, weight.T))

    def encode(self, acts: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Codes (n, m), float32, in the model's units; `acts` may be memory-mapped, it is read in chunks."""
        assert acts.shape[1:] == (self.d,), f"expected (n, {self.d}) activations, got {acts.shape}"
        codes = np.empty((len(acts), self.n_latents), dtype=np.float32)
        for start in range(0, len(acts), CHUNK_ROWS):
            chunk = torch.from_numpy(np.array(acts[start : start + CHUNK_ROWS], dtype=np.float32))
            codes[start : start + CHUNK_ROWS] = self.encode_tensor(chunk).numpy()
            release_pages(acts)
        return codes

    def decode_tensor(self, codes: Float[Tensor, "n m"]) -> Float[Tensor, "n d"]:
        """Reconstructed activations of float32 codes on any device, differentiable in `codes`."""
        weight, bias = (torch.from_numpy(array).to(codes.device) for array in (self.dictionary, self.decoder_bias))
        return torch.addmm(bias, codes, weight)

    def decode(self, codes: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n d"]:
        """Reconstructed activations (n, d), float32, of codes (n, m)."""
        assert codes.shape[1:] == (self.n_latents,), f"expected (n, {self.n_latents}) codes, got {codes.shape}"
        recon = np.empty((len(codes), self.d), dtype=np.float32)
        weight, bias = torch.from_numpy(self.dictionary), torch.from_numpy(self.decoder_bias)
        for start in range(0, len(codes), CHUNK_ROWS):
            chunk = torch.from_numpy(np.array(codes[start : start + CHUNK_ROWS], dtype=np.float32))
            recon[start : start + CHUNK_ROWS] = torch.addmm(bias, chunk, weight).numpy()
        return recon


def find_misfit(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The first fault by which the arrays in `TENSORS` are no autoencoder in canonical form; None: there is none."""
    for name in TENSORS:
        if name not in arrays:
            return f"tensor {name!r} is missing"
        if arrays[name].dtype != np.float32:
            return f"{name} is {arrays[name].dtype}, expected float32"
        if not np.isfinite(arrays[name]).all():
            return f"{name} holds NaN or infinite values"
    if arrays["dictionary"].ndim != 2:
        return f"dictionary has shape {arrays['dictionary'].shape}, expected (m, d)"
    m, d = arrays["dictionary"].shape
    for name, shape in {"encoder_weight": (m, d), "encoder_bias": (m,), "decoder_bias": (d,)}.items():
        if arrays[name].shape != shape:
            return f"{name} has shape {arrays[name].shape}, expected {shape}"
    norms = np.linalg.norm(arrays["dictionary"].astype(np.float64), axis=1)
    if not np.allclose(norms, 1.0, atol=1e-5):
        return f"dictionary rows have norms from {norms.min():.4g} to {norms.max():.4g}, expected 1"
    return None
