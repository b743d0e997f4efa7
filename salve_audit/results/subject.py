"""What was audited: model, data, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Provenance:
    model_sha256: str
    data_sha256: str
    sae_sha256: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    device: str
    trusted_code: bool  # code named by the user was run (--arch FILE.py:FUNCTION)


@dataclass(frozen=True)
class TransformInfo:
    input_size: tuple[int, ...]  # (channels, height, width)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    source: str  # "checkpoint" or "architecture default (timm)"


@dataclass(frozen=True)
class ModelInfo:
    name: str  # the checkpoint's file name
    architecture: str
    format: str
    head: str  # module path of the final linear layer
    head_error: float | None  # relative error of head(acts) against the model's logits on a real batch; None: no model
    d: int
    n_classes: int
    n_parameters: int
    transform: TransformInfo | None  # None: activations were given, no pictures


@dataclass(frozen=True)
class SkippedFile:
    path: str
    reason: str


@dataclass(frozen=True)
class ClassPair:
    name: str  # as the data calls it
    output: int


@dataclass(frozen=True)
class ClassMapping:
    """Which class of the data is which output of the model."""

    how: str  # in words
    pairs: tuple[ClassPair, ...]


@dataclass(frozen=True)
class DataInfo:
    root: str
    layout: str  # how fit and audit splits came about, in words
    n_fit: int
    n_audit: int
    n_skipped: int
    skipped: tuple[SkippedFile, ...]
    classes: tuple[str, ...]
    mapping: ClassMapping | None = None  # None: labels were given as numbers of outputs, with the activations
