"""The bank of factors on functions of images that depend on one factor by construction, and its statistics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from salve_audit.evidence.factors import place
from salve_audit.evidence.factors.bank import FACTORS
from salve_audit.evidence.factors.class_means import ClassStatistics
from salve_audit.evidence.factors.effects import (
    Count,
    compare,
    count_pulled,
    describe_effects,
    exact_interval,
    level_of,
)
from salve_audit.evidence.factors.measure import (
    TIED,
    UNSEEN,
    Clock,
    ExaminedImages,
    FactorAnswers,
    FactorNetwork,
    FactorOutcome,
    FactorRuns,
    never,
    predict,
)
from salve_audit.evidence.factors.screening import (
    INSERTED,
    LEAST_CONTROL,
    LEAST_CORRECT,
    MOST_INSERTED,
    MOST_REMOVED,
    SCREENED,
    SCREENED_INSERTIONS,
    choose_few,
    choose_inserted,
    choose_recipients,
    choose_removed,
    choose_screened,
)
from salve_audit.evidence.probe import ProbeOutput, hard_margin
from salve_audit.evidence.records import choose_factor, choose_sufficient
from salve_audit.results import FactorEffect, ImageReliance, TransformSpec

SIDE, N = 32, 24
NAMES = ("shaded", "blurred", "ruled", "plain")
SPEC = TransformSpec((3, SIDE, SIDE), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0, "test")


def draw() -> tuple[Tensor, Tensor]:
    """Noise with dark corners, blurred, with a bright lower edge, or nothing of the kind; prepared."""
    images = torch.rand(4 * N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4).repeat_interleave(N)
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    images[labels == 0] *= 1 - 0.4 * (rows**2 + columns**2)
    images[labels == 1] = functional.avg_pool2d(images[labels == 1], 3, 1, 1, count_include_pad=False)
    images[labels == 2, :, -3:] = 0.95
    return (images - 0.5) / 0.25, labels


def probe(prepared: Tensor) -> ProbeOutput:
    pixels = prepared * 0.25 + 0.5
    corners = torch.stack([pixels[:, :, :6, :6], pixels[:, :, :6, -6:]]).mean((0, 2, 3, 4))
    shade = (pixels[:, :, 12:20, 12:20].mean((1, 2, 3)) - corners) * 8
    inside = pixels[:, :, 8:24, 8:24]
    blur = 8.8 - 60 * (inside[..., 1:] - inside[..., :-1]).abs().mean((1, 2, 3))
    rule = 10 * (pixels[:, :, -2:].mean((1, 2, 3)) - 0.6)
    return ProbeOutput(torch.stack([shade, blur, rule, torch.full_like(rule, 1.0)], 1), prepared)


@dataclass
class HeldImages:
    """Images in memory, a few at a time."""

    images: Tensor
    most: int = 50
    loads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def load(self, positions: np.ndarray, /) -> Tensor:
        self.loads.append(len(positions))
        return self.images[torch.from_numpy(positions)]

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self.images), self.most):
            yield slice(start, start + self.most), self.images[start : start + self.most]


def examine() -> tuple[Tensor, ExaminedImages]:
    images, labels = draw()
    margins = hard_margin(probe(images).logits, labels).numpy()
    assert (margins > 0).mean() > 0.9, "the function says what it was made for"
    return images, ExaminedImages(labels.numpy(), margins)


def run(images: Tensor, examined: ExaminedImages, clock: Clock = never) -> tuple[FactorOutcome, int]:
    """The outcome, and how many images the network was given."""
    passes: list[int] = []

    def counted(prepared: Tensor) -> ProbeOutput:
        passes.append(len(prepared))
        return probe(prepared)

    network = FactorNetwork(counted, SPEC, torch.device("cpu"), lambda _: 16)
    return FactorRuns(network, HeldImages(images), examined, clock).measure(), sum(passes)


@pytest.fixture(scope="module")
def effects() -> dict[str, tuple[FactorEffect, ...]]:
    images, examined = examine()
    outcome, n_passes = run(images, examined)
    assert outcome.n_passes == n_passes
    return {name: describe_effects(outcome.answers, examined, label) for label, name in enumerate(NAMES)}


def region(reliance: float = 0.0, chance: float | None = None) -> ImageReliance:
    """What the regions of a class say."""
    kind = None if reliance == 0 else "region"
    return ImageReliance(N, N, reliance, 0.0, 1.0, kind, None, None, None, None, 3, chance, False)


def test_each_class_is_said_to_depend_on_what_it_depends_on(effects: dict[str, tuple[FactorEffect, ...]]) -> None:
    chosen = {name: choose_factor(region(), own) for name, own in effects.items()}
    assert {name: None if effect is None else effect.kind for name, effect in chosen.items()} == {
        "shaded": "mean field",
        "blurred": "sharpness",
        "ruled": "border",
        "plain": None,
    }
    for effect in chosen.values():
        assert effect is None or effect.removed > 0.8 > 0.5 > (effect.chance or 0)


def test_inserting_it_makes_other_images_the_class(effects: dict[str, tuple[FactorEffect, ...]]) -> None:
    sufficient = {name: choose_sufficient(own) for name, own in effects.items()}
    assert sufficient["blurred"] == "sharpness"
    assert sufficient["ruled"] in {"wide border", "wide lower border", "mean field"}
    assert sufficient["shaded"] in {"wide border", "mean field"}
    sharpness = next(effect for effect in effects["blurred"] if effect.name == "sharpness")
    assert sharpness.inserted is not None
    assert sharpness.inserted > 0.8
    assert sharpness.inserted_chance == 0
    assert sharpness.n_inserted == INSERTED


def test_compression_is_only_inserted_and_says_that_its_removal_is_not_known(
    effects: dict[str, tuple[FactorEffect, ...]],
) -> None:
    for own in effects.values():
        (pressed,) = (effect for effect in own if effect.name == "compression")
        assert (pressed.removed, pressed.low, pressed.high, pressed.n, pressed.excess) == (0.0, 0.0, 1.0, 0, None)
        assert pressed.n_inserted >= INSERTED - 1


def test_what_a_change_turns_into_any_class_alike_is_chance() -> None:
    labels, rows = np.repeat(np.arange(5), 20), np.arange(0, 100, 2)
    unseen, every = np.full(100, UNSEEN), np.ones(100, bool)
    answers = FactorAnswers(unseen, every, np.tile((labels[rows] + 1 + np.arange(50) % 4) % 5, (5, 1)), rows, True)
    own, control = count_pulled(answers, ExaminedImages(labels, every * 1.0), 3)
    assert (own.n, control) == (40, Count(0.25, 40, parts=4))
    low, high = control.interval(0.95)
    assert high == exact_interval(40, 40, 0.95)[1] / 4 > low  # of all that the change moves, one class in four
    pulling = FactorAnswers(unseen, every, np.full((5, 50), 3), rows, True)
    assert count_pulled(pulling, ExaminedImages(labels, every * 1.0), 3) == (Count(1.0, 40), Count(0.25, 40, 4))
    assert count_pulled(pulling, ExaminedImages(labels, every * 1.0), 2) == (Count(0.0, 40), Count(0.1875, 40, 4))


def test_findings_are_ordered_and_all_are_kept(effects: dict[str, tuple[FactorEffect, ...]]) -> None:
    for own in effects.values():
        assert {effect.name for effect in own} == set(FACTORS) - {"fixed place"}
        strengths = [effect.strength for effect in own]
        assert strengths == sorted(strengths, reverse=True)


def test_more_images_are_spent_only_where_the_first_few_say_so(effects: dict[str, tuple[FactorEffect, ...]]) -> None:
    n = {name: {effect.name: effect.n for effect in own} for name, own in effects.items()}
    assert n["blurred"]["sharpness"] == N
    few = max(SCREENED, math.ceil(LEAST_CONTROL / 3))
    assert few < N
    assert sorted(n["plain"].values()).count(few) >= len(n["plain"]) - 1 - MOST_REMOVED
    inserted = {effect.name: effect.n_inserted for effect in effects["shaded"]}
    assert inserted["border"] == 0, "it has no insertion of its own"
    assert inserted["sharpness"] <= SCREENED_INSERTIONS


def test_factors_that_time_does_not_allow_are_left_out() -> None:
    images, examined = examine()
    asked = 0

    def clock() -> bool:
        nonlocal asked
        asked += 1
        return asked > 20

    outcome, n_passes = run(images, examined, clock)
    assert outcome.n_passes == n_passes
    assert 0 < len(outcome.answers) < len(FACTORS)
    assert all((answer.inserted == UNSEEN).all() for answer in outcome.answers.values())
    for effect in describe_effects(outcome.answers, examined, 0):
        assert effect.inserted is None
    nothing, _ = run(images, examined, lambda: True)
    assert (nothing.answers, nothing.n_passes) == ({}, 0)


def test_an_image_with_two_largest_logits_is_of_no_class() -> None:
    assert predict(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist() == [0, TIED]


def test_further_images_are_run_of_factors_whose_removal_costs_a_class_most_beyond_the_others() -> None:
    rng = np.random.default_rng(0)
    labels, correct = np.repeat([0, 1, 2], 8), np.ones(24, bool)
    lost = {f"factor {number}": rng.standard_normal(24) for number in range(8)}
    lost["of one"] = np.where(labels == 1, 3.0, 0.0) + 0.5 * rng.standard_normal(24)
    lost["of all"] = 3.0 + 0.1 * rng.standard_normal(24)
    chosen = choose_removed(lost, labels, correct)
    assert chosen["of one"] == [1]
    assert all(sum(label in own for own in chosen.values()) <= MOST_REMOVED for label in range(3))
    assert not any(choose_removed(lost, labels, ~correct).values())


def test_nothing_is_inserted_where_all_images_that_are_right_are_of_the_class() -> None:
    images, examined = examine()
    outcome, _ = run(images, ExaminedImages(examined.labels, examined.correct & (examined.labels == 1)))
    colour = outcome.answers["colour"].inserted
    assert (colour[1] == UNSEEN).all()


def test_images_to_insert_into_are_of_all_classes() -> None:
    labels = np.repeat(np.arange(12), 30)
    rows = choose_recipients(labels, np.arange(360) % 2 == 0)
    assert (rows % 2 == 0).all()
    assert all((labels[rows] != label).sum() >= INSERTED - 1 for label in range(12))
    assert len(choose_recipients(np.zeros(9, int), np.ones(9, bool))) == 0
    assert choose_inserted({"a": 0.5, "b": 0.0, "c": 0.1, "d": 0.2, "e": 0.3}) == ["a", "e", "d"][:MOST_INSERTED]


def test_a_fixed_place_is_compared_with_the_same_place_of_other_classes() -> None:
    images, examined = examine()
    cells = torch.zeros(4, SIDE, SIDE)
    cells[2, -4:] = 1
    cells[[0, 1, 3], 12:20, 12:20] = 1
    network = FactorNetwork(probe, SPEC, torch.device("cpu"), lambda _: 16)
    given = {place.NAME: ClassStatistics(cells.flatten(1), torch.ones(4))}
    outcome = FactorRuns(network, HeldImages(images), examined, given=given).measure()
    answers = outcome.answers[place.NAME]
    assert answers.area is not None
    assert answers.area[2] == pytest.approx(4 / SIDE)
    assert len(answers.control[2]) == (examined.labels[answers.screened] != 2).sum()
    ruled = {effect.name: effect for effect in describe_effects(outcome.answers, examined, 2)}[place.NAME]
    assert (ruled.removed, ruled.chance, ruled.kind) == (1.0, 0.0, "fixed place")
    assert ruled.inserted is not None
    assert ruled.inserted > 0.5


def test_a_change_that_breaks_any_image_is_no_finding() -> None:
    """Sharpening costs the blurred class its margin, and other classes as much."""
    images, examined = examine()

    def fragile(prepared: Tensor) -> ProbeOutput:
        pixels = prepared * 0.25 + 0.5
        broken = (pixels.amax((1, 2, 3)) > 1.3) | (pixels.amin((1, 2, 3)) < -0.3)
        logits = probe(prepared).logits
        return ProbeOutput(torch.where(broken[:, None], logits.roll(1, 1), logits), prepared)

    network = FactorNetwork(fragile, SPEC, torch.device("cpu"), lambda _: 16)
    outcome = FactorRuns(network, HeldImages(images), examined).measure()
    control = outcome.answers["sharpness"].control
    assert control[1].mean() > 0.8
    blurred = describe_effects(outcome.answers, examined, 1)
    sharpness = next(effect for effect in blurred if effect.name == "sharpness")
    assert sharpness.removed > 0.8
    assert sharpness.excess_low is not None
    assert sharpness.excess_low <= 0


def test_without_time_for_a_control_nothing_is_beyond_chance() -> None:
    images, examined = examine()
    outcome, _ = run(images, examined)
    whole = outcome.answers["sharpness"]
    cut = dataclasses.replace(whole, control={1: np.empty(0, bool)})
    effects = describe_effects({"sharpness": cut}, examined, 1)
    assert effects[0].removed > 0.8
    assert effects[0].excess_low is not None
    assert effects[0].excess_low <= 0


def test_places_are_where_a_class_has_evidence_that_others_do_not_have() -> None:
    heat, labels = 0.1 * torch.rand(30, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(30) // 10
    heat[:, 6:9, 6:9] += 1  # of all
    heat[:10, 14:, :] += 0.5
    masks = place.find_places(heat, labels, torch.ones(30, dtype=torch.bool)).view(3, 16, 16)
    assert masks[0, 14:].all()
    assert not masks[0, :12].any()
    assert masks.mean((1, 2)).max() <= place.MOST_AREA
    assert not place.find_places(heat, labels, labels == 0).any(), "nothing to compare with"


def test_differences_have_intervals_of_exact_shares() -> None:
    # Clopper and Pearson: 7 of 10 lies in 0.348 to 0.933, none of 10 in 0 to 0.308
    assert exact_interval(7, 10, 0.95) == pytest.approx((0.3475, 0.9333), abs=1e-4)
    assert exact_interval(0, 10, 0.95) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert exact_interval(0, 0, 0.95) == (0.0, 1.0)
    difference, low, high = compare(Count(0.7, 10), Count(0.0, 10), 0.95)
    below, above = math.hypot(0.7 - 0.3475, 0.3085), 0.9333 - 0.7
    assert (difference, low, high) == pytest.approx((0.7, 0.7 - below, 0.7 + above), abs=1e-3)


def test_of_classes_without_a_factor_few_have_one_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    labels, correct, n_factors, alarms = np.repeat(np.arange(6), 40), np.ones(240, bool), len(FACTORS), 0
    examined, nothing = ExaminedImages(labels, correct * 1.0), (np.full((6, 0), UNSEEN), np.empty(0, int))
    for _ in range(25):
        answers = {}
        for name in list(FACTORS)[:n_factors]:
            lost = rng.random(240) < 0.1
            answers[name] = FactorAnswers(np.where(lost, (labels + 1) % 6, labels), correct, *nothing)
        alarms += sum(
            choose_factor(region(), describe_effects(answers, examined, label)) is not None for label in range(6)
        )
    assert alarms / 150 <= 0.05
    assert level_of(n_factors) == 1 - 0.05 / n_factors


def effect(name: str, excess: float, low: float) -> FactorEffect:
    return FactorEffect(name, excess, 0.0, 1.0, 0.0, kind=FACTORS[name].kind, excess=excess, excess_low=low)


def test_a_factor_is_chosen_only_beyond_chance_and_beyond_the_region() -> None:
    weak, strong = effect("colour", 0.6, -0.01), effect("border", 0.4, 0.1)
    assert choose_factor(region(), (weak, strong)) == strong
    assert choose_factor(region(), (weak,)) is None
    assert choose_factor(region(0.5), (weak, strong)) is None
    assert choose_factor(region(0.5, chance=0.2), (weak, strong)) == strong
    assert choose_sufficient((weak, strong)) is None


def test_a_change_that_is_the_same_for_all_goes_on_only_where_some_class_gets_images() -> None:
    labels = np.repeat(np.arange(4), 60)
    images, examined = torch.zeros(240, 3, SIDE, SIDE), ExaminedImages(labels, np.ones(240))

    def run_with(answer: int | None) -> np.ndarray:
        def asked(given: Tensor) -> ProbeOutput:
            logits = torch.zeros(len(given), 4)
            if answer is not None:
                logits[:, answer] = 1.0
            return ProbeOutput(logits, given)

        network = FactorNetwork(asked, SPEC, torch.device("cpu"), lambda _: 64)
        outcome = FactorRuns(network, HeldImages(images), examined).measure()
        answers = outcome.answers["blur"]
        return (answers.inserted != UNSEEN).sum(1)

    assert (run_with(None) == INSERTED * 4 // 3).all()  # as many of the other three classes; no image is of any
    assert (run_with(2) == len(choose_recipients(labels, np.ones(240, bool)))).all()


def test_a_class_that_is_seldom_right_is_screened_on_more_images() -> None:
    labels, correct = np.repeat([0, 1, 2, 3, 4, 5, 6], 40), np.ones(280, bool)
    correct[40:80] = np.arange(40) >= 35  # the last five of class 1
    screened = choose_screened(labels, correct)
    counts = np.bincount(labels[screened])
    assert (counts[[0, 2, 3, 4, 5, 6]] == SCREENED).all()
    assert correct[screened][labels[screened] == 1].sum() == LEAST_CORRECT
    assert counts[1] > SCREENED
    assert np.array_equal(screened, np.unique(screened))
    none = choose_screened(labels, np.zeros(280, bool))
    assert (np.bincount(labels[none]) == SCREENED).all()


def test_a_few_images_to_insert_into_are_as_many_of_other_classes_whatever_their_number() -> None:
    for n_classes in (2, 4, 10):
        labels = np.repeat(np.arange(n_classes), 80)
        rows = choose_recipients(labels, np.ones(len(labels), bool))
        few = rows[choose_few(labels[rows])]
        assert all(abs((labels[few] != label).sum() - INSERTED) <= 3 for label in range(n_classes))
