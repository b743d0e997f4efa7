"""The pointing game and the overlap by hand, and maps at the image's size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from salve_audit.saliency.enlarge import enlarge_maps, normalise_maps
from salve_audit.saliency.localisation import best_overlap, bootstrap_mean, hits, overlap
from salve_audit.spatial.alignment import Alignment


def place(*cells: tuple[int, int], side: int = 10) -> np.ndarray:
    grid = np.zeros((1, side, side))
    for cell in cells:
        grid[(0, *cell)] = 1
    return grid


def test_the_hottest_pixel_is_on_the_thing_or_not() -> None:
    mask = place((2, 3), (2, 4)) > 0
    assert hits(place((2, 4)), mask) == [1.0]
    assert hits(place((3, 4)), mask) == [0.0]
    assert hits(place((2, 4), (9, 9)), mask) == [0.5], "ties count by their share"
    assert hits(np.ones((1, 10, 10)), mask) == [pytest.approx(0.02)], "a constant map has not found anything"


def test_overlap_is_of_the_hottest_fifth() -> None:
    rows = np.repeat(np.arange(10.0)[::-1, None], 10, axis=1)[None]  # the upper two rows are the hottest fifth
    upper = np.zeros((1, 10, 10), bool)
    upper[:, :2] = True
    assert overlap(rows, upper) == [1.0]
    assert overlap(rows, ~upper) == [0.0]
    half = upper.copy()
    half[:, 1] = False
    half[:, 5] = True  # ten of twenty pixels meet, thirty are in either
    assert overlap(rows, half) == [pytest.approx(10 / 30)]
    single = place((0, 0)) > 0
    assert overlap(rows, single) == [pytest.approx(1 / 20)]
    assert best_overlap(single) == [pytest.approx(1 / 20)]


def test_intervals_are_of_the_mean() -> None:
    values = np.tile([0.0, 1.0], 200)
    mean, low, high = bootstrap_mean(values, np.random.default_rng(0))
    assert mean == 0.5
    assert low == pytest.approx(0.5 - 1.96 * 0.5 / 20, abs=0.01)
    assert high == pytest.approx(0.5 + 1.96 * 0.5 / 20, abs=0.01)


def find_hottest(maps: torch.Tensor) -> tuple[int, int]:
    row, column = divmod(int(maps.argmax()), maps.shape[-1])
    return row, column


def test_a_hot_cell_is_hottest_in_its_middle() -> None:
    """Also in corners, and where the grid does not lie in the middle of the image."""
    for row, column in ((0, 0), (2, 3), (5, 5)):
        cells = torch.zeros(6, 6)
        cells[row, column] = 3.0
        # cells of eight pixels: the middle of the first is between pixels 3 and 4
        assert find_hottest(enlarge_maps(cells, (48, 48))) in [(8 * row + 3, 8 * column + 3)]
        moved = enlarge_maps(cells, (48, 48), Alignment(-3.5, 2.5))
        assert find_hottest(moved) == (8 * row, 8 * column + 6)


def test_between_two_hot_cells_it_is_hottest_between_them() -> None:
    cells = torch.zeros(6, 6)
    cells[2, 2] = cells[2, 3] = 1.0
    assert find_hottest(enlarge_maps(cells, (48, 48))) == (19, 23)


def test_maps_have_one_scale_whatever_theirs_was() -> None:
    cells = torch.randn(4, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    large = enlarge_maps(cells, (30, 40))
    assert large.shape == (4, 2, 30, 40)
    assert torch.allclose(large.amax((2, 3)), torch.ones(4, 2))
    assert torch.allclose(large.amin((2, 3)), torch.zeros(4, 2))
    torch.testing.assert_close(enlarge_maps(7 * cells - 3, (30, 40)), large)
    assert not normalise_maps(torch.full((2, 3, 3), 5.0)).any(), "a constant map shows nothing"
    assert not enlarge_maps(torch.full((2, 3, 3), 5.0), (9, 9)).any()
