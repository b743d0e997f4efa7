"""The layout of a module's output over the image: its axis of channels and its axes of places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

CHANNELS_FIRST, CHANNELS_LAST, TOKENS = "channels-first", "channels-last", "tokens"


@dataclass(frozen=True)
class GridLayout:
    """A grid of positions, each with a vector of channels.

    Attributes:
        kind: ``channels-first`` (b, c, h, w), ``channels-last`` (b, h, w, c) or ``tokens`` (b, prefix + h w, c).
        height, width: of the grid.
        channels: per position.
        n_prefix: class, distillation and register tokens in front of the grid.
    """

    kind: str
    height: int
    width: int
    channels: int
    n_prefix: int = 0

    @property
    def n_positions(self) -> int:
        return self.height * self.width

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's output."""
        if self.kind == CHANNELS_FIRST:
            return self.channels, self.height, self.width
        if self.kind == CHANNELS_LAST:
            return self.height, self.width, self.channels
        return self.n_prefix + self.n_positions, self.channels

    def to_positions(self, output: Float[Tensor, "b ..."]) -> Float[Tensor, "b p c"]:
        """The vectors of the grid, row by row; tokens in front are left out. A view where memory allows."""
        self._check(output)
        if self.kind == CHANNELS_FIRST:
            return output.flatten(2).transpose(1, 2)
        if self.kind == CHANNELS_LAST:
            return output.flatten(1, 2)
        return output[:, self.n_prefix :]

    def with_positions(
        self, output: Float[Tensor, "b ..."], positions: Float[Tensor, "b p c"]
    ) -> Float[Tensor, "b ..."]:
        """`output` with the vectors of its grid replaced; tokens in front stay."""
        self._check(output)
        expected = (len(output), self.n_positions, self.channels)
        assert positions.shape == expected, f"expected positions {expected}, got {tuple(positions.shape)}"
        if self.kind == CHANNELS_FIRST:
            return positions.transpose(1, 2).reshape(output.shape)
        if self.kind == CHANNELS_LAST:
            return positions.reshape(output.shape)
        return torch.cat([output[:, : self.n_prefix], positions], dim=1)

    def to_map(self, values: Float[Tensor, "*b p"]) -> Float[Tensor, "*b h w"]:
        """One value per position as a map."""
        return values.reshape(*values.shape[:-1], self.height, self.width)

    def _check(self, output: Tensor) -> None:
        assert output.shape[1:] == self.shape, f"expected (b, {self.shape}), got {tuple(output.shape)}"
