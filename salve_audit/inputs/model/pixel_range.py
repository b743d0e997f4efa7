"""Means and standard deviations that were given for pixels in 0 to 255, brought to 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

BYTE = 255.0
LARGEST_STD, LARGEST_MEAN = 2.0, 1.0  # of pixels in 0..1; beyond them values are for 0..255
CAFFE = (103.939, 116.779, 123.68)  # of ImageNet in 0..255, blue first


class Moments(NamedTuple):
    """Mean and standard deviation of each channel.

    Attributes:
        mean, std: for pixels in 0..1.
        note: what was done to them; empty: nothing.
        blue_first: they are Caffe's, whose networks take blue first.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    note: str = ""
    blue_first: bool = False


def rescale_bytes(mean: Sequence[float], std: Sequence[float]) -> Moments:
    """The moments for pixels in 0..1; those for 0..255 are divided by 255.

    Raises:
        ValueError: one is for pixels in 0 to 1, the other for 0 to 255.
    """
    given = Moments(tuple(mean), tuple(std))
    is_bytes = max(mean) > LARGEST_MEAN or max(std) > LARGEST_STD
    if not is_bytes or max(*mean, *std) > BYTE or min(*mean, *std) < 0:
        return given
    blue_first = len(mean) == 3 and all(abs(a - b) < 1 for a, b in zip(mean, CAFFE, strict=True))
    if max(mean) <= LARGEST_MEAN and max(mean) > 0:
        raise ValueError(f"mean {given.mean} is for pixels in 0 to 1, standard deviation {given.std} for 0 to 255")
    note = f"given for pixels in 0 to 255 ({in_words(mean)}; {in_words(std)}), divided by 255"
    divided_mean, divided_std = (tuple(value / BYTE for value in values) for values in (mean, std))
    return Moments(divided_mean, divided_std, note, blue_first)


def in_words(values: Sequence[float]) -> str:
    """Numbers with four digits."""
    return " ".join(f"{value:.4g}" for value in values)
