"""Which places of a picture speak for its class: integrated gradients of the margin, on a coarse grid.

Source: Sundararajan et al., arXiv 1703.01365. The path starts at the picture's own mean colour, so that brightness
as such counts neither for nor against the class. The margin's gradient at the picture alone misses evidence that is
redundant or saturated; the path does not, and a few steps suffice because only the order of places is used.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from salve_audit.reliance.depth.network import Probe, soft_margin

COUNTED = 3  # one forward and one backward pass cost about as much as three forward passes


def attribute(
    probe: Probe, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"], n_steps: int
) -> Float[Tensor, "b 1 h w"]:
    """What each pixel adds to the margin; costs `n_steps` forward and backward passes."""
    base = images.mean((2, 3), keepdim=True)
    total = torch.zeros_like(images)
    for step in range(n_steps):
        position = (base + (step + 0.5) / n_steps * (images - base)).detach().requires_grad_(True)
        with torch.enable_grad():
            summed = soft_margin(probe(position).logits, labels).sum()
        total += torch.autograd.grad(summed, position)[0]
    return ((total / n_steps) * (images - base)).sum(1, keepdim=True)


def to_grid(attribution: Float[Tensor, "b 1 h w"], grid: tuple[int, int], spread: float) -> Float[Tensor, "b 1 gh gw"]:
    """Evidence per cell, smoothed over `spread` cells, negative parts cut off: a single pixel is no evidence."""
    return _blur(functional.adaptive_avg_pool2d(attribution, grid), spread).clamp(min=0)


def _blur(maps: Float[Tensor, "b 1 gh gw"], spread: float) -> Float[Tensor, "b 1 gh gw"]:
    radius = max(1, round(3 * spread))
    offsets = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-(offsets**2) / (2 * spread**2))
    kernel = kernel / kernel.sum()
    padded = functional.pad(maps, (radius, radius, radius, radius), mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1))
