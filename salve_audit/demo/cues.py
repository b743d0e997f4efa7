"""Cues to plant in an image: small drawings with their exact outline.

A cue is drawn on a canvas of its own and laid over the background later, so that it can be left out again without
disturbing anything else. Every drawing varies (shade, proportions, phase): a network must learn the cue, not its bytes.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw

MIN_SIDE = 5  # pixels: below it the shapes lose their parts


@dataclass(frozen=True)
class Stamp:
    """One drawn cue.

    Attributes:
        colour: (h, w, 3) float32 in 0..1; meaningful inside the outline only.
        inside: (h, w) which pixels belong to the cue.
    """

    colour: Float[np.ndarray, "h w 3"]
    inside: Bool[np.ndarray, "h w"]


Drawing = Callable[[np.random.Generator, int, int], Stamp]


def draw_cue(shape: str, height: int, width: int, rng: np.random.Generator) -> Stamp:
    """The cue `shape`, a key of `SHAPES`, on a canvas of height x width pixels.

    Raises:
        KeyError: there is no such shape.
    """
    assert min(height, width) >= MIN_SIDE, f"a cue of {height} x {width} pixels cannot be drawn"
    stamp = SHAPES[shape](rng, height, width)
    assert stamp.inside.shape == (height, width), f"{shape}: {stamp.inside.shape} instead of {(height, width)}"
    return stamp


def _shade(rng: np.random.Generator, hue: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """A saturated colour with its hue and value drawn from two ranges in 0..1."""
    rgb = colorsys.hsv_to_rgb(rng.uniform(*hue) % 1.0, rng.uniform(0.75, 1.0), rng.uniform(*value))
    return np.asarray(rgb, np.float32)


def _grey(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    return np.full(3, rng.uniform(low, high), np.float32) + rng.uniform(-0.03, 0.03, 3).astype(np.float32)


def _filled(inside: np.ndarray, colour: np.ndarray) -> Stamp:
    return Stamp(np.broadcast_to(colour, (*inside.shape, 3)).astype(np.float32), inside)


def _outline(height: int, width: int, draw: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    image = Image.new("1", (width, height))
    draw(ImageDraw.Draw(image))
    return np.asarray(image, bool)


def _red_patch(rng: np.random.Generator, h: int, w: int) -> Stamp:
    return _filled(np.ones((h, w), bool), _shade(rng, (-0.03, 0.03), (0.7, 1.0)))


def _tag(rng: np.random.Generator, h: int, w: int) -> Stamp:
    """A cyan label with a dark border: what a scanner or a photographer leaves in a corner."""
    colour = np.broadcast_to(_grey(rng, 0.0, 0.15), (h, w, 3)).astype(np.float32)
    colour[1:-1, 1:-1] = _shade(rng, (0.48, 0.53), (0.8, 1.0))
    return Stamp(colour, np.ones((h, w), bool))


def _stripes(rng: np.random.Generator, h: int, w: int) -> Stamp:
    rows = (np.arange(h) + int(rng.integers(4))) // 2 % 2 == 1
    light, dark = _grey(rng, 0.75, 1.0), _grey(rng, 0.0, 0.25)
    colour = np.where(rows[:, None, None], light, dark)
    return Stamp(np.broadcast_to(colour, (h, w, 3)).astype(np.float32), np.ones((h, w), bool))


def _checkerboard(rng: np.random.Generator, h: int, w: int) -> Stamp:
    row, column = np.indices((h, w)) + rng.integers(3, size=(2, 1, 1))
    odd = (row // 3 + column // 3) % 2 == 1
    light, dark = _grey(rng, 0.75, 1.0), _grey(rng, 0.0, 0.25)
    return Stamp(np.where(odd[..., None], light, dark).astype(np.float32), np.ones((h, w), bool))


def _tower(rng: np.random.Generator, h: int, w: int) -> Stamp:
    """A shaft under a pointed roof."""
    roof, margin = int(h * rng.uniform(0.3, 0.4)), w // 5

    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.polygon([(0, roof), (w / 2, 0), (w - 1, roof)], fill=1)
        pen.rectangle([margin, roof, w - 1 - margin, h - 1], fill=1)

    stamp = _filled(_outline(h, w, draw), _grey(rng, 0.0, 0.2))
    stamp.colour[: roof + 1] = _shade(rng, (0.72, 0.78), (0.35, 0.6))
    return stamp


def _flag(rng: np.random.Generator, h: int, w: int) -> Stamp:
    """A green pennant on a dark pole."""
    lower = int(h * rng.uniform(0.5, 0.65))
    pole = np.zeros((h, w), bool)
    pole[:, :2] = True
    cloth = _outline(h, w, lambda pen: pen.polygon([(2, 0), (w - 1, lower / 2), (2, lower)], fill=1))
    colour = np.where(pole[..., None], _grey(rng, 0.0, 0.2), _shade(rng, (0.3, 0.36), (0.6, 0.9)))
    return Stamp(colour.astype(np.float32), pole | cloth)


def _gate(rng: np.random.Generator, h: int, w: int) -> Stamp:
    """A brown arch."""
    dome = min(h, w) // 2

    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.ellipse([0, 0, w - 1, 2 * dome], fill=1)
        pen.rectangle([0, dome, w - 1, h - 1], fill=1)

    return _filled(_outline(h, w, draw), _shade(rng, (0.05, 0.08), (0.25, 0.4)))


def _disk(rng: np.random.Generator, h: int, w: int) -> Stamp:
    inside = _outline(h, w, lambda pen: pen.ellipse([0, 0, w - 1, h - 1], fill=1))
    return _filled(inside, _shade(rng, (0.12, 0.16), (0.8, 1.0)))


def _ring(rng: np.random.Generator, h: int, w: int) -> Stamp:
    band = int(rng.integers(2, 4))
    inside = _outline(h, w, lambda pen: pen.ellipse([0, 0, w - 1, h - 1], outline=1, width=band))
    return _filled(inside, _grey(rng, 0.85, 1.0))


def _bar(rng: np.random.Generator, h: int, w: int) -> Stamp:
    """A slanted dark blue bar."""
    thick = max(3, w // 4)
    corners = [(0, h - 1), (thick, h - 1), (w - 1, 0), (w - 1 - thick, 0)]
    inside = _outline(h, w, lambda pen: pen.polygon(corners, fill=1))
    return _filled(inside, _shade(rng, (0.6, 0.64), (0.4, 0.7)))


def _chevron(rng: np.random.Generator, h: int, w: int) -> Stamp:
    """An orange angle that opens downwards."""
    thick = max(3, h // 3)
    corners = [(0, h - 1), (w / 2, thick), (w - 1, h - 1), (w - 1, h - 1 - thick), (w / 2, 0), (0, h - 1 - thick)]
    inside = _outline(h, w, lambda pen: pen.polygon(corners, fill=1))
    return _filled(inside, _shade(rng, (0.05, 0.08), (0.8, 1.0)))


def _cross(rng: np.random.Generator, h: int, w: int) -> Stamp:
    inside = np.zeros((h, w), bool)
    arm_h, arm_w = max(1, h // 3), max(1, w // 3)
    inside[(h - arm_h) // 2 : (h - arm_h) // 2 + arm_h] = True
    inside[:, (w - arm_w) // 2 : (w - arm_w) // 2 + arm_w] = True
    return _filled(inside, _grey(rng, 0.9, 1.0))


SHAPES: Mapping[str, Drawing] = MappingProxyType(
    {
        "bar": _bar,
        "checkerboard": _checkerboard,
        "chevron": _chevron,
        "cross": _cross,
        "disk": _disk,
        "flag": _flag,
        "gate": _gate,
        "red patch": _red_patch,
        "ring": _ring,
        "stripes": _stripes,
        "tag": _tag,
        "tower": _tower,
    }
)
