"""Worlds with known truth: an image is drawn again without a cue and nothing else changes, and the counts are right."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salve_audit.results import ImageReliance

FOLDER = Path(__file__).parents[2] / "benchmarks" / "evidence"
SIDE = 48


@pytest.fixture(scope="module", autouse=True)
def neighbours() -> Iterator[None]:
    """The scripts import one another."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def scenes() -> Any:
    return importlib.import_module("scenes")


@pytest.fixture(scope="module")
def shortcuts() -> Any:
    return importlib.import_module("shortcuts")


class GreyScenes:
    """Two grey classes; the first shows all cues of a bank."""

    side, has_object = SIDE, False

    def __init__(self, scenes: Any, bank: Any) -> None:
        self.scenes = scenes
        self.bank = {name: cue for name, cue in bank.items() if cue.apply is not None}
        self.plans = [scenes.ClassPlan("a", dict.fromkeys(self.bank, 1.0)), scenes.ClassPlan("b")]

    def draw(self, part: str, label: int, index: int, without: Collection[str] = ()) -> Any:
        rng_for = self.scenes.generators(5, part, label, index)
        shown = self.scenes.choose_shown(self.plans[label], rng_for)
        photo = rng_for("photo").uniform(60, 190, (SIDE, SIDE, 3)).astype(np.float32)
        return self.scenes.lay_cues(photo, self.bank, [name for name in shown if name not in without], rng_for, {})


@pytest.mark.parametrize("bank", ["DEVELOPMENT", "UNTOUCHED", "DEVELOPMENT_TEXTURE", "UNTOUCHED_TEXTURE"])
def test_a_cue_changes_its_mask_and_nothing_else(bank: str, scenes: Any, shortcuts: Any) -> None:
    for name, cue in getattr(shortcuts, bank).items():
        if cue.apply is None:
            continue
        world = GreyScenes(scenes, {name: cue})
        shown, bare = world.draw("val", 0, 3), world.draw("val", 0, 3, (name,))
        changed = (shown.pixels != bare.pixels).any(2)
        outside = changed & ~shown.masks[name]
        assert changed.mean() > 0.005, name
        if cue.kind == "vignette":  # its mask is where the light falls below four fifths
            assert np.abs(shown.pixels.astype(int) - bare.pixels)[outside].max() <= 0.2 * 190 + 1
        else:
            assert not outside.any(), name
        again = world.draw("val", 0, 3)
        assert np.array_equal(again.pixels, shown.pixels)


def test_leaving_a_cue_out_moves_no_other(scenes: Any, shortcuts: Any) -> None:
    bank = {name: cue for name, cue in shortcuts.DEVELOPMENT.items() if cue.families == shortcuts.REGION}
    world = GreyScenes(scenes, bank)
    for name in world.bank:
        shown, without = world.draw("val", 0, 1), world.draw("val", 0, 1, (name,))
        extent = world.draw("val", 0, 1, set(world.bank) - {name}).masks[name]  # with nothing laid over it
        changed = (shown.pixels != without.pixels).any(2)
        assert changed.any()
        assert not (changed & ~extent).any(), name


def test_development_and_untouched_share_no_cue_and_no_network(shortcuts: Any) -> None:
    split, scenes = importlib.import_module("split"), importlib.import_module("scenes")
    assert not set(shortcuts.DEVELOPMENT) & set(shortcuts.UNTOUCHED)
    assert {cue.kind for cue in shortcuts.DEVELOPMENT.values()} < {cue.kind for cue in shortcuts.UNTOUCHED.values()}
    for role in ("development", "untouched"):
        names = split.list_names([role])
        assert names
        assert {scenes.is_untouched(int(name.split("/")[2])) for name in names} == {role == "untouched"}
        assert {name.split("/")[0] for name in names} == {"cutouts", "overlaid", "garments", "generated"}


