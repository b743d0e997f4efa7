"""Maps at the image's size: where their grid really lies, smooth, and dark where there are no cells.

Three things keep a coarse map from pointing beside a small thing: its grid is placed where it was measured to lie
(`spatial.alignment`); it is interpolated by cubic B-splines, whose maxima may lie between cells, while those of a
bilinear map sit on cells; and beyond the grid there is nothing, while repeating the outer cells would move every
maximum of theirs to the image's edge.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.spatial.alignment import CENTRED, Alignment


def normalise_maps(maps: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """Each map from 0 to 1; zeros for a constant one."""
    low = maps.amin((-2, -1), keepdim=True)
    span = maps.amax((-2, -1), keepdim=True) - low
    return torch.where(span > 0, (maps - low) / torch.where(span > 0, span, 1), 0)


def enlarge_maps(
    maps: Float[Tensor, "*b h w"], size: tuple[int, int], alignment: Alignment = CENTRED
) -> Float[Tensor, "*b y x"]:
    """Maps of any sign at `size`, (height, width) in pixels, each from 0 to 1."""
    rows = _weigh_cells(size[0], maps.shape[-2], alignment.y).to(maps)
    columns = _weigh_cells(size[1], maps.shape[-1], alignment.x).to(maps)
    return normalise_maps(rows @ normalise_maps(maps) @ columns.T)


def _weigh_cells(n_pixels: int, n_cells: int, shift: float) -> Float[Tensor, "n c"]:
    """(n, c) weight of each cell at each pixel: the cubic B-spline, a bump over four cells."""
    from_centre = torch.arange(n_pixels) - (n_pixels - 1) / 2 - shift
    cell = from_centre * n_cells / n_pixels + (n_cells - 1) / 2
    apart = (cell[:, None] - torch.arange(n_cells)).abs()
    near, far = 2 / 3 - apart**2 + apart**3 / 2, (2 - apart).clamp(min=0) ** 3 / 6
    return torch.where(apart < 1, near, far)
