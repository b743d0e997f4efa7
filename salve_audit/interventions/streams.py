"""Streams of random numbers by what they are for, so that one draw more here changes nothing there."""

from __future__ import annotations

import zlib

import numpy as np


def open_stream(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """The stream of a purpose (a method, for instance) and, where it has several, of one class."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *index])
