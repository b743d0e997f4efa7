"""Heat maps of latents and classes: Grad-FAM, Grad-CAM and integrated gradients, for all images of a pass at once.

Every map is made of what the layer gave at its positions, F (p, c), and of the gradients there, g (p, c), of a latent's
pre-activation or a class's logit:

- `compute_grad_fam`: ``|Σ_c mean_p(g_c) F_pc|``, the paper's (arXiv 2512.15938, A.5.2), at the last spatial layer;
- `compute_grad_cam`: ``max(0, Σ_c mean_p(g_c) F_pc)`` (arXiv 1610.02391), at the same layer;
- `compute_integrated`: ``Σ_c g_pc (F_pc − F̄_c)`` with g averaged on the way from F̄, the mean over positions, to F
  (integrated gradients, arXiv 1703.01365), at the middle layer. The positions add up to what the latent has from the
  image's having places at all; positive where a position raises it.

The sharper one was chosen by measurement (benchmarks/saliency.py). Gradient times activation without the path fails
where a latent is saturated, as in transformers, and norms of gradients and activations, which point well in images
with one thing in them, point at any of several, whatever the latent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.saliency.gradients import Directions, GradientBlock
from salve_audit.spatial.cut import CutPass

PATH_STEPS = 4  # eight point hardly better


def compute_grad_fam(directions: Directions, passed: CutPass) -> Float[Tensor, "b l h w"]:
    """Grad-FAM of every direction and image, not normalised."""
    return _compute(lambda block: _weigh_channels(block).abs(), directions, passed)


def compute_grad_cam(directions: Directions, passed: CutPass) -> Float[Tensor, "b l h w"]:
    """Grad-CAM of every direction and image, not normalised."""
    return _compute(lambda block: _weigh_channels(block).relu(), directions, passed)


def compute_integrated(directions: Directions, passed: CutPass, n_steps: int = PATH_STEPS) -> Float[Tensor, "b l h w"]:
    """Contribution of each position to every direction, signed, not normalised."""
    with torch.no_grad():
        blocks = directions.iterate_paths(passed, n_steps)
        maps = torch.cat([(block.gradients * block.positions).sum(3) for block in blocks], dim=1)  # (l, b, p)
    return directions.layout.to_map(maps.transpose(0, 1))


def _weigh_channels(block: GradientBlock) -> Float[Tensor, "l r p"]:
    weights = block.gradients.mean(2)  # (l, r or 1, c)
    if weights.shape[1] == 1:
        return torch.einsum("rpc,lc->lrp", block.positions, weights[:, 0])
    return torch.einsum("rpc,lrc->lrp", block.positions, weights)


def _compute(
    draw: Callable[[GradientBlock], Float[Tensor, "l r p"]], directions: Directions, passed: CutPass
) -> Float[Tensor, "b l h w"]:
    with torch.no_grad():
        maps = torch.cat([draw(block) for block in directions.iterate(passed)], dim=1)  # (l, b, p)
    return directions.layout.to_map(maps.transpose(0, 1))
