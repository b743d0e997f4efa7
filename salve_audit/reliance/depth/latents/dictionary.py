"""Dictionaries of a layer's positions, trained by the project's own trainer on a sample of them.

What a dictionary does not explain is its error term. It is never taken out: a removal subtracts what chosen latents
write and leaves everything else, the error term included, as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.errors import DataError, UsageError
from salve_audit.reliance.depth.latents.positions import PositionSample, sum_by_picture
from salve_audit.sae.batchtopk import prefix_lengths
from salve_audit.sae.canonical import canonical_arrays
from salve_audit.sae.metrics import count_active
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.normalisation import fit_normalisation, normalise, refuse_non_finite
from salve_audit.sae.parameters import select_problem
from salve_audit.sae.training import train
from salve_audit.sae.variants import VARIANTS, find_variant

HELD_OUT = 0.15  # of the pictures
LEAST_PICTURES = 4


@dataclass(frozen=True)
class DictionarySettings:
    """How dictionaries are trained.

    Attributes:
        variant: that keeps a number of codes: ``topk``, ``batchtopk``, ``matryoshka`` or ``signed-topk``.
        n_latents: m.
        n_active: k, codes per position.
        n_seeds: dictionaries trained side by side.
        seed: of the first; dictionary i has seed + i.
        device: where to train.
        n_steps: of training; None: the variant's own recipe.
    """

    variant: str = "topk"
    n_latents: int = 64
    n_active: int = 4
    n_seeds: int = 1
    seed: int = 0
    device: str | torch.device = "cpu"
    n_steps: int | None = None


@dataclass(frozen=True)
class DictionaryQuality:
    """Measured on positions of pictures that training did not see.

    Attributes:
        r2, r2_error: explained variance and its standard error over pictures.
        l0: active latents per position.
        n_dead: latents that do not fire.
        n_pictures, n_positions: measured on.
    """

    r2: float
    r2_error: float
    l0: float
    n_dead: int
    n_pictures: int
    n_positions: int


@dataclass(frozen=True, eq=False)
class PositionDictionary:
    """``codes = f(positions)``, ``positions = codes @ decoder + bias + error term``.

    Attributes:
        layer: whose positions.
        sae: encoder and decoder in canonical form: rows of unit norm, in the layer's own units.
        quality: on held-out pictures.
    """

    layer: str
    sae: TrainedSae
    quality: DictionaryQuality

    @property
    def n_latents(self) -> int:
        return self.sae.n_latents

    @property
    def alive(self) -> Bool[np.ndarray, " m"]:
        """Latents that can fire."""
        return self.sae.alive

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Lengths of the nested dictionaries in it, the coarsest first; only the whole one unless ``matryoshka``."""
        return tuple(prefix_lengths(self.n_latents)) if self.sae.variant == "matryoshka" else (self.n_latents,)

    def rows(self, like: Tensor) -> Float[Tensor, "m d"]:
        """The decoder, on the device of `like`."""
        return torch.from_numpy(self.sae.dictionary).to(like)

    def encode(self, positions: Float[Tensor, "b p d"]) -> Float[Tensor, "b p m"]:
        """Codes of every position, differentiable."""
        assert positions.shape[-1] == self.sae.d, f"expected {self.sae.d} channels, got {tuple(positions.shape)}"
        return self.sae.encode_tensor(positions.reshape(-1, self.sae.d)).view(*positions.shape[:-1], -1)

    def decode(self, codes: Float[Tensor, "b p m"]) -> Float[Tensor, "b p d"]:
        """What the dictionary makes of the codes, without the error term."""
        return codes @ self.rows(codes) + torch.from_numpy(self.sae.decoder_bias).to(codes)


def fit_dictionaries(sample: PositionSample, settings: DictionarySettings) -> tuple[PositionDictionary, ...]:
    """`settings.n_seeds` dictionaries of the same sample, which differ in their random start and order.

    Raises:
        DataError: NaN or infinite values, positions that are all the same, or fewer than four pictures.
        UsageError: a variant that does not keep a number of codes, or more codes than latents.
        NothingMeasuredError: training diverged.
    """
    variant = find_variant(settings.variant)
    if not variant.counted:
        able = ", ".join(name for name, one in VARIANTS.items() if one.counted)
        raise UsageError("sae", f"{settings.variant!r} keeps no number of codes", hint=f"one of {able}")
    if not 1 <= settings.n_active <= settings.n_latents:
        raise UsageError("k", f"{settings.n_active} codes of {settings.n_latents} latents")
    refuse_non_finite(sample.positions)
    fitted, held = _hold_out_pictures(sample, np.random.default_rng(settings.seed))
    normalisation = fit_normalisation(sample.positions, fitted)
    acts = normalise(sample.positions, fitted, normalisation, settings.device)
    seeds = [settings.seed + i for i in range(settings.n_seeds)]
    generators = [torch.Generator(settings.device).manual_seed(seed) for seed in seeds]
    start = variant.initialise(acts, settings.n_latents, generators)
    objective = variant.objective(settings.n_active, settings.n_latents)
    recipe = variant.recipe(len(acts))
    if settings.n_steps is not None:
        recipe = replace(recipe, epochs=settings.n_steps, most_steps=settings.n_steps)  # an epoch has a step or more
    parameters = train(start, acts, objective, recipe, generators)
    found = []
    for index, seed in enumerate(seeds):
        one, activation = variant.fold(select_problem(parameters, index), settings.n_active)
        arrays = canonical_arrays(one, acts, normalisation, settings.n_latents, activation)
        activation = replace(activation, threshold=arrays.pop("threshold", None))
        described = {"sparsity": settings.n_active, "seed": seed, "n_train": len(acts)}
        sae = TrainedSae(variant.name, hyperparameters=described, activation=activation, **arrays)
        found.append(PositionDictionary(sample.layer, sae, measure_quality(sae, sample, held)))
    return tuple(found)


def measure_quality(sae: TrainedSae, sample: PositionSample, rows: Int[np.ndarray, " r"]) -> DictionaryQuality:
    """On those rows of the sample; the error of R² is that of a ratio of sums over pictures."""
    acts = sample.positions[rows]
    codes = sae.encode(acts)
    left = np.square(np.subtract(acts, sae.decode(codes), dtype=np.float64)).sum(1)
    total = np.square(acts - acts.mean(0, dtype=np.float64)).sum(1)
    if not total.sum() > 0:
        raise DataError(sample.layer, "its positions are the same in all held-out pictures")
    share = left.sum() / total.sum()
    off = sum_by_picture(left - share * total, sample.picture[rows])
    n = len(off)
    error = float(np.sqrt(n / max(1, n - 1) * np.square(off).sum()) / total.sum())
    l0, n_dead = count_active(codes)
    return DictionaryQuality(float(1 - share), error, l0, n_dead, n, len(rows))


def _hold_out_pictures(
    sample: PositionSample, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " v"]]:
    """Rows to train on and rows to judge by: a picture is on one side, since its positions are alike."""
    pictures, first = np.unique(sample.picture, return_index=True)
    if len(pictures) < LEAST_PICTURES:
        why = f"{len(pictures)} pictures are too few for a dictionary"
        raise DataError(sample.layer, why, hint=f"at least {LEAST_PICTURES} are needed")
    order = rng.permutation(len(pictures))
    order = order[np.argsort(sample.labels[first][order], kind="stable")]  # class by class
    held = order[rng.integers(2) :: max(2, round(1 / HELD_OUT))]
    aside = np.isin(sample.picture, pictures[held])
    return np.flatnonzero(~aside), np.flatnonzero(aside)
