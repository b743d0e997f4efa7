"""The position of a grid in the image: measured, since networks do not centre it.

A convolution of stride 2 with padding 1 on an even side looks at pixels 0, 2, 4 ...: its grid lies half a pixel to the
upper left, and layer by layer this can add up to more than half a cell, enough to point beside a small thing. The pixel
under the grid's centre is found by changing strips of the image: a strip over it moves both halves of the grid alike.
Only the shift is measured; cells are taken to be as far apart as the image's side over their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.inputs.model.classifier import Classifier
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import SpatialLayer

N_STRIPS = 5
REACH = 1.25  # cells to both sides of the image's centre
IMAGES = 4


@dataclass(frozen=True)
class Alignment:
    """The pixel under the centre of the grid, in pixels down (y) and right (x) of the image's centre."""

    y: float
    x: float


CENTRED = Alignment(0.0, 0.0)


def measure_alignment(classifier: Classifier, layer: SpatialLayer, images: Float[Tensor, "n c h w"]) -> Alignment:
    """The shift of the layer's grid, from the first few of the images; zero where it cannot be measured.

    Raises:
        LayerError: the network fails, or cannot be cut at the layer.
    """
    with CutNetwork(classifier.model, layer, classifier.reader, str(classifier.path)) as cut:
        few = images[:IMAGES]
        base = layer.layout.to_positions(cut.look(few))
        return Alignment(*(_measure_axis(cut, few, base, axis) for axis in (0, 1)))


def _measure_axis(cut: CutNetwork, images: Tensor, base: Float[Tensor, "n p c"], axis: int) -> float:
    """The place of a strip whose change is centred on the grid's centre, by a line through a few strips."""
    layout = cut.layer.layout
    side, cells = images.shape[2 + axis], (layout.height, layout.width)[axis]
    width = max(2, round(side / cells / 2))
    middles = side / 2 + np.linspace(-REACH, REACH, N_STRIPS) * side / cells
    starts = np.unique(np.round(middles - width / 2).astype(int).clip(0, side - width))
    generator = torch.Generator().manual_seed(0)  # any noise will do, the same each time
    scale = 2 * float(images.std()) or 1.0
    noise = scale * torch.randn(images.shape, generator=generator).to(images)
    places = torch.linspace(-1, 1, cells, device=images.device)
    centres = []
    for start in starts:
        strip = torch.arange(side, device=images.device).reshape((-1, 1) if axis == 0 else (1, -1))
        changed = torch.where((strip >= start) & (strip < start + width), noise, images)
        change = layout.to_positions(cut.look(changed)) - base
        energy = layout.to_map(change.float().square().sum(-1)).sum(2 - axis)  # (n, cells)
        centres.append(float(((energy * places).sum(1) / energy.sum(1)).mean()))
    if len(starts) < 2 or not np.isfinite(centres).all():
        return 0.0
    slope, offset = np.polyfit(starts + width / 2 - side / 2, centres, 1)
    shift = float(-offset / slope) if slope > 0 else 0.0
    return shift if abs(shift) <= side / cells else 0.0
