"""Principal coordinates: which components are kept, and that they lose nothing that is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.problem import prepare_problem
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.subspace import Subspace, find_goal, find_subspace


def make_acts(n: int, d: int, planted: int, noise: float, seed: int = 0) -> torch.Tensor:
    """Samples that vary along `planted` directions, each less than the one before, and by noise."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(d, planted)))[0].T
    sizes = np.geomspace(6, 2, planted)
    acts = (rng.normal(size=(n, planted)) * sizes) @ directions + noise * rng.normal(size=(n, d))
    return torch.from_numpy((acts - acts.mean(0)).astype(np.float32))


def split(acts: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """n training samples, the others held out, with their labels by the sign of the first coordinate."""
    return acts[:n], acts[n:], (acts[n:, 0] > 0).long().numpy()


def test_components_of_few_samples_count_as_far_as_halves_find_the_same():
    train, held, labels = split(make_acts(400, 600, 12, 0.25), 300)
    subspace = find_subspace(train, held, labels, None, most=300)
    assert 9 <= subspace.rank <= 16
    assert find_goal(subspace) == pytest.approx(0.9 * min(1, subspace.explained[-1] / 0.98))
    assert find_goal(subspace) < 0.9


def test_components_of_many_samples_count_up_to_nearly_all_variance():
    train, held, labels = split(make_acts(4000, 40, 30, 0.05), 3000)
    subspace = find_subspace(train, held, labels, None, most=40)
    assert 25 <= subspace.rank <= 31
    assert subspace.explained[-1] >= 0.99
    assert subspace.explained[-2] < 0.99
    assert find_goal(subspace) == 0.9


@pytest.mark.parametrize("n", [300, 3000])  # fewer than coordinates, and more
def test_directions_are_orthonormal_by_falling_variance(n):
    train, held, labels = split(make_acts(n + 100, 500, 20, 0.2), n)
    basis = find_subspace(train, held, labels, None, most=100).basis
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-9)
    variances = np.square(train.numpy() @ basis.T).mean(0)
    assert (np.diff(variances) <= 1e-5 * variances[0]).all()


def test_directions_that_the_head_reads_are_added_where_components_lack_them():
    """The label lies in a coordinate of so little variance that no component counts it."""
    acts = make_acts(1500, 60, 10, 0.0)
    labels = np.random.default_rng(1).integers(0, 2, len(acts))
    acts[:, 59] = torch.from_numpy(0.2 * (labels - 0.5)).float()
    head = LinearHead(np.eye(60, dtype=np.float32)[[58, 59]] * [[0.0], [1.0]], np.zeros(2, np.float32), "fc")
    without = find_subspace(acts[:1000], acts[1000:], labels[1000:], None, most=60)
    subspace = find_subspace(
        acts[:1000], acts[1000:], labels[1000:], replace(head, weight=head.weight.astype(np.float32)), most=60
    )
    assert subspace.rank == without.rank + 1
    seen = acts[1000:].numpy() @ subspace.basis.T @ subspace.basis
    assert ((seen[:, 59] > 0) == (labels[1000:] == 1)).all()


def test_no_more_components_than_can_be_trained():
    train, held, labels = split(make_acts(3000, 100, 60, 0.05), 2000)
    assert find_subspace(train, held, labels, None, most=25).rank == 25


def test_number_of_components_that_explain_a_share():
    subspace = Subspace(np.eye(4), np.array([0.5, 0.8, 0.9, 0.95]))
    assert [subspace.count(share) for share in (0.4, 0.5, 0.85, 0.99)] == [1, 1, 3, 4]


def test_latents_of_directions_left_out_do_not_exist(world):
    problem = prepare_problem(world.acts, world.labels, world.head, SaeSettings(variant="linear-l1", n_latents=8))
    assert problem.subspace is not None
    assert problem.train_acts.shape[1] == problem.subspace.rank < world.acts.shape[1]
    sae = problem.canonical(problem.train_from(None, 0.1, problem.recipe, 1), 0.1)
    outside = sae.dictionary - sae.dictionary @ problem.subspace.basis.T @ problem.subspace.basis
    assert np.abs(outside[sae.alive]).max() < 1e-5
