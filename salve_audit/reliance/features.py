"""Features that a class uses: dominant latents, attribution, and shared features (docs/method.md §2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int

from salve_audit.inputs.model.head.linear import LinearHead

N_TOP = 10
SHARED_FROM = 0.5  # |mean code| from this share of its maximum over classes on counts as shared


@dataclass(frozen=True)
class FeatureUse:
    """Use of the latents by the classes, measured on the fit split.

    Attributes:
        mean_codes: (k, m) mean code of each class's samples; NaN rows for classes without any.
        dominant: (k,) latent with the largest |mean code| x dictionary norm; 0 for classes without samples.
        top: (k, t) the same ranking, t <= 10.
        attribution: (k, m) mean contribution to the class's logit above the mean logit.
        by_attribution: (k, m) latents by falling attribution.
        shared: (m, k) the latent's |mean code| on the class is at least half of its maximum over classes.
        alive: (m,) the latent fires on some fit sample.
    """

    mean_codes: Float[np.ndarray, "k m"]
    dominant: Int[np.ndarray, " k"]
    top: Int[np.ndarray, "k t"]
    attribution: Float[np.ndarray, "k m"]
    by_attribution: Int[np.ndarray, "k m"]
    shared: Bool[np.ndarray, "m k"]
    alive: Bool[np.ndarray, " m"]


def class_means(
    codes: Float[np.ndarray, "n m"], labels: npt.NDArray[np.integer], n_classes: int
) -> Float[np.ndarray, "k m"]:
    """Mean code of every class, float64; NaN for classes without samples."""
    sums = np.zeros((n_classes, codes.shape[1]))
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=n_classes)
    for index, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        sums[index] = codes[rows].sum(0, dtype=np.float64) if len(rows) else np.nan
    return sums / np.maximum(counts, 1)[:, None]


def describe_use(
    codes: Float[np.ndarray, "n m"],
    labels: npt.NDArray[np.integer],
    dictionary: Float[np.ndarray, "m d"],
    head: LinearHead,
) -> FeatureUse:
    """Dominant, top and shared latents of every class, from the fit split's codes (n, m)."""
    return describe_blocks([(codes, labels)], dictionary, head)


def describe_blocks(
    blocks: Iterable[tuple[Float[np.ndarray, "_ m"], npt.NDArray[np.integer]]],
    dictionary: Float[np.ndarray, "m d"],
    head: LinearHead,
) -> FeatureUse:
    """Dominant, top and shared latents from blocks of (codes, labels): never are all codes of a large set in memory."""
    sums, counts = np.zeros((head.n_classes, len(dictionary))), np.zeros(head.n_classes, dtype=np.int64)
    alive = np.zeros(len(dictionary), dtype=bool)
    for codes, labels in blocks:
        own = np.bincount(labels, minlength=head.n_classes)
        sums += np.nan_to_num(class_means(codes, labels, head.n_classes)) * own[:, None]
        counts += own
        alive |= codes.any(axis=0)
    mean_codes = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], np.nan)
    norms = np.linalg.norm(dictionary.astype(np.float64), axis=1)
    weight = np.nan_to_num(np.abs(mean_codes)) * norms  # (k, m)
    ranking = np.argsort(-weight, axis=1, kind="stable")
    lead = (head.weight - head.weight.mean(0)).astype(np.float64)  # (k, d)
    attribution = np.nan_to_num(mean_codes) * (lead @ dictionary.T.astype(np.float64))
    size = np.nan_to_num(np.abs(mean_codes)).T  # (m, k)
    largest = size.max(1, keepdims=True, initial=0.0)
    return FeatureUse(
        mean_codes=mean_codes,
        dominant=ranking[:, 0],
        top=ranking[:, :N_TOP],
        attribution=attribution,
        by_attribution=np.argsort(-attribution, axis=1, kind="stable"),
        shared=(size >= SHARED_FROM * largest) & (largest > 0),
        alive=alive,
    )
