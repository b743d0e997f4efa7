"""Where evidence lies in an image, its connected regions, and the image without them, for whole batches at once.

Attribution: integrated gradients of the margin say which cells of a coarse grid speak for the class. Source:
Sundararajan et al., arXiv 1703.01365. The path starts at the image's own mean colour, so that brightness as such
counts neither for nor against the class. The margin's gradient at the image alone misses evidence that is redundant or
saturated; the path does not, and a few steps suffice because only the order of cells is used.

Regions: the cells connected to the strongest one.

Filling: what is around a region flows into it, from coarser and coarser means (push and pull). A region filled with one
colour is a new thing in the image with an edge around it; one filled from its surroundings is close to the image
without the thing. Source: Gortler et al., "The Lumigraph", 1996, section 3.4.1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from salve_audit.evidence.probe import Probe, soft_margin

TINY = 1e-6
GRID = 32  # cells along the longer side: fine enough for a cue of a tenth of the image
COUNTED = 3  # forward passes that a forward and a backward pass together cost, about


def fill_regions(images: Float[Tensor, "b c h w"], regions: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
    """Fill each image's region (1 inside, 0 outside) from its surroundings; nothing else changes.

    An image that is region everywhere becomes 0, the mean colour of prepared images.
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


def choose_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of an image's grid: square cells, at most `GRID` along the longer side, never below a pixel."""
    cell = max(1.0, max(height, width) / GRID)
    return max(1, round(height / cell)), max(1, round(width / cell))


def peak_region(
    evidence: Float[Tensor, "b 1 gh gw"], share: float, margin: int
) -> tuple[Float[Tensor, "b 1 gh gw"], Float[Tensor, "b 1 1 1"]]:
    """Find the cells connected to each image's peak with at least `share` of its height, and `margin` cells more.

    Returns:
        the region, empty where there is no evidence at all, and the height of the peak.
    """
    height, place = evidence.flatten(1).max(1)
    peak = functional.one_hot(place, evidence[0].numel()).to(evidence).view_as(evidence)
    height = height.view(-1, 1, 1, 1)
    return widen(_connect(peak, _above(evidence, share * height)), margin), height


def grow_region(
    region: Float[Tensor, "b 1 gh gw"],
    evidence: Float[Tensor, "b 1 gh gw"],
    least: Float[Tensor, "b 1 1 1"],
    margin: int,
) -> Float[Tensor, "b 1 gh gw"]:
    """Add the cells that touch the region with evidence of at least `least`: the rest of the same thing."""
    touching = _connect(widen(region, 1), _above(evidence, least))
    return torch.maximum(region, widen(touching, margin))


def widen(region: Float[Tensor, "b 1 gh gw"], margin: int) -> Float[Tensor, "b 1 gh gw"]:
    """Add every cell within `margin` cells of the region."""
    return functional.max_pool2d(region, 2 * margin + 1, 1, margin) if margin else region


def to_pixels(region: Float[Tensor, "b 1 gh gw"], size: tuple[int, int]) -> Float[Tensor, "b 1 h w"]:
    """Enlarge cells to the pixels (height, width) of an image, without smoothing."""
    return functional.interpolate(region, size, mode="nearest")


def _above(evidence: Tensor, least: Tensor) -> Tensor:
    return ((evidence > least) & (evidence > 0)).to(evidence.dtype)


def _connect(start: Tensor, allowed: Tensor) -> Tensor:
    """Allowed cells that a path of allowed cells joins to `start`; long windings beyond half the grid are cut off."""
    reached = start * allowed
    for _ in range(max(2, max(start.shape[2:]) // 2)):
        reached = widen(reached, 1) * allowed
    return reached


def attribute(
    probe: Probe, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"], n_steps: int
) -> Float[Tensor, "b 1 h w"]:
    """Compute what each pixel adds to the soft margin, by `n_steps` forward and backward passes."""
    base = images.mean((2, 3), keepdim=True)
    total = torch.zeros_like(images)
    for step in range(n_steps):
        position = (base + (step + 0.5) / n_steps * (images - base)).detach().requires_grad_(True)
        with torch.enable_grad():
            summed = soft_margin(probe(position).logits, labels).sum()
        total += torch.autograd.grad(summed, position)[0]
    return ((total / n_steps) * (images - base)).sum(1, keepdim=True)


def to_grid(attribution: Float[Tensor, "b 1 h w"], grid: tuple[int, int], spread: float) -> Float[Tensor, "b 1 gh gw"]:
    """Average attribution to evidence per cell, smoothed over `spread` cells, with negative values cut off.

    A single pixel is no evidence, hence the smoothing.
    """
    return _blur(functional.adaptive_avg_pool2d(attribution, grid), spread).clamp(min=0)


def _blur(maps: Float[Tensor, "b 1 gh gw"], spread: float) -> Float[Tensor, "b 1 gh gw"]:
    radius = max(1, round(3 * spread))
    offsets = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-(offsets**2) / (2 * spread**2))
    kernel = kernel / kernel.sum()
    padded = functional.pad(maps, (radius, radius, radius, radius), mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1))
