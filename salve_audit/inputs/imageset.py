"""Labelled images, split into a fit part (SAE and feature choice) and an audit part (thresholds, benchmarks)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ImageSplit:
    """Paths (relative to the set's root, posix separators) and their class indices, in a fixed order."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class ImageSet:
    """A labelled image set on disk.

    Attributes:
        root: the folder all paths are relative to.
        classes: class names, in the order of the labels.
        fit: what the SAE and the choice of features may see.
        audit: what thresholds and benchmarks are measured on.
        layout: one sentence for the report, for instance ``train/ to fit, val/ to audit``.
    """

    root: Path
    classes: tuple[str, ...]
    fit: ImageSplit
    audit: ImageSplit
    layout: str