def test_every_class_is_given_what_the_seed_says(scenes: Any, shortcuts: Any) -> None:
    names = [f"class {number}" for number in range(12)]
    seen: set[str] = set()
    for seed in range(4):
        plans = scenes.plan_classes(names, shortcuts.DEVELOPMENT, seed)
        sizes = sorted(len(plan.cues) for plan in plans)
        assert sizes == [0, 0] + [1] * 9 + [2]
        seen |= {cue for plan in plans for cue in plan.cues}
    assert seen == set(shortcuts.DEVELOPMENT)


def test_truth_counts_predictions_that_depend_on_a_cue(scenes: Any, shortcuts: Any, tmp_path: Path) -> None:
    """A network that calls dark-edged images "a" and everything else "b" depends on the frame alone."""
    folder = importlib.import_module("world_folder")
    bank = {name: shortcuts.DEVELOPMENT[name] for name in ("frame", "orange sticker")}
    world = GreyScenes(scenes, bank)
    world.plans[0] = scenes.ClassPlan("a", {"frame": 0.7, "orange sticker": 1.0})

    def predict(pixels: np.ndarray) -> np.ndarray:
        return np.where(pixels[:, 0, 0].min(1) > 200, 0, 1)

    classes, records = folder.measure_truth(world, predict, 40, tmp_path)
    assert folder.measure_truth(world, lambda _: np.empty(0), 40, tmp_path) == (classes, records)  # nothing again
    frame, sticker = classes["a"]["cues"]["frame"], classes["a"]["cues"]["orange sticker"]
    n_shown = sum("frame" in record["lost"] for record in records)
    assert 20 < n_shown < 36
    assert frame["n_shown"] == classes["a"]["n_correct"] == frame["n_lost"] == n_shown
    assert (frame["drop"], frame["class_drop"]) == (1.0, n_shown / 40)
    assert (sticker["n_shown"], sticker["drop"]) == (40, 0.0)
    assert classes["a"]["all cues"]["class_drop"] == frame["class_drop"]
    assert classes["b"] == {"n": 40, "n_correct": 40, "cues": {}, "all cues": None, "object": None}


def _reliance(value: float, kind: str | None, chance: float = 0.0) -> ImageReliance:
    low, high = max(0.0, value - 0.1), min(1.0, value + 0.1)
    return ImageReliance(50, 45, value, low, high, kind, None, 1, 1, 1, 3, chance, False, chance, chance + 0.02)


def test_scores_agree_with_what_was_found() -> None:
    score = importlib.import_module("score")

    def judge(
        cue: str | None, drop: float, said: ImageReliance, families: tuple = ("region",), removed: float = 0.3
    ) -> Any:
        return score.Judged("w", "c", cue, "tag" if cue else "none", families, drop, drop, removed, said)

    classes = [
        judge("tag", 0.8, _reliance(0.75, "region")),
        judge("tag", 0.4, _reliance(0.45, "border"), ("border",)),
        judge("tag", 0.35, _reliance(0.05, "region", chance=0.04)),
        judge("tag", 0.1, _reliance(0.1, "colour")),
        judge(None, 0.0, _reliance(0.3, "region")),
        judge(None, 0.0, _reliance(0.7, "region")),
        judge(None, 0.0, _reliance(0.3, "sharpness")),
        judge(None, 0.0, _reliance(0.0, None)),
    ]
    scores = score.score(classes)
    assert scores["error of cues"] == pytest.approx((0.05 + 0.05 + 0.3 + 0) / 4)
    assert scores["AUROC > .5 of cues"] == 1.0
    assert scores["Spearman of cues"] == pytest.approx(0.8)  # the third and fourth change places
    assert scores["in the interval of cues"] == 0.75
    assert scores["false alarms"] == 0.5  # the region above the whole object's drop, and the factor
    assert [entry.beyond_chance for entry in classes[:3]] == [True, True, False]
    assert [entry.named for entry in classes[:4]] == [True, True, False, False]
