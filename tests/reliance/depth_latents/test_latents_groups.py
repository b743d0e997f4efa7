"""Sets of latents: found where codes are known, and chosen by pieces."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from salve_audit.reliance.depth.latents import (
    LossTerms,
    PieceSearch,
    choose_by_loss,
    choose_by_presence,
    coarse_level,
    cover_positions,
    cut_by_independence,
    group_by_effect,
    group_by_place,
    living,
    single_latents,
)

GRID = 8


def placed_codes(n: int, rng: np.random.Generator, parts: tuple[tuple[int, ...], ...], m: int) -> Tensor:
    """(n, 8, 8, m): each set of latents fires at one random place of its own, neighbouring cells for its members."""
    codes = torch.zeros(n, GRID, GRID, m)
    for row in range(n):
        for part in parts:
            top, left = rng.integers(1, GRID - 1, 2)
            for latent in part:
                step = rng.integers(0, 2)
                codes[row, top, left + step, latent] = float(rng.uniform(1, 2))
    return codes


def test_latents_of_the_same_places_are_grouped() -> None:
    codes = placed_codes(200, np.random.default_rng(0), ((0, 3), (1,), (2, 4, 5)), 7)
    assert set(group_by_place(codes, 0.4)) == {(0, 3), (1,), (2, 4, 5), (6,)}


def test_redundant_cues_of_one_class_are_cut_apart_and_parts_stay_together() -> None:
    """Between classes both cues come together; within the class they are in places of their own."""
    rng = np.random.default_rng(0)
    own = placed_codes(150, rng, ((0, 1), (2, 3)), 4)
    groups = cut_by_independence([(0, 1, 2, 3)], own)
    assert set(groups) == {(0, 1), (2, 3)}
    fixed = torch.zeros(150, GRID, GRID, 4)
    for row in range(150):  # always side by side, but each comes and goes by itself
        for cue, there in enumerate(rng.random(2) < 0.5):
            fixed[row, 4, 4, 2 * cue : 2 * cue + 2] = float(there)
    assert set(cut_by_independence([(0, 1, 2, 3)], fixed)) == {(0, 1), (2, 3)}
    assert group_by_place(fixed, 0.3) == ((0, 1, 2, 3),), "without the class and its fixed places they are one"


def test_latents_of_one_effect_are_grouped_and_idle_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 100))
    changes = np.stack([first, 0.5 * first + 0.05 * rng.standard_normal(100), second, 0.01 * first])
    assert set(group_by_effect(changes)) == {(0, 1), (2,), (3,)}


def test_a_coarse_level_takes_the_finer_latents_of_its_places(dictionary_of: Any) -> None:
    dictionary = dictionary_of(np.eye(32))
    nested = dataclasses.replace(dictionary, sae=dataclasses.replace(dictionary.sae, variant="matryoshka"))
    assert nested.prefixes == (2, 4, 8, 16, 32)
    assert coarse_level(nested, 0) == ((0,), (1,))
    codes = placed_codes(200, np.random.default_rng(0), ((0, 5, 20), (1, 9), (3,)), 32)
    assert coarse_level(nested, 0, codes) == ((0, 5, 20), (1, 9))


def test_dead_latents_are_in_no_group(dictionary_of: Any) -> None:
    dictionary = dictionary_of(np.eye(4))
    dictionary.sae.encoder_weight[2] = 0.0
    assert single_latents(dictionary) == ((0,), (1,), (3,))
    assert living([(0, 2), (2,), (1, 3)], dictionary) == ((0,), (1, 3))


def test_regions_cover_the_cells_they_lie_on() -> None:
    region = torch.zeros(1, 32, 32, dtype=torch.bool)
    region[0, 4:8, 4:10] = True
    covered = cover_positions(region, (8, 8)).view(8, 8)
    expected = torch.zeros(8, 8)
    expected[1, 1], expected[1, 2] = 1.0, 0.5
    torch.testing.assert_close(covered, expected)


def test_latents_of_the_pieces_are_chosen_both_ways(dictionary_of: Any) -> None:
    """Latents 0 and 1 write the piece; 2 fires there and everywhere else; 3 is another cue; 4 is noise."""
    rng = np.random.default_rng(0)
    codes = placed_codes(60, rng, ((0,), (3,)), 5).flatten(1, 2)
    codes[..., 1] = 0.8 * codes[..., 0]
    codes[..., 2] = 1.0
    codes[..., 4] = torch.from_numpy(rng.random(codes.shape[:2])).float()
    there = (codes[..., 0] > 0).float()
    rows = np.linalg.qr(rng.standard_normal((6, 6)))[0][:5]
    dictionary = dictionary_of(rows)
    lost = codes[..., [0, 1]] @ torch.from_numpy(rows[[0, 1]]).float()
    search = PieceSearch(most=4)
    shown = LossTerms.of(dictionary, codes, lost)
    assert set(choose_by_presence(codes, there, search)) <= {0, 1}
    assert choose_by_loss(dictionary, shown, None, search) == (0, 1)
    assert choose_by_loss(dictionary, shown, LossTerms.of(dictionary, codes[:0]), PieceSearch(most=1)) == (0,)
    halves = LossTerms.of(dictionary, codes[:25], lost[:25]) + LossTerms.of(dictionary, codes[25:], lost[25:])
    assert choose_by_loss(dictionary, halves, None, search) == (0, 1)
    elsewhere = torch.zeros_like(codes)
    elsewhere[..., 1] = 1.0  # in other pictures, latent 1 is everywhere
    assert choose_by_loss(dictionary, shown, LossTerms.of(dictionary, elsewhere), search) == (0,)
    assert choose_by_loss(dictionary, LossTerms.of(dictionary, codes), None, search) == ()
    assert choose_by_presence(codes, torch.zeros_like(there), search) == ()


def test_each_greedy_step_is_the_best_single_one(dictionary_of: Any) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((6, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    dictionary = dictionary_of(rows)
    codes = torch.from_numpy(rng.exponential(1, (5, 7, 6))).float()
    others = torch.from_numpy(rng.exponential(0.3, (3, 7, 6))).float()
    lost = codes[..., [0, 3]] @ torch.from_numpy(rows[[0, 3]]).float()
    lost += torch.from_numpy(rng.standard_normal((5, 7, 4))).float()

    def error(chosen: tuple[int, ...]) -> float:
        own = codes[..., list(chosen)] @ torch.from_numpy(rows[list(chosen)]).float()
        there = others[..., list(chosen)] @ torch.from_numpy(rows[list(chosen)]).float()
        return float((lost - own).square().sum() + 5 / 3 * there.square().sum())

    chosen = choose_by_loss(
        dictionary,
        LossTerms.of(dictionary, codes, lost),
        LossTerms.of(dictionary, others),
        PieceSearch(most=6, least_gain=0.0),
    )
    assert chosen
    for step in range(len(chosen)):
        options = {one: error((*chosen[:step], one)) for one in range(6) if one not in chosen[:step]}
        assert min(options, key=lambda one: options[one]) == chosen[step]
    last = error(chosen)
    assert all(error((*chosen, one)) >= last for one in range(6) if one not in chosen)
