"""`train_sae`: what it finds in a known world, what it does with odd input, and on real activations."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from salve_audit.audit.stage_cache import StageParts
from salve_audit.errors import DataError, NothingMeasuredError, UsageError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae import anew, problem
from salve_audit.sae.clock import Clock
from salve_audit.sae.consolidation import SAME_DIRECTION
from salve_audit.sae.metrics import measure_quality
from salve_audit.sae.settings import SaeSettings, default_latents
from salve_audit.sae.stage import train_sae
from salve_audit.sae.variants import VARIANTS

SHORT = SaeSettings("linear-l1", n_latents=4, n_seeds=2, epochs=20, sparsity=0.1)


def make_head(k: int, d: int) -> LinearHead:
    weight = np.random.default_rng(9).normal(size=(k, d)).astype(np.float32)
    return LinearHead(weight, np.zeros(k, dtype=np.float32), "fc")


def test_the_planted_dictionary_is_found(train_quickly, world):
    outcome = train_quickly("linear-l1")
    assert outcome.info.satisfied
    assert outcome.info.r2 >= 0.9
    assert outcome.info.accuracy_reconstructed >= 0.99 * outcome.info.accuracy_original
    alive = outcome.sae.dictionary[outcome.sae.alive]
    cosines = np.abs(world.dictionary @ alive.T).max(axis=1)
    assert (cosines[4:] > 0.99).all(), cosines
    # with the mean removed, one-hot class codes become e_k - 1/4: at sqrt(3)/2 = 0.866 to the planted row
    assert (cosines[:4] > 0.85).all(), cosines
    assert outcome.info.stability.share_matched > 0.9


def test_every_class_has_a_latent_of_its_own_that_fires_positively(train_quickly, world):
    codes = train_quickly("linear-l1").sae.encode(world.acts)
    means = np.stack([codes[world.labels == k].mean(axis=0) for k in range(4)])
    dominant = np.abs(means).argmax(axis=1)
    assert len(set(dominant)) == 4
    assert (means[np.arange(4), dominant] > 0).all()


def test_frontier_runs_from_dense_to_sparse(train_quickly):
    frontier = train_quickly("linear-l1").info.frontier
    assert [point.sparsity for point in frontier] == sorted(point.sparsity for point in frontier)
    assert len(frontier) >= 4
    assert frontier[0].mean_abs_code > frontier[-1].mean_abs_code
    assert frontier[0].r2 > frontier[-1].r2


def test_latents_are_ordered_by_energy_and_dead_ones_are_silent(train_quickly, world):
    sae = train_quickly("linear-l1").sae
    codes = sae.encode(world.acts)
    energy = np.square(codes.astype(np.float64)).mean(axis=0)
    assert (np.diff(energy) <= 0.05 * energy[:-1]).all()  # ordered on the training part, looked at on all
    assert not sae.alive.all()
    assert (codes[:, ~sae.alive] == 0).all()
    assert train_quickly("linear-l1").info.n_dead >= (~sae.alive).sum()


def test_no_two_latents_share_a_direction(train_quickly):
    for sae in train_quickly("linear-l1").seeds:
        alive = sae.dictionary[sae.alive]
        assert np.abs(alive @ alive.T - np.eye(len(alive))).max() < SAME_DIRECTION


def test_a_broken_rule_is_said(world, caplog):
    with caplog.at_level(logging.WARNING):
        info = train_sae(world.acts, world.labels, world.head, replace(SHORT, sparsity=100.0)).info
    assert not info.satisfied
    assert f"at R² {info.r2:.3f} (wanted: 99 % at 0.9)" in caplog.text


def test_a_penalty_that_leaves_nothing_alive_is_no_crash(world):
    outcome = train_sae(world.acts, world.labels, world.head, replace(SHORT, sparsity=1e4))
    assert not outcome.info.satisfied
    assert outcome.info.r2 < 0.1


def test_units_of_the_activations_do_not_matter(world):
    """A power of two changes no rounding: the dictionary is the same to the bit, the codes follow."""
    settings = replace(SHORT, n_latents=12)
    plain = train_sae(world.acts, world.labels, world.head, settings).sae
    larger = train_sae(1024 * world.acts, world.labels, world.head, settings).sae
    np.testing.assert_array_equal(larger.dictionary, plain.dictionary)
    np.testing.assert_allclose(larger.encode(1024 * world.acts), 1024 * plain.encode(world.acts), rtol=1e-4, atol=0.01)


def test_a_shift_of_the_activations_goes_into_the_biases(world):
    settings = replace(SHORT, n_latents=12)
    shift = np.linspace(-40, 40, 24, dtype=np.float32)
    plain, moved = (train_sae(acts, world.labels, world.head, settings) for acts in (world.acts, world.acts + shift))
    assert moved.info.r2 == pytest.approx(plain.info.r2, abs=2e-3)
    recon = moved.sae.decode(moved.sae.encode(world.acts + shift)) - shift
    assert np.abs(recon - plain.sae.decode(plain.sae.encode(world.acts))).mean() < 0.02


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("variant", ["linear-l1"])
def test_extreme_scales_are_normalised_away(world, scale, variant):
    acts = (world.acts.astype(np.float64) * scale).astype(np.float32)
    outcome = train_sae(acts, world.labels, world.head, replace(SHORT, n_latents=12, variant=variant))
    assert outcome.info.r2 > 0.8
    assert np.isfinite(outcome.sae.encode(acts)).all()


@pytest.mark.parametrize("variant", sorted(VARIANTS))
@pytest.mark.parametrize(
    ("n", "d", "k", "m"),
    [(6, 3, 2, 4), (20, 1, 2, 2), (9, 30, 3, 8), (40, 6, 4, 30), (300, 2, 2, 1)],
    ids=["fewer samples than a batch", "d = 1", "n < m < d", "m > d", "one latent"],
)
def test_odd_sizes_train(variant, n, d, k, m):
    rng = np.random.default_rng(0)
    acts, labels = rng.normal(size=(n, d)).astype(np.float32), np.arange(n) % k
    sparsity = min(2, m) if VARIANTS[variant].counted else 0.1
    m += k if variant == "supervised" else 0  # a latent for every class comes first
    settings = replace(SHORT, variant=variant, n_latents=m, sparsity=sparsity)
    outcome = train_sae(acts, labels, make_head(k, d), settings)
    assert outcome.sae.dictionary.shape == (m, d)
    assert np.isfinite(outcome.sae.encode(acts)).all()
    assert outcome.info.n_latents == m


def test_searching_on_a_handful_of_samples_is_no_crash():
    rng = np.random.default_rng(0)
    acts, labels = rng.normal(size=(8, 5)).astype(np.float32), np.arange(8) % 2
    info = train_sae(acts, labels, make_head(2, 5), SaeSettings("linear-l1", n_latents=4, n_seeds=2, epochs=5)).info
    assert len(info.frontier) >= 5
    assert not info.satisfied


def test_classes_of_one_sample_and_classes_without_any_are_allowed():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 20 + [1] + [3] * 20)  # class 2 has none, class 1 a single one
    acts = (rng.normal(size=(41, 5)) + labels[:, None]).astype(np.float32)
    outcome = train_sae(acts, labels, make_head(5, 5), SHORT)
    assert np.isfinite(outcome.info.r2)


def test_nan_and_infinite_activations_are_counted(world):
    acts = world.acts.copy()
    acts[3, 5], acts[7, 0], acts[7, 1] = np.nan, np.inf, np.nan
    with pytest.raises(DataError, match=r"^activations: 2 of 600 samples hold NaN or infinite values$"):
        train_sae(acts, world.labels, world.head, SHORT)


@pytest.mark.parametrize("value", [0.0, 3.0, 1e-38, 1e20])
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_constant_activations_are_refused(variant, value):
    acts = np.full((50, 6), value, dtype=np.float32)
    with pytest.raises(DataError, match="they are the same for every sample"):
        train_sae(acts, np.arange(50) % 2, make_head(2, 6), replace(SHORT, variant=variant))


def test_an_unknown_variant_is_a_usage_error(world):
    with pytest.raises(UsageError, match="'topq' is not one of linear-l1, relu-l1"):
        train_sae(world.acts, world.labels, world.head, replace(SHORT, variant="topq"))


def test_default_number_of_latents():
    assert [default_latents(512, 10), default_latents(192, 10), default_latents(2048, 1000)] == [256, 96, 2000]
    assert [default_latents(64, 10), default_latents(8, 2)] == [64, 64]


def test_float64_activations_and_int32_labels_are_accepted(world):
    as_given = train_sae(world.acts, world.labels, world.head, SHORT).sae
    wider = train_sae(world.acts.astype(np.float64), world.labels.astype(np.int32), world.head, SHORT).sae
    assert wider.dictionary.tobytes() == as_given.dictionary.tobytes()


def test_trainings_of_an_ended_search_are_taken_over(world, monkeypatch, tmp_path):
    trained, train, ends_at = [], problem.train, []

    def counted(*arguments):
        if [len(trained)] == ends_at:
            ends_at.clear()
            raise KeyboardInterrupt
        trained.append(arguments[0]["dictionary"].shape)
        return train(*arguments)

    monkeypatch.setattr(problem, "train", counted)
    monkeypatch.setattr(anew, "ENOUGH", 1)  # which repeats a training, and so takes one over in any case
    searched = replace(SHORT, sparsity=None)
    whole = train_sae(world.acts, world.labels, world.head, searched)
    n_whole = len(trained)
    trained.clear()
    ends_at.append(2)
    kept = replace(searched, kept=StageParts(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        train_sae(world.acts, world.labels, world.head, kept)
    resumed = train_sae(world.acts, world.labels, world.head, kept)
    assert len(trained) == n_whole > 2
    assert resumed.info == whole.info
    assert all(np.array_equal(a.dictionary, b.dictionary) for a, b in zip(resumed.seeds, whole.seeds, strict=True))


def test_autoencoders_are_chosen_anew_where_few_samples_chose(train_quickly, world):
    outcome = train_quickly("linear-l1")
    assert len(outcome.anew) == len(outcome.seeds) - 1
    chosen = [sae.hyperparameters for sae in (outcome.sae, *outcome.anew)]
    assert len({settings["seed"] for settings in chosen}) == len(chosen)
    assert len({settings["sparsity"] for settings in chosen}) > 1  # of the others each found its own
    for sae in outcome.anew:
        quality = measure_quality(sae, world.acts, world.labels, world.head)
        assert quality.r2 >= 0.9
        assert sae.variant == outcome.sae.variant


def test_nothing_is_chosen_anew_where_nothing_was_chosen_or_the_choice_is_sure(world, monkeypatch):
    given = train_sae(world.acts, world.labels, world.head, SHORT)
    assert len(given.seeds) == 2
    assert given.anew == ()
    searched = replace(SHORT, sparsity=None)
    assert train_sae(world.acts, world.labels, world.head, replace(searched, anew=False)).anew == ()
    monkeypatch.setattr(anew, "ENOUGH", 1)
    assert train_sae(world.acts, world.labels, world.head, searched).anew == ()


def test_what_goes_wrong_anew_or_takes_too_long_is_left_out(world, monkeypatch, caplog):
    searched, found = replace(SHORT, sparsity=None, n_seeds=3), []
    prepare = anew.prepare_problem

    def fails_once(*arguments):
        found.append(arguments)
        if len(found) == 1:
            raise NothingMeasuredError("the autoencoder", "its training diverged")
        return prepare(*arguments)

    monkeypatch.setattr(anew, "prepare_problem", fails_once)
    outcome = train_sae(world.acts, world.labels, world.head, searched)
    assert (len(found), len(outcome.anew)) == (2, 1)
    assert "an autoencoder chosen anew is left out" in caplog.text
    monkeypatch.setattr(Clock, "allows", lambda clock, work: False)
    hurried = train_sae(world.acts, world.labels, world.head, searched)
    assert hurried.anew == ()
    assert "autoencoders chosen anew" in hurried.info.cut_short
