"""Strips along the edges: frames, letterboxes, rulers, time stamps, dark corners.

A strip is removed by reflecting what lies inside of it, and inserted from an image of the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from salve_audit.evidence.factors.record import Factor, Pixels, Shift

SIDES = ("upper", "lower", "left", "right")
THIN, WIDE = 16, 8  # the side over the strip's width, which is two pixels at least


def reflect(images: Pixels, _: Shift, sides: Sequence[str], part: int) -> Pixels:
    """Replace the strips at these sides by the mirror image of what is next to them."""
    changed = images
    for axis, first, last in ((2, "upper", "lower"), (3, "left", "right")):
        length = images.shape[axis]
        width = strip_width(length, part)
        rows = torch.arange(length, device=images.device)
        if first in sides:
            rows = torch.where(rows < width, 2 * width - 1 - rows, rows)
        if last in sides:
            rows = torch.where(rows >= length - width, 2 * (length - width) - 1 - rows, rows)
        changed = changed.index_select(axis, rows.clamp(0, length - 1))
    return changed


def paste(images: Pixels, shift: Shift, sides: Sequence[str], part: int) -> Pixels:
    """Replace the strips at these sides by those of the donors."""
    assert shift.donors is not None, "strips are inserted from donors"
    inside = torch.ones_like(images[:, :1], dtype=torch.bool)
    rows, columns = (strip_width(length, part) for length in images.shape[2:])
    places = {"upper": (2, 0, rows), "left": (3, 0, columns)}
    places |= {"lower": (2, -rows, rows), "right": (3, -columns, columns)}
    for side in sides:
        axis, start, width = places[side]
        inside.narrow(axis, start % images.shape[axis], width).fill_(False)
    return torch.where(inside, images, shift.donors)


def strip_width(length: int, part: int) -> int:
    """Pixels of a strip along an axis of this length: at least two, at most a third."""
    return max(min(2, length // 3), length // part)


def _border(name: str, sides: Sequence[str], part: int) -> Factor:
    area = 1 - (1 - 2 / part) ** 2 if len(sides) > 1 else 1 / part
    insert = partial(paste, sides=sides, part=part) if part == WIDE else None  # the wide one has the thin one in it
    return Factor(name, "border", area, partial(reflect, sides=sides, part=part), insert)


FACTORS = (
    _border("border", SIDES, THIN),
    _border("wide border", SIDES, WIDE),
    *(_border(f"wide {side} border", (side,), WIDE) for side in SIDES),
)
