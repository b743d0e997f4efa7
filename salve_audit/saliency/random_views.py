"""Images seen with a frame, shifted, enlarged and turned at random, so that no structure pays that needs its place.

Frame, shift, scale, rotation and centre crop are one sampling of the framed image: chained samplings would blur it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

GREY = 0.5  # of the frame


@dataclass(frozen=True)
class ViewSettings:
    """docs/method.md §6.

    Attributes:
        pad: width of the grey frame in pixels; beyond it the view is as grey.
        jitter: largest shift in pixels along either axis.
        scales: smallest and largest enlargement.
        degrees: largest rotation in either direction.
    """

    pad: int = 16
    jitter: float = 8.0
    scales: tuple[float, float] = (0.9, 1.1)
    degrees: float = 10.0

    def fitted(self, side: int) -> ViewSettings:
        """These settings for images whose shorter side is `side`: a shift of an eighth at most."""
        return ViewSettings(self.pad, min(self.jitter, side / 8), self.scales, self.degrees)


def draw_views(
    images: Float[Tensor, "b c h w"], settings: ViewSettings, generator: torch.Generator
) -> Float[Tensor, "b c h w"]:
    """One random view of every image, of the same size; on the CPU, where the gradient's sum has one order."""
    b, c, h, w = images.shape
    framed = F.pad(images, [settings.pad] * 4, value=GREY)
    grid = F.affine_grid(_draw_affine(images, framed, settings, generator), [b, c, h, w], align_corners=False)
    return F.grid_sample(framed, grid, padding_mode="border", align_corners=False)


def _draw_affine(
    images: Tensor, framed: Tensor, settings: ViewSettings, generator: torch.Generator
) -> Float[Tensor, "b 2 3"]:
    """Affine maps from the view's coordinates to the framed image's, both in half sides from the centre."""
    angle, scale, right, down = torch.rand(4, len(images), generator=generator).unbind()
    angle = torch.deg2rad((2 * angle - 1) * settings.degrees)
    scale = settings.scales[0] + scale * (settings.scales[1] - settings.scales[0])
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2) / scale.view(
        -1, 1, 1
    )
    shift = (2 * torch.stack([right, down], dim=1) - 1) * settings.jitter
    half, half_framed = (torch.tensor([batch.shape[-1], batch.shape[-2]]) / 2 for batch in (images, framed))
    return torch.cat([turn * half / half_framed[:, None], (shift / half_framed)[:, :, None]], dim=2)
