"""What a global factor is: how it is measured in images, removed from those of a class, and inserted into others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.results import TransformSpec

Pixels = Float[Tensor, "b c h w"]  # about 0..1, whatever the network is given
Statistics = Float[Tensor, "b s"]
TINY = 1e-6


@dataclass(frozen=True)
class Shift:
    """From what to what images are brought.

    Attributes:
        source: (b, s) mean statistics of the classes that the images come from.
        target: (b, s) mean statistics of those that they are brought to.
        donors: (b, c, h, w) images to take parts of; None where the factor is removed.
    """

    source: Statistics
    target: Statistics
    donors: Pixels | None = None


Change = Callable[[Pixels, Shift], Pixels]


@dataclass(frozen=True)
class Factor:
    """A global factor of images.

    Attributes:
        name: in audit.json.
        kind: of a finding that it makes; related factors share one.
        area: share of the image that it takes.
        remove: brings images of a class to the other classes' statistics; None: it is only inserted.
        insert: brings images of other classes to a class's; None: it is only removed.
        measure: statistics of each image; None: it has none.
        same_for_all: inserting it is the same change for every class.
        coloured: it is about colour, which images of one channel do not have.
        own_change: what is removed is a change of its class's own, which is made to other classes' images as control.
        given: its statistics are handed over, not measured in pixels, and differ in what they take from an image.
    """

    name: str
    kind: str
    area: float
    remove: Change | None = None
    insert: Change | None = None
    measure: Callable[[Pixels], Statistics] | None = None
    same_for_all: bool = False
    coloured: bool = False
    own_change: bool = False
    given: bool = False

    def statistics(self, images: Pixels) -> Statistics:
        """Measure each image; without statistics (b, 0)."""
        return images.new_zeros(len(images), 0) if self.measure is None else self.measure(images)


def change_prepared(images: Float[Tensor, "b c h w"], spec: TransformSpec, change: Change, shift: Shift) -> Tensor:
    """Change images that were prepared for a network, which then are prepared again."""
    pixels = undo_preparation(images, spec)
    donors = None if shift.donors is None else undo_preparation(shift.donors.to(images), spec)
    mean, std = _moments(images, spec)
    changed = change(pixels, Shift(shift.source.to(images), shift.target.to(images), donors))
    return (changed - mean) / std


def undo_preparation(images: Float[Tensor, "b c h w"], spec: TransformSpec) -> Pixels:
    """Turn prepared images into pixels."""
    mean, std = _moments(images, spec)
    return images * std + mean


def _moments(images: Tensor, spec: TransformSpec) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values).view(1, -1, 1, 1).to(images) for values in (spec.mean, spec.std))
    return mean, std


def to_luminance(images: Pixels) -> Float[Tensor, "b 1 h w"]:
    """Brightness as it is seen (Rec. 601) of three channels, else their mean."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114]).to(images).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)
