"""Records of the audited subject: model, data, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from salve_audit.results.decisions import Decision
from salve_audit.results.transform import TransformSpec

LIVE = "live module"  # format of a model that was given as a module in memory


@dataclass(frozen=True)
class Provenance:
    """What the audit was computed from: hashes, settings, versions."""

    model_sha256: str
    data_sha256: str
    sae_sha256: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    device: str
    trusted_code: bool  # code named by the user was run (--arch FILE.py:FUNCTION)
    decisions: tuple[Decision, ...] = ()  # readings of the model and the data that were chosen between
    precision: str | None = None  # of the backbone pass; None: there was none, or an earlier version wrote the audit
    precision_agreement: float | None = None  # share of probed images that bf16 and fp32 predict alike; None: not tried


@dataclass(frozen=True)
class ModelInfo:
    """The audited model in words and counts."""

    name: str  # the checkpoint's file name
    architecture: str
    format: str
    head: str  # module path of the final linear layer
    head_error: float | None  # relative error of head(acts) against the model's logits on a real batch; None: no model
    d: int
    n_classes: int
    n_parameters: int
    transform: TransformSpec | None  # None: activations were given, no images


@dataclass(frozen=True)
class SkippedFile:
    """An image that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class ClassPair:
    """A class of the data, and the output that it was matched with."""

    name: str  # as the data calls it
    output: int


@dataclass(frozen=True)
class ClassMapping:
    """The match between classes of the data and outputs of the model."""

    how: str  # in words
    pairs: tuple[ClassPair, ...]


@dataclass(frozen=True)
class DataInfo:
    """The audited data: splits, classes, what was skipped."""

    root: str
    layout: str  # how fit and audit splits came about, in words
    n_fit: int
    n_audit: int
    n_skipped: int
    skipped: tuple[SkippedFile, ...]
    classes: tuple[str, ...]
    mapping: ClassMapping | None = None  # None: labels were given as numbers of outputs, with the activations
    sampled_from: int | None = None  # images that --sample drew from; None: all were audited

    @property
    def n_images(self) -> int:
        """Images of both splits, those that could not be read among them."""
        return self.n_fit + self.n_audit + self.n_skipped
