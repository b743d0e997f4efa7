"""Gradients of directions of the head's inputs at the positions of a layer, all in one backward pass.

A latent's pre-activation is ``e · a + b`` with its encoder row e, a class's logit ``w · a + b`` with its row of the
head. Both are directions of the head's inputs a, so the gradients of all of them come from one product with the
Jacobian of a, which the latents share. Gates (ReLU, TopK, thresholds) come after: an inactive latent has no gradient of
its code, but one of its pre-activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from salve_audit.inputs.model.head.verification import VERIFIED_WITHIN
from salve_audit.spatial.cut import CutNetwork, CutPass
from salve_audit.spatial.layout import GridLayout

MOST_NUMBERS = 2**24  # of the gradients held at once, 64 MB


@dataclass(frozen=True)
class GradientBlock:
    """Gradients of all directions for some images of a pass.

    Attributes:
        positions: (r, p, c) what the layer gave there.
        gradients: (l, r, p, c); (l, 1, p, c) where they are the same for every image.
    """

    positions: Float[Tensor, "r p c"]
    gradients: Float[Tensor, "l s p c"]


class Directions:
    """Directions of the head's inputs, and how to find their gradients at the cut.

    Between the last map and the head there is often nothing but an average. Where the rest of the network is shown to
    be linear, its Jacobian is computed once, and images need no backward pass at all.

    Args:
        cut: the network.
        vectors: (l, d), one direction per row.
    """

    def __init__(self, cut: CutNetwork, vectors: Float[Tensor, "l d"]) -> None:
        self._cut, self._vectors = cut, vectors
        self._is_linear: bool | None = None
        self._shared: Tensor | None = None  # (l, 1, p, c)

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def layout(self) -> GridLayout:
        """Layout of the layer's grid."""
        return self._cut.layer.layout

    def iterate(self, passed: CutPass) -> Iterator[GradientBlock]:
        """The gradients for all images of `passed`, a few images at a time."""
        for rows in self._split(passed):
            yield GradientBlock(
                self.layout.to_positions(passed.output[rows]), self._differentiate(passed, rows, passed.output[rows])
            )

    def iterate_paths(self, passed: CutPass, n_steps: int) -> Iterator[GradientBlock]:
        """Gradients averaged along the line from an image without places to the image, and the way between them.

        Without places: every position holds the mean of all positions; tokens in front stay as they are.
        """
        for rows in self._split(passed):
            output = passed.output[rows]
            ends = self.layout.to_positions(output)
            start = ends.mean(1, keepdim=True)
            total: Tensor | None = None
            for share in self._choose_shares(n_steps):
                between = self.layout.with_positions(output, start + share * (ends - start))
                gradients = self._differentiate(passed, rows, between)
                total = gradients if total is None else total.add_(gradients)
            assert total is not None, "a path has a step at least"
            yield GradientBlock(ends - start, total / len(self._choose_shares(n_steps)))

    def _choose_shares(self, n_steps: int) -> list[float]:
        """The middles of `n_steps` pieces; one will do where gradients are the same everywhere."""
        return [1.0] if self._is_linear else [(step + 0.5) / n_steps for step in range(n_steps)]

    def _split(self, passed: CutPass) -> list[slice]:
        """Images that are differentiated together; all of them where nothing needs to be."""
        if self._is_linear is None:
            self._is_linear = not passed.before and is_linear(self._cut, passed)
        each = len(self) * self.layout.n_positions * self.layout.channels
        step = len(passed) if self._is_linear else max(1, MOST_NUMBERS // each)
        return [slice(start, start + step) for start in range(0, len(passed), step)]

    def _differentiate(self, passed: CutPass, rows: slice, output: Tensor) -> Float[Tensor, "l s p c"]:
        """Gradients at `output`, which belongs to the `rows` of the pass."""
        if not self._is_linear:
            return self._pull_back(passed, rows, output)
        if self._shared is None:
            self._shared = self._pull_back(passed, slice(0, 1), passed.output[:1])
        return self._shared

    def _pull_back(self, passed: CutPass, rows: slice, output: Tensor) -> Float[Tensor, "l r p c"]:
        """One forward pass of the rest and one backward pass with an axis of directions."""
        output = output.detach().requires_grad_()
        index = torch.arange(len(passed), device=output.device)[rows]
        # the fused attention has no backward pass with an axis in front
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            acts = self._cut.follow(passed, output, index).acts
        cotangents = self._vectors.to(acts)[:, None].expand(-1, len(acts), -1)  # (l, r, d)
        (gradients,) = torch.autograd.grad(acts, output, cotangents, is_grads_batched=True)
        flat = self.layout.to_positions(gradients.flatten(0, 1))
        return flat.reshape(len(self), len(acts), *flat.shape[1:])


def is_linear(cut: CutNetwork, passed: CutPass) -> bool:
    """True if the head's inputs are an affine function of the layer's output: tried on noise, where any ReLU shows."""
    output = passed.output[:1]
    generator = torch.Generator().manual_seed(0)  # any noise will do, the same each time
    scale = float(output.std()) or 1.0
    first, second, third, fourth = scale * torch.randn(4, *output.shape[1:], generator=generator).to(output)
    tried = torch.stack([first, second, third, first + second - third, 8 * fourth, -8 * fourth, 0 * fourth])
    with torch.no_grad():
        acts = cut.follow(passed, tried, torch.zeros(len(tried), dtype=torch.long, device=output.device)).acts
    apart = torch.stack([acts[0] + acts[1] - acts[2] - acts[3], acts[4] + acts[5] - 2 * acts[6]])
    return bool(apart.abs().max() <= VERIFIED_WITHIN * acts.abs().max())
