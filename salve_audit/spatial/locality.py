"""Locality of an output: corners of an image are changed, and the change of the output is located.

Shapes alone cannot tell (b, 8, 8, 8) from its transpose, nor a grid of tokens from any other set. What verifies a
layout is that a change in one corner of the image moves that corner of the grid most, for all four corners: along a
wrong axis the change follows channels, or rows where columns should be, and does not correlate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.spatial.layout import CHANNELS_FIRST, CHANNELS_LAST, TOKENS, GridLayout

CORNERS = ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0))  # (y, x)
LEAST_CORRELATION = 0.8
MOST_PREFIX = 16  # class, distillation and register tokens; models have up to 9


def change_corners(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "m c h w"]:
    """The images, followed by four copies of all of them with noise over a quarter of each side in one corner."""
    generator = torch.Generator().manual_seed(0)  # any noise will do, the same each time
    height, width = (math.ceil(side / 4) for side in images.shape[2:])
    scale = 2 * float(images.std()) or 1.0
    noise = scale * torch.randn(*images.shape[:2], height, width, generator=generator).to(images)
    copies = [images]
    for y, x in CORNERS:
        changed = images.clone()
        rows = slice(None, height) if y < 0 else slice(-height, None)
        columns = slice(None, width) if x < 0 else slice(-width, None)
        changed[:, :, rows, columns] = noise
        copies.append(changed)
    return torch.cat(copies)


def find_layout(
    output: Float[Tensor, "m ..."], size: tuple[int, int], n_prefix: int | None = None
) -> GridLayout | None:
    """The layout of what a module returned for `change_corners`; None: its places are not those of the image.

    Args:
        size: height and width of the images.
        n_prefix: number of tokens in front that the network itself names; tried first.
    """
    base, changed = output[: len(output) // 5].detach(), output[len(output) // 5 :].detach()
    change = (changed.reshape(4, *base.shape) - base).float().square()  # (4, n, ...)
    best, most = None, LEAST_CORRELATION
    for layout in _propose(tuple(output.shape[1:]), size, n_prefix):
        channel_axis = 2 if layout.kind == CHANNELS_FIRST else -1
        energy = change.sum(channel_axis)
        if layout.kind == TOKENS:
            energy = layout.to_map(energy[..., layout.n_prefix :])
        locality = measure_locality(energy)
        if locality > most:
            best, most = layout, locality
        if best is not None and layout.kind == TOKENS:
            break  # proposals of tokens come best first; a coarser grid would correlate as well
    return best


def measure_locality(energy: Float[Tensor, "4 n h w"]) -> float:
    """Correlation of the centre of the change with the changed corner: the lower of the two axes', 1 at best."""
    height, width = energy.shape[-2:]
    total = energy.sum((2, 3))  # (4, n)
    if not torch.isfinite(total).all() or not (total > 0).any():
        return 0.0
    y, x = (torch.linspace(-1, 1, side, device=energy.device) for side in (height, width))
    moments = torch.stack([(energy.sum(3) * y).sum(2), (energy.sum(2) * x).sum(2)], dim=-1)  # (4, n, 2)
    share = torch.where(total > 0, total, 1)[..., None]
    centres = (moments / share).mean(1)  # (4, 2)
    centres = centres - centres.mean(0)
    corners = torch.tensor(CORNERS, device=energy.device)
    norms = centres.norm(dim=0) * corners.norm(dim=0)
    return float(((centres * corners).sum(0) / norms.clamp(min=1e-12)).min())


def _propose(shape: tuple[int, ...], size: tuple[int, int], n_prefix: int | None) -> Iterator[GridLayout]:
    """Layouts that one image's output of that shape could have."""
    if len(shape) == 3:
        first, last = GridLayout(CHANNELS_FIRST, *shape[1:], shape[0]), GridLayout(CHANNELS_LAST, *shape)
        yield from (layout for layout in (first, last) if _fits(layout, size))
    if len(shape) == 2:
        n_tokens, channels = shape
        grids = {(size[0] // side, size[1] // side) for side in range(1, min(size) // 2 + 1)}
        grids |= {(-(-size[0] // side), -(-size[1] // side)) for side in range(1, min(size) // 2 + 1)}
        spare = {grid: n_tokens - grid[0] * grid[1] for grid in grids}
        fitting = [grid for grid, extra in spare.items() if 0 <= extra <= MOST_PREFIX]
        for grid in sorted(fitting, key=lambda grid: (spare[grid] != n_prefix, spare[grid])):
            layout = GridLayout(TOKENS, *grid, channels, spare[grid])
            if _fits(layout, size):
                yield layout


def _fits(layout: GridLayout, size: tuple[int, int]) -> bool:
    return 2 <= layout.height <= size[0] and 2 <= layout.width <= size[1]
