"""``--sae auto``: what is tried, what is picked, and that the choice can be retraced from the frontier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from salve_audit.errors import UsageError
from salve_audit.sae import auto
from salve_audit.sae.auto import COUNTED, LINEAR, OTHERS, pick, pick_width, search_widths
from salve_audit.sae.contender import trim
from salve_audit.sae.metrics import LEAST_R2, Quality
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae
from salve_audit.sae.tuning import KEPT_ACCURACY
from salve_audit.sae.variants import find_variant

pytestmark = pytest.mark.slow

SETTINGS = SaeSettings("auto", n_seeds=2, seed=3)


@pytest.fixture(scope="module")
def outcome(world):
    return train_sae(world.acts, world.labels, world.head, SETTINGS)


def make_quality(l0: float, r2: float = 0.95, accuracy: float = 1.0) -> Quality:
    return Quality(r2, l0, 0, 0.9, 0.9 * accuracy, accuracy, 0.0, 1.0)


@dataclass(frozen=True)
class Fake:
    """A contender as `pick` sees it."""

    name: str
    quality: Quality
    cosine: float

    @property
    def chosen(self):
        return SimpleNamespace(quality=self.quality)

    @property
    def stability(self):
        return SimpleNamespace(matched_cosine=self.cosine)

    @property
    def satisfied(self) -> bool:
        return self.quality.r2 >= LEAST_R2 and self.quality.accuracy_kept >= KEPT_ACCURACY


def test_every_variant_is_on_the_frontier_and_one_point_is_chosen(outcome):
    points = outcome.info.frontier
    assert {point.variant for point in points} == {LINEAR, COUNTED, *OTHERS}
    chosen = [point for point in points if point.chosen]
    assert len(chosen) == 1
    assert (chosen[0].variant, chosen[0].sparsity) == (outcome.info.variant, outcome.info.sparsity)
    assert chosen[0].matched_cosine == outcome.info.stability.matched_cosine


def test_the_choice_follows_from_the_frontier(outcome):
    judged = [point for point in outcome.info.frontier if point.matched_cosine is not None]
    finals = [point for point in judged if point.components is not None]
    assert len(finals) == 2 + len(OTHERS)
    good = [point for point in finals if point.accuracy_kept >= KEPT_ACCURACY and point.r2 >= LEAST_R2]
    assert outcome.info.satisfied
    best = max(point.matched_cosine for point in good)
    equal = [point for point in good if point.matched_cosine >= best - 0.02]
    winner = min(equal, key=lambda point: point.l0)
    (chosen,) = (point for point in judged if point.components is None)
    assert chosen.chosen
    assert chosen.variant == winner.variant


def test_the_number_of_latents_is_chosen(outcome, world):
    widths = {point.n_latents for point in outcome.info.frontier if point.variant == COUNTED}
    assert len(widths) >= 2
    assert outcome.sae.n_latents == outcome.info.n_latents
    assert outcome.sae.alive.all() or outcome.info.variant != LINEAR
    codes = outcome.sae.encode(world.acts)
    assert outcome.info.n_dead <= outcome.sae.n_latents
    assert codes.shape == (len(world.acts), outcome.info.n_latents)


def test_a_given_number_of_latents_is_kept(world):
    info = train_sae(world.acts, world.labels, world.head, replace(SETTINGS, n_latents=12)).info
    assert {point.n_latents for point in info.frontier} == {12}
    assert info.n_latents == 12


def test_two_runs_agree_to_the_bit(outcome, world):
    again = train_sae(world.acts, world.labels, world.head, SETTINGS)
    assert again.info == outcome.info
    assert again.sae.dictionary.tobytes() == outcome.sae.dictionary.tobytes()


@pytest.mark.parametrize("key", ["sparsity", "epochs", "batch_size", "learning_rate"])
def test_what_auto_chooses_cannot_be_given(world, key):
    with pytest.raises(UsageError, match=f"^{key}: auto chooses it for every variant"):
        train_sae(world.acts, world.labels, world.head, replace(SETTINGS, **{key: 1}))


def test_the_most_stable_of_those_that_satisfy_is_picked():
    dense = Fake("dense", make_quality(40), 0.9)
    sparse = Fake("sparse", make_quality(5), 0.6)
    broken = Fake("broken", make_quality(2, r2=0.8), 1.0)
    assert pick([dense, sparse, broken]) is dense


def test_among_equally_stable_ones_the_sparser_is_picked():
    dense, sparse = Fake("dense", make_quality(40), 0.90), Fake("sparse", make_quality(5), 0.885)
    assert pick([dense, sparse]) is sparse


def test_where_none_satisfies_the_nearest_miss_is_picked():
    near, far = Fake("near", make_quality(40, r2=0.89), 0.2), Fake("far", make_quality(5, accuracy=0.5), 0.9)
    assert pick([near, far]) is near


def test_the_fewest_latents_that_get_as_sparse_are_picked():
    paths = {64: [8.0], 32: [9.9], 16: [12.0]}
    named = {w: [SimpleNamespace(quality=make_quality(l0), sparsity=l0) for l0 in path] for w, path in paths.items()}
    assert pick_width(named)[0] == 32


def watch_widths(monkeypatch, sparsest):
    """The widths that are tried, in order; `sparsest` is the L0 that each would reach."""
    tried = []

    def fake_search(problem, start=None):
        tried.append(problem.n_latents)
        return [SimpleNamespace(quality=make_quality(sparsest[problem.n_latents]), sparsity=1.0)]

    monkeypatch.setattr(auto, "search", fake_search)
    monkeypatch.setattr(
        auto, "at_width", lambda problem, width: SimpleNamespace(**{**vars(problem), "n_latents": width})
    )
    return tried


def test_widths_are_halved_while_that_is_as_sparse(monkeypatch):
    """128 and 64 latents are as sparse as 256: after three it stops; wider ones are not tried."""
    sparsest = {256: 8.0, 128: 8.0, 64: 8.4, 512: 4.0}
    tried = watch_widths(monkeypatch, sparsest)
    problem = SimpleNamespace(n_latents=256, head=SimpleNamespace(n_classes=4), variant=find_variant(COUNTED))
    assert pick_width(search_widths(problem, fixed_width=False))[0] == 64
    assert tried == [256, 128, 64]


def test_widths_are_doubled_while_that_is_sparser(monkeypatch):
    sparsest = {64: 9.0, 32: 20.0, 128: 6.0, 256: 5.9}
    tried = watch_widths(monkeypatch, sparsest)
    problem = SimpleNamespace(n_latents=64, head=SimpleNamespace(n_classes=4), variant=find_variant(COUNTED))
    assert pick_width(search_widths(problem, fixed_width=False))[0] == 128
    assert tried == [64, 32, 128]


@pytest.mark.parametrize("variant", ["linear-l1", "topk", "jumprelu"])
def test_trimming_changes_no_code_of_a_living_latent(variant, train_quickly, world):
    sae = train_quickly(variant).sae
    silent = sae.encoder_weight.copy()
    silent[[1, 3]] = 0
    bias = sae.encoder_bias.copy()
    bias[[1, 3]] = 0
    holed = replace(sae, encoder_weight=silent, encoder_bias=bias)
    left = trim(holed)
    assert left.n_latents == holed.alive.sum() == holed.n_latents - len({1, 3} | set(np.flatnonzero(~sae.alive)))
    np.testing.assert_allclose(left.encode(world.acts), holed.encode(world.acts)[:, holed.alive], rtol=1e-4, atol=1e-4)
