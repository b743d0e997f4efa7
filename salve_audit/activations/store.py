"""Cached activations: what everything after the one backbone pass works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.activations.precision import Precision
from salve_audit.inputs.model.head.linear import LinearHead


@dataclass(frozen=True)
class ActivationSplit:
    """Activations of one split.

    Attributes:
        acts: (n, d) float32, memory-mapped where they come from the cache: input of the final linear layer.
        labels: (n,) int64 class indices.
        paths: n relative paths, in the same order.
    """

    acts: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read."""

    path: str
    reason: str


@dataclass(frozen=True)
class Activations:
    """Both splits with the verified head.

    Attributes:
        fit, audit: the two splits.
        head: the verified final linear layer.
        head_error: largest relative error of ``head(acts)`` against the model's logits on a real batch; None: there
            is no model to verify it on.
        key: sha256 of weights, architecture, head, transform, precision and the files' contents.
        data_sha256: of the image files' contents and labels alone.
        from_cache: no backbone pass was needed.
        precision: of the backbone pass; None: there was none.
        skipped: unreadable images.
        contents_sha256: of the image files' contents alone, in order; empty where there are no images.
    """

    fit: ActivationSplit
    audit: ActivationSplit
    head: LinearHead
    head_error: float | None
    key: str
    data_sha256: str
    from_cache: bool
    skipped: tuple[Skipped, ...]
    contents_sha256: str = ""
    precision: Precision | None = None
