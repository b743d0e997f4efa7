"""Supervised autoencoders: the closed forms against slow ones, the fold, and what counts as a concept."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from salve_audit.errors import DataError, UsageError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.files import read_sae, serialise_sae
from salve_audit.sae.normalisation import fit_normalisation, normalise
from salve_audit.sae.problem import prepare_problem
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae
from salve_audit.sae.supervised import ConceptBlock, Moments, fit_effects, fit_encoder, split_off_concepts
from salve_audit.sae.supervised_concepts import Concepts, class_concepts, column_concepts, gather_concepts

QUICK = SaeSettings(variant="supervised", n_latents=16, n_seeds=2, seed=3, epochs=20, sparsity=0.1)
TWO = {"light": ["day", "night"] * 3, "flash": ["yes", "no", "no"] * 2}


def planted(n: int = 2000, d: int = 20, noise: float = 0.3) -> tuple[np.ndarray, Concepts, np.ndarray]:
    """Activations that are sums of three concepts' effects: (acts, concepts, effects (3, d))."""
    rng = np.random.default_rng(5)
    present = rng.random((n, 3)) < (0.5, 0.3, 0.1)
    effects = rng.normal(size=(3, d))
    acts = present @ effects + noise * rng.normal(size=(n, d)) + 4
    return acts.astype(np.float32), Concepts(("a", "b", "c"), present), effects


def fit_block(acts: np.ndarray, concepts: Concepts) -> tuple[ConceptBlock, torch.Tensor]:
    rows = np.arange(len(acts))
    normalisation = fit_normalisation(acts, rows)
    return split_off_concepts(normalise(acts, rows, normalisation, "cpu"), concepts, normalisation)


def make_moments(n: int = 60, c: int = 3, d: int = 5) -> tuple[Moments, np.ndarray, np.ndarray]:
    """Moments with the samples they come from: (moments, centred masks (n, c), acts (n, d))."""
    rng = np.random.default_rng(1)
    masks = (rng.random((n, c)) < 0.4).astype(float)
    masks -= masks.mean(axis=0)
    acts = masks @ rng.normal(size=(c, d)) + rng.normal(size=(n, d))
    acts -= acts.mean(axis=0)
    return Moments(masks.T @ masks / n, masks.T @ acts / n, acts.T @ acts / n), masks, acts


