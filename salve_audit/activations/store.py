"""Cached activations: what everything after the one backbone pass works on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from salve_audit.inputs.model.head.linear import LinearHead

FP32, BF16 = "fp32", "bf16"


@dataclass(frozen=True)
class Precision:
    """The precision of a pass, and how it was chosen.

    Attributes:
        name: fp32 or bf16.
        agreement: share of the probed images that both precisions predict alike; None: they were not compared.
        n_probed: images of that.
        gain: how many times faster a batch was in bf16; None: not timed.
    """

    name: str
    agreement: float | None = None
    n_probed: int = 0
    gain: float | None = None

    def describe(self) -> str | None:
        """What the reader of a report should know; None where nothing but float32 was tried."""
        if self.agreement is None:
            return None
        share = f"{self.agreement:.1%} of {self.n_probed} predictions are those of float32"
        faster = "" if self.gain is None else f", a batch is {self.gain:.1f} times faster"
        if self.name == BF16:
            return f"activations were computed in bfloat16: {share}{faster}"
        return f"activations were computed in float32; in bfloat16 {share}{faster}"


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
