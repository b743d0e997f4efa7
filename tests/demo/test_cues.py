from __future__ import annotations

import numpy as np
import pytest

from salve_audit.demo.cues import SHAPES, draw_cue

SIZES = [(12, 12), (20, 9), (7, 15), (5, 5)]


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_fills_its_canvas_within_range(shape: str, height: int, width: int, rng: np.random.Generator) -> None:
    stamp = draw_cue(shape, height, width, rng)
    assert stamp.inside.shape == (height, width)
    assert stamp.colour.shape == (height, width, 3)
    assert stamp.colour.dtype == np.float32
    assert -0.05 <= stamp.colour.min() <= stamp.colour.max() <= 1.05
    # the outline spans the canvas: the size that a world states is the size that is seen
    assert stamp.inside.any(0).mean() > 0.7
    assert stamp.inside.any(1).mean() > 0.7


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_follows_from_the_generator_alone_and_varies(shape: str) -> None:
    first, again, other = (draw_cue(shape, 12, 12, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.colour, again.colour)
    np.testing.assert_array_equal(first.inside, again.inside)
    assert not np.array_equal(first.colour, other.colour)


def test_no_two_shapes_look_alike(rng: np.random.Generator) -> None:
    """Mean drawings on mid grey differ clearly between any two shapes."""
    means = {}
    for shape in SHAPES:
        stamps = [draw_cue(shape, 12, 12, rng) for _ in range(30)]
        means[shape] = np.mean([np.where(s.inside[..., None], s.colour, 0.5) for s in stamps], 0)
    for first in SHAPES:
        for other in SHAPES:
            if first < other and {first, other} != {"stripes", "checkerboard"}:  # both average to grey
                assert np.abs(means[first] - means[other]).max() > 0.25, (first, other)


def test_stripes_are_horizontal_and_a_checkerboard_is_not(rng: np.random.Generator) -> None:
    stripes = draw_cue("stripes", 12, 12, rng).colour
    board = draw_cue("checkerboard", 12, 12, rng).colour
    assert np.ptp(stripes, axis=1).max() == 0
    assert np.ptp(stripes, axis=0).min() > 0.4
    assert np.ptp(board, axis=1).min() > 0.4


def test_unknown_shape(rng: np.random.Generator) -> None:
    with pytest.raises(KeyError, match="pyramid"):
        draw_cue("pyramid", 9, 9, rng)
