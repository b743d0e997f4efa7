"""Takes a region out of a picture: what is around it flows in, from coarser and coarser means (push and pull).

A region filled with one colour is a new thing in the picture with an edge around it; one filled from its surroundings
is close to the picture without the thing. Source: Gortler et al., "The Lumigraph", 1996, section 3.4.1.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

TINY = 1e-6


def fill_regions(images: Float[Tensor, "b c h w"], regions: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
    """The pictures with their regions (1 inside, 0 outside) replaced; nothing else changes.

    A picture that is region everywhere becomes 0, the mean colour of prepared pictures.
    """
    known = 1 - regions
    levels = [(images * known, known)]
    while max(levels[-1][1].shape[2:]) > 1:
        colour, weight = levels[-1]
        levels.append((_halve(colour), _halve(weight)))
    colour, weight = levels[-1]
    filled = colour / weight.clamp(min=TINY)
    for colour, weight in reversed(levels[:-1]):
        coarse = functional.interpolate(filled, colour.shape[2:], mode="bilinear", align_corners=False)
        sure = weight.clamp(max=1) * (weight > TINY)
        filled = sure * colour / weight.clamp(min=TINY) + (1 - sure) * coarse
    return images * known + filled * regions


def _halve(maps: Tensor) -> Tensor:
    # an axis that has reached 1 stays; odd sides keep their last row
    kernel = tuple(min(2, side) for side in maps.shape[2:])
    return functional.avg_pool2d(maps, kernel, ceil_mode=True)