def test_effects_minimise_the_loss_of_the_unconstrained_feature_model():
    """Minimise the same loss over codes and decoder by gradient descent, from another start."""
    moments, masks, acts = make_moments()
    penalty = 0.02
    effects = fit_effects(moments.masks, moments.cross, penalty)
    m, x = torch.from_numpy(masks), torch.from_numpy(acts)
    codes = torch.full((3,), 0.7, dtype=torch.float64, requires_grad=True)
    decoder = torch.from_numpy(np.random.default_rng(2).normal(size=(3, 5))).requires_grad_()
    optimiser = torch.optim.LBFGS([codes, decoder], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        error = (x - m @ (codes[:, None] * decoder)).square().sum() / len(x)
        total = error + penalty * (codes.square().sum() + decoder.square().sum())
        total.backward()
        return total

    optimiser.step(loss)
    np.testing.assert_allclose(effects, (codes[:, None] * decoder).detach().numpy(), atol=2e-4)


def test_a_concept_that_explains_less_than_the_penalty_fades():
    moments, _, _ = make_moments()
    least = np.linalg.norm(moments.cross, axis=1)  # alone, a concept is worth its penalty below this
    assert np.abs(fit_effects(moments.masks, moments.cross, 1.05 * least.max())).max() < 1e-3
    sample = least.argmax()
    assert np.abs(fit_effects(moments.masks, moments.cross, 0.95 * least.max())[sample]).max() > 0.05


def test_effects_without_penalty_are_least_squares():
    moments, masks, acts = make_moments()
    effects = fit_effects(moments.masks, moments.cross, 1e-9)
    np.testing.assert_allclose(effects, np.linalg.lstsq(masks, acts, rcond=None)[0], atol=1e-6)


def test_the_encoder_is_ridge_at_the_best_cross_validated_strength():
    """Against one solve per strength, with the leverages of every sample."""
    moments, masks, acts = make_moments()
    n, d = acts.shape
    best, expected = np.full(3, np.inf), np.zeros((3, d))
    for strength in np.logspace(-6, 2, 33):
        inverse = np.linalg.inv(acts.T @ acts / n + strength * np.eye(d))
        weight = inverse @ (acts.T @ masks / n)
        hat = acts @ inverse @ acts.T / n + 1 / n
        score = np.square(masks - acts @ weight).mean(axis=0) / (1 - np.trace(hat) / n) ** 2
        better = score < best
        expected[better], best[better] = weight.T[better], score[better]
    np.testing.assert_allclose(fit_encoder(moments, n), expected, rtol=1e-6, atol=1e-9)


def test_planted_effects_and_masks_are_recovered():
    acts, concepts, effects = planted()
    block, _ = fit_block(acts, concepts)
    fitted = block.effects * block.normalisation.scale
    np.testing.assert_allclose(fitted, effects, atol=0.12)
    shown = ((acts - block.normalisation.mean) / block.normalisation.scale) @ block.encoder.T + block.rates
    assert ((shown > 0.5) == concepts.present).mean() > 0.999


def test_both_blocks_fold_into_one_autoencoder(world):
    """Concept codes by hand, what they leave over, and the residual autoencoder on it: the same reconstruction."""
    problem = prepare_problem(world.acts, world.labels, world.head, QUICK)
    parameters = problem.train_from(None, 0.1, problem.recipe, 1)
    sae = problem.canonical(parameters, 0.1)
    rest_alone = replace(problem, block=None, n_latents=problem.n_trained).canonical(parameters, 0.1)
    block = problem.block
    x = (world.acts.astype(np.float64) - block.normalisation.mean) / block.normalisation.scale
    by_concepts = (x @ block.encoder.T) @ block.effects
    left = block.normalisation.scale * (x - by_concepts)
    recon = block.normalisation.mean + block.normalisation.scale * by_concepts
    recon += rest_alone.decode(rest_alone.encode(left.astype(np.float32)))
    codes = sae.encode(world.acts)
    np.testing.assert_allclose(sae.decode(codes), recon, atol=2e-4)
    np.testing.assert_allclose(codes[:, 4:], rest_alone.encode(left.astype(np.float32)), atol=2e-4)
    by_hand = block.normalisation.scale * np.linalg.norm(block.effects, axis=1) * (x @ block.encoder.T + block.rates)
    np.testing.assert_allclose(codes[:, :4], by_hand, atol=2e-4)


def test_concepts_come_first_fire_on_their_samples_and_are_the_same_for_every_seed(train_quickly, world):
    outcome = train_quickly("supervised")
    assert outcome.info.concepts == ("class 0", "class 1", "class 2", "class 3")
    assert outcome.sae.concepts == (*outcome.info.concepts, *[None] * (outcome.sae.n_latents - 4))
    codes = outcome.sae.encode(world.acts)
    for label in range(4):
        own = codes[world.labels == label, label]
        assert own.min() > codes[world.labels != label, label].max()
    first, second = outcome.seeds
    np.testing.assert_array_equal(first.dictionary[:4], second.dictionary[:4])
    assert not np.array_equal(first.dictionary[4:], second.dictionary[4:])


def test_what_the_concepts_leave_over_is_explained(train_quickly, world):
    """The four planted rows that no class has are found among the other latents."""
    outcome = train_quickly("supervised")
    assert outcome.info.satisfied
    cosine = np.abs(world.dictionary[4:] @ outcome.sae.dictionary[4:].T).max(axis=1)
    assert (cosine > 0.97).all(), cosine


def test_concepts_given_by_the_caller(world, tmp_path):
    rare = np.abs((world.acts - world.acts.mean(axis=0)) @ world.dictionary[5]) > 2
    known = class_concepts(world.labels, ["p", "q", "r", "s"]).beside(Concepts(("rare",), rare[:, None]))
    sae = train_sae(world.acts, world.labels, world.head, QUICK, known).sae
    (tmp_path / "sae.safetensors").write_bytes(serialise_sae(sae))
    loaded = read_sae(tmp_path / "sae.safetensors")
    assert loaded.concepts[:6] == ("p", "q", "r", "s", "rare", None)
    assert len(loaded.concepts) == 16


def test_other_variants_stand_for_no_concepts(train_quickly):
    assert set(train_quickly("linear-l1").sae.concepts) == {None}


def test_identical_concepts_become_one_with_both_names():
    acts, concepts, _ = planted()
    twice = concepts.beside(Concepts(("b again",), concepts.present[:, 1:2]))
    subset = twice.at(np.arange(len(acts)))
    assert subset.names == ("a", "b = b again", "c")
    np.testing.assert_array_equal(subset.present, concepts.present)


def test_concepts_without_contrast_are_left_out(caplog):
    present = np.array([[True, False, True], [True, False, False]])
    with caplog.at_level(logging.WARNING):
        subset = Concepts(("all", "none", "some"), present).at(np.arange(2))
    assert subset.names == ("some",)
    assert "'all' has no contrast" in caplog.text
    assert "'none'" not in caplog.text


def test_a_concept_without_any_effect_is_left_out(caplog):
    acts, concepts, _ = planted(n=400)
    mirrored = np.concatenate([acts, acts])  # once with and once without: no effect to the last digit
    half = Concepts(("half",), np.repeat([[True], [False]], len(acts), axis=0))
    both = Concepts(concepts.names, np.concatenate([concepts.present] * 2)).beside(half)
    with caplog.at_level(logging.WARNING):
        block, _ = fit_block(mirrored, both)
    assert block.names == ("a", "b", "c")
    assert "left out: half" in caplog.text
    with pytest.raises(DataError, match="none of them has an effect"):
        fit_block(mirrored, half)


def test_concepts_that_tell_nothing_apart_are_refused(world):
    same = Concepts(("always",), np.ones((600, 1), dtype=bool))
    with pytest.raises(DataError, match="concepts: none of them tells any of the training samples apart"):
        train_sae(world.acts, world.labels, world.head, QUICK, same)
    with pytest.raises(UsageError, match="4 latents for 4 concepts, none is left"):
        train_sae(world.acts, world.labels, world.head, replace(QUICK, n_latents=4))


def test_more_concepts_get_more_latents():
    rng = np.random.default_rng(0)
    acts, labels = rng.normal(size=(300, 8)).astype(np.float32), np.arange(300) % 2
    head = LinearHead(rng.normal(size=(2, 8)).astype(np.float32), np.zeros(2, np.float32), "fc")
    many = class_concepts(labels).beside(
        column_concepts("x", {str(i): list(rng.choice(list("abcd"), 300)) for i in range(10)})
    )
    problem = prepare_problem(acts, labels, head, replace(QUICK, n_latents=None), many)
    assert len(problem.block.names) == 42
    assert (problem.n_latents, problem.n_trained) == (84, 42)


def test_columns_become_concepts():
    concepts = column_concepts("list.csv", TWO)
    assert concepts.names == ("light=day", "light=night", "flash")
    np.testing.assert_array_equal(concepts.present[:3], [[1, 0, 1], [0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize("pair", [("Yes", "No"), ("true", "false"), ("True", "False"), ("1", "0"), ("1.0", "0.0")])
def test_yes_and_no_in_any_form_are_one_concept(pair):
    concepts = column_concepts("list.csv", {"flash": [pair[0], pair[1], f" {pair[0]} "]})
    assert concepts.names == ("flash",)
    assert concepts.present[:, 0].tolist() == [True, False, True]


def test_few_numbers_are_values_and_many_are_refused():
    few = column_concepts("x", {"beds": [str(i % 3) for i in range(30)]})
    assert few.names == ("beds=0", "beds=1", "beds=2")
    with pytest.raises(DataError, match=r"x: the column 'age' holds 30 different numbers, it is a measurement"):
        column_concepts("x", {"age": [str(i / 2) for i in range(30)]})
    with pytest.raises(DataError, match=r"x: the column 'name' holds 30 different values; a concept has at most 20"):
        column_concepts("x", {"name": [f"n{i}" for i in range(30)]})


def test_attributes_are_taken_by_the_images_path():
    """Unreadable images are missing from the activations, and the columns may list more."""
    attributes = {"flash": {"c.png": "no", "gone.png": "yes", "a.png": "yes", "b.png": "no"}}
    concepts = gather_concepts("list.csv", ("a.png", "b.png", "c.png"), np.array([0, 1, 1]), ["cat", "dog"], attributes)
    assert concepts.names == ("cat", "dog", "flash")
    np.testing.assert_array_equal(concepts.present, [[1, 0, 1], [0, 1, 0], [0, 1, 0]])
    with pytest.raises(DataError, match=r"no value for 1 of 2 images to fit, the first is new\.png"):
        gather_concepts("list.csv", ("a.png", "new.png"), np.array([0, 1]), ["cat", "dog"], attributes)


def test_memory_mapped_activations(world, tmp_path):
    np.save(tmp_path / "acts.npy", world.acts)
    mapped = np.load(tmp_path / "acts.npy", mmap_mode="r")
    there, here = (train_sae(acts, world.labels, world.head, QUICK).sae for acts in (mapped, world.acts))
    assert there.dictionary.tobytes() == here.dictionary.tobytes()
