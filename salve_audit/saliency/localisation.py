"""Localisation with known masks (docs/method.md §6.3): the pointing game, and the overlap of the hottest fifth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from salve_audit.saliency.heat import TOP_SHARE


def hits(maps: Float[np.ndarray, "n y x"], masks: Bool[np.ndarray, "n y x"]) -> Float[np.ndarray, " n"]:
    """The pointing game: 1 where a map's hottest pixel lies within the mask; ties count by their share within it."""
    hottest = maps == maps.max(axis=(1, 2), keepdims=True)
    return (hottest & masks).sum(axis=(1, 2)) / hottest.sum(axis=(1, 2))


def overlap(maps: Float[np.ndarray, "n y x"], masks: Bool[np.ndarray, "n y x"]) -> Float[np.ndarray, " n"]:
    """Intersection over union of the mask and the hottest fifth of the pixels; among equals the first rows.

    A mask of another size than a fifth cannot reach 1: see `best_overlap`.
    """
    n_pixels = maps[0].size
    order = np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable")
    top = np.zeros((len(maps), n_pixels), bool)
    np.put_along_axis(top, order[:, : max(1, round(TOP_SHARE * n_pixels))], True, axis=1)
    flat = masks.reshape(len(masks), -1)
    return (top & flat).sum(axis=1) / (top | flat).sum(axis=1)


def best_overlap(masks: Bool[np.ndarray, "n y x"]) -> Float[np.ndarray, " n"]:
    """The `overlap` of a map that is hot on the mask alone."""
    return overlap(masks.astype(np.float64), masks)


def bootstrap_mean(
    values: Float[np.ndarray, " n"], rng: np.random.Generator, n_draws: int = 2000
) -> tuple[float, float, float]:
    """Mean with a 95 % percentile interval over images: (mean, low, high)."""
    draws = values[rng.integers(len(values), size=(n_draws, len(values)))].mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(values.mean()), float(low), float(high)
