"""Mean removed and one global scale: what training sees, and what is folded back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.errors import DataError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.mapped_pages import release_pages

SMALLEST_SCALE = 1e-34  # below it, differences of float32 activations are subnormal
SMALLEST_RELATIVE = 1e-7  # of the largest mean: below it, the differences are rounding errors
CHUNK_ROWS = 8192
SCATTERED_ROWS = 512


@dataclass(frozen=True)
class Normalisation:
    """``normalised = (acts - mean) / scale``.

    Attributes:
        mean: (d,) float64.
        scale: root mean square of the centred activations over all samples and coordinates.
    """

    mean: Float[np.ndarray, " d"]
    scale: float


def fit_normalisation(acts: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " r"]) -> Normalisation:
    """Mean and global scale of the chosen samples, in float64.

    Raises:
        DataError: all samples are the same.
    """
    mean = np.sum([chunk.sum(axis=0) for _, chunk in _chunks(acts, rows)], axis=0) / len(rows)
    total = sum(float(np.square(chunk - mean).sum()) for _, chunk in _chunks(acts, rows))
    scale = float(np.sqrt(total / (len(rows) * acts.shape[1])))
    if not scale > max(SMALLEST_SCALE, SMALLEST_RELATIVE * float(np.abs(mean).max())):
        raise DataError(
            "activations",
            "they are the same for every sample, there is nothing to encode",
            hint="are the weights loaded, and is the head the right layer?",
        )
    return Normalisation(mean, scale)


def identity_normalisation(d: int) -> Normalisation:
    """Leaves activations as they are."""
    return Normalisation(np.zeros(d), 1.0)


def normalise(
    acts: Float[np.ndarray, "n d"],
    rows: Int[np.ndarray, " r"],
    normalisation: Normalisation,
    device: str | torch.device,
) -> Float[Tensor, "r d"]:
    """The chosen samples as one normalised float32 tensor in the device's memory."""
    normalised = np.empty((len(rows), acts.shape[1]), dtype=np.float32)
    for start, chunk in _chunks(acts, rows):
        normalised[start : start + len(chunk)] = (chunk - normalisation.mean) / normalisation.scale
    return torch.from_numpy(normalised).to(device)


def refuse_non_finite(acts: Float[np.ndarray, "n d"]) -> None:
    """Raises:
    DataError: some samples hold NaN or infinite values.
    """
    n_bad = 0
    for start in range(0, len(acts), CHUNK_ROWS):
        n_bad += int((~np.isfinite(acts[start : start + CHUNK_ROWS])).any(axis=1).sum())
        release_pages(acts)
    if n_bad:
        raise DataError("activations", f"{n_bad} of {len(acts)} samples hold NaN or infinite values")


def read_rows(acts: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " r"]) -> Float[np.ndarray, "r d"]:
    """A float32 copy of scattered rows; each one touched in a mapped file brings some 200 kB around it into memory."""
    copied = np.empty((len(rows), acts.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), SCATTERED_ROWS):
        copied[start : start + SCATTERED_ROWS] = acts[rows[start : start + SCATTERED_ROWS]]
        release_pages(acts)
    return copied


def _chunks(acts: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(position, float64 samples) of so many rows at a time: `acts` may be memory-mapped and larger than memory."""
    for start in range(0, len(rows), CHUNK_ROWS):
        yield start, acts[rows[start : start + CHUNK_ROWS]].astype(np.float64)
        release_pages(acts)


def scaled_head(head: LinearHead, normalisation: Normalisation) -> LinearHead:
    """The head as it reads normalised activations."""
    weight, bias = head.weight.astype(np.float64), head.bias + head.weight.astype(np.float64) @ normalisation.mean
    return replace(head, weight=(normalisation.scale * weight).astype(np.float32), bias=bias.astype(np.float32))
