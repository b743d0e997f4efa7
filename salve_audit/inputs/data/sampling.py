"""A stratified sample of a data set: the same share of every class in both parts, so that its numbers are unbiased."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from salve_audit.errors import UsageError
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.splitting import draw_from_class
from salve_audit.results.notes import SAMPLED

PART = 3  # of the random draws; 1 and 2 are those of --limit


def sample_images(images: ImageSet, n: int, seed: int) -> ImageSet:
    """About `n` of the images, the same share of every class and part, in their order; all where there are no more.

    Raises:
        UsageError: too few to have every class in both parts.
    """
    labels = [np.asarray(split.labels, np.int64) for split in (images.fit, images.audit)]
    total = sum(map(len, labels))
    if n >= total:
        return images
    rows = sample_rows(labels, n, seed)
    fit, audit = (_take(split, own) for split, own in zip((images.fit, images.audit), rows, strict=True))
    chosen = {*fit.paths, *audit.paths}
    attributes = {
        column: {key: text for key, text in values.items() if key in chosen}
        for column, values in images.attributes.items()
    }
    layout = f"{images.layout}, {describe_sample(sum(map(len, rows)), total)}"
    return dataclasses.replace(images, fit=fit, audit=audit, layout=layout, attributes=attributes, sampled_from=total)


def sample_rows(labels: Sequence[Int[np.ndarray, " n"]], n: int, seed: int) -> list[Int[np.ndarray, " some"]]:
    """Ascending rows of each part, about `n` in all: of every class the same share, and one at least.

    Raises:
        UsageError: `n` is less than two for each class, one to fit and one to audit.
    """
    least = sum(len(np.unique(part)) for part in labels)
    if n < least:
        raise UsageError("--sample", f"{n} images are too few for every class in both parts; {least} are the least")
    share = n / sum(map(len, labels))
    drawn = []
    for part, own in enumerate(labels):
        rows = []
        for label in np.unique(own).tolist():
            members = np.flatnonzero(own == label)
            rows.append(
                members[draw_from_class(len(members), max(1, round(share * len(members))), seed, PART + part, label)]
            )
        drawn.append(np.sort(np.concatenate(rows)))
    return drawn


def describe_sample(n: int, total: int) -> str:
    """The sample in words, as the description of the data ends."""
    return f"a stratified sample of {n:,} of {total:,} images"


def note_sample(n: int, total: int) -> str:
    """What the reader of a report should know of its intervals."""
    return (
        f"{SAMPLED}, {n:,} of {total:,} images, the same share of every class: intervals are those of the sample, and "
        "hold for all images of the data."
    )


def _take(split: ImageSplit, rows: Int[np.ndarray, " some"]) -> ImageSplit:
    return ImageSplit(tuple(split.paths[row] for row in rows), tuple(split.labels[row] for row in rows))
