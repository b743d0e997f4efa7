"""Labelled images, split into a fit part (SAE and feature choice) and an audit part (thresholds, benchmarks)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from salve_audit.inputs.data.sources.source import FolderSource, ImageSource
from salve_audit.results.decisions import Decision


@dataclass(frozen=True)
class ImageSplit:
    """Keys of images (relative posix paths where they are files) and their class indices, in a fixed order."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class ImageSet:
    """A labelled image set.

    Attributes:
        root: the folder all paths are relative to, or the file that holds the images.
        classes: class names, in the order of the labels; after `match_classes`, one per output of the model.
        fit: what the SAE and the choice of features may see.
        audit: what thresholds and benchmarks are measured on.
        layout: one sentence for the report, for instance ``train/ to fit, val/ to audit``.
        source: reads an image by its key; None: files below `root`.
        indices: the outputs that the classes ask for, where the data gives numbers instead of names.
        mapping: how classes became outputs, in words; empty before `match_classes`.
        pairs: the classes as the data calls them, and the output of each; empty before `match_classes`.
        decisions: readings of the data that were chosen between.
        matched_by_name: the outputs are called as the classes are; see `match_classes`.
        attributes: further columns of a manifest or table: column -> key -> text, empty text where there is none.
        sampled_from: images that these were drawn from by ``--sample``; None: they are all.
    """

    root: Path
    classes: tuple[str, ...]
    fit: ImageSplit
    audit: ImageSplit
    layout: str
    source: ImageSource | None = None
    indices: tuple[int, ...] | None = None
    mapping: str = ""
    pairs: tuple[tuple[str, int], ...] = ()
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()
    matched_by_name: bool = False
    sampled_from: int | None = None

    @property
    def reader(self) -> ImageSource:
        """The source that reads the images' contents."""
        return self.source or FolderSource(self.root)
