"""A fixed place: where a class's evidence lies in image after image, such as a ruler, a date or a tag in one corner.

What attribution finds in one image may be a part of it; the mean over the class's images, less that of the other
classes, has the whole. It is filled from its surroundings, and inserted from an image of the class. The mask comes from
the evidence, not from the pixels, so it is handed over as the factor's statistics.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.evidence.factors.record import TINY, Factor, Pixels, Shift, Statistics
from salve_audit.evidence.regions import choose_grid, fill_regions, peak_region, to_pixels

NAME = "fixed place"
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # of the peak, the first at which the place is small enough
MOST_AREA = 0.3  # of an image
LEAST_IMAGES = 4
MARGIN = 1  # cells


def find_places(
    heat: Float[Tensor, "n gh gw"], labels: Int[Tensor, " n"], correct: Bool[Tensor, " n"]
) -> Float[Tensor, "k g"]:
    """Find each class's place as a mask of cells, empty for classes with too few images or none beyond the others'.

    Args:
        heat: evidence per cell of each image, 0 or more.
        labels: class index of each image.
        correct: images that were searched.
    """
    n_classes = int(labels.max()) + 1
    shares = heat / heat.sum((1, 2), keepdim=True).clamp(min=TINY)
    counts = torch.bincount(labels[correct], minlength=n_classes).float()
    total = torch.zeros(n_classes, *heat.shape[1:]).index_add_(0, labels[correct], shares[correct])
    mean = total / counts.clamp(min=1)[:, None, None]
    known = counts >= LEAST_IMAGES
    masks = torch.zeros_like(mean)
    for label in torch.nonzero(known)[:, 0].tolist() if int(known.sum()) > 1 else ():
        others = known.clone()
        others[label] = False
        masks[label] = _largest_allowed(mean[label] - mean[others].mean(0))
    return masks.flatten(1)


def _largest_allowed(excess: Float[Tensor, "gh gw"]) -> Float[Tensor, "gh gw"]:
    """The cells around the peak that hang together: two places would be two things."""
    for share in SHARES:
        mask = peak_region(excess.clamp(min=0)[None, None], share, MARGIN)[0][0, 0]
        if float(mask.mean()) <= MOST_AREA:
            return mask
    return torch.zeros_like(excess)


def fill_place(images: Pixels, shift: Shift) -> Pixels:
    """Fill the place of the images' own class from its surroundings."""
    return fill_regions(images, _to_mask(images, shift.source))


def paste_place(images: Pixels, shift: Shift) -> Pixels:
    """Replace the place of the class that images are brought to by that of its donors."""
    assert shift.donors is not None, "places are inserted from donors"
    mask = _to_mask(images, shift.target)
    return images * (1 - mask) + shift.donors * mask


def _to_mask(images: Pixels, cells: Statistics) -> Float[Tensor, "b 1 h w"]:
    size = (int(images.shape[2]), int(images.shape[3]))
    return to_pixels(cells.view(-1, 1, *choose_grid(*size)), size)


FACTORS = (Factor(NAME, NAME, MOST_AREA, fill_place, paste_place, own_change=True, given=True),)
