"""Parametrisations of a feature visualisation: the optimiser moves its pixels, or its spectrum.

Both give images in 0..1 through a sigmoid, whose gradient does not vanish at the borders as that of clamping does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

NOISE = 0.1  # of the first logits; an image of grey 0.5 with a standard deviation of about 0.01
# Grey, blue against yellow, red against green: the axes along which colours of photographs are uncorrelated, and how
# far they roughly spread there. Equal steps along equal axes would give gaudy images.
COLOUR_AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
COLOUR_SPREAD = (1.0, 0.3, 0.15)


class Parametrisation(ABC):
    """Images (b, c, h, w) as a function of one tensor of parameters."""

    parameters: Tensor
    learning_rate: float  # of Adam, that suits the parameters' unit

    @abstractmethod
    def images(self) -> Float[Tensor, "b c h w"]:
        """The images, in 0..1, differentiable in the parameters."""

    def keep(self, rows: Int[Tensor, " r"]) -> None:
        """Forgets all images but these."""
        self.parameters = self.parameters.detach()[rows].clone().requires_grad_()


class Pixels(Parametrisation):
    """Every pixel by itself, from faint noise."""

    learning_rate = 0.05

    def __init__(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> None:
        self.parameters = (NOISE * torch.randn(shape, generator=generator)).requires_grad_()

    def images(self) -> Float[Tensor, "b c h w"]:
        return self.parameters.sigmoid()


class Spectrum(Parametrisation):
    """Fourier coefficients, divided by their frequency, of decorrelated colours.

    Photographs have amplitudes that fall with the frequency, and colours that go together. Counted in these units a
    step of the optimiser changes coarse and fine structure alike; counted in pixels it favours the finest.
    """

    learning_rate = 0.1

    def __init__(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> None:
        b, c, h, w = shape
        self.shape = shape
        self.scale = _falling_amplitudes(h, w)
        self.colours = _colour_axes() if c == 3 else torch.eye(c)
        flat = self._contrast(torch.randn(b, c, h, w // 2 + 1, 2, generator=generator))
        noise = torch.randn(b, c, h, w // 2 + 1, 2, generator=generator)
        self.parameters = (noise * (NOISE / float(flat.std()))).requires_grad_()

    def images(self) -> Float[Tensor, "b c h w"]:
        return self._contrast(self.parameters).sigmoid()

    def _contrast(self, coefficients: Tensor) -> Float[Tensor, "b c h w"]:
        _, _, h, w = self.shape
        spectrum = torch.view_as_complex(coefficients.contiguous()) * self.scale
        planes = torch.fft.irfft2(spectrum, s=(h, w), norm="ortho")  # (b, axis, h, w)
        return torch.einsum("bahw,ac->bchw", planes, self.colours)


def _falling_amplitudes(h: int, w: int) -> Float[Tensor, "h w_half"]:
    rows, columns = torch.fft.fftfreq(h)[:, None], torch.fft.rfftfreq(w)[None, :]
    lowest = 1 / max(h, w)  # the mean brightness counts as the slowest wave
    return lowest / torch.hypot(rows, columns).clamp_min(lowest)


def _colour_axes() -> Float[Tensor, "3 3"]:
    """Rows of unit length times their spread, scaled so that uncorrelated coefficients give pixels of unit variance."""
    axes = torch.tensor(COLOUR_AXES)
    axes = axes / axes.norm(dim=1, keepdim=True) * torch.tensor(COLOUR_SPREAD)[:, None]
    return axes * math.sqrt(3 / float((axes**2).sum()))


PARAMETRISATIONS: Mapping[str, type[Pixels] | type[Spectrum]] = {"pixels": Pixels, "fourier": Spectrum}
