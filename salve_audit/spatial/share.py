"""How much of what the head sees passes through a layer's positions, and not through class tokens or beside it.

Deep in a transformer the class token has already gathered what it needs, and a map of the positions shows the rest.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.spatial.cut import CutNetwork


def measure_share(cut: CutNetwork, images: Float[Tensor, "n c h w"]) -> float:
    """How far pictures' activations go towards other pictures' when they get their positions: 1 all the way, 0 not.

    A single picture is held against noise.

    Raises:
        LayerError: the network fails.
    """
    if len(images) == 1:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
        images = torch.cat([images, noise * images.std()])
    layout, passed = cut.layer.layout, cut.run(images)
    rows = torch.arange(len(images), device=images.device)
    other = rows.roll(len(rows) // 2)
    mixed = layout.with_positions(passed.output, layout.to_positions(passed.output)[other])
    with torch.no_grad():
        acts = cut.follow(passed, mixed, rows).acts
    way = passed.acts[other] - passed.acts
    length = float(way.square().sum())
    return float(((acts - passed.acts) * way).sum()) / length if length else 0.0
