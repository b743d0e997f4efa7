"""Lists of the codes kept and products in bfloat16: the same training, faster."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from salve_audit.sae import batchtopk, listed, products, topk
from salve_audit.sae.code_list import CodeList, join_lists, list_largest, list_largest_of_batch, pays_to_list
from salve_audit.sae.losses import mean_square
from salve_audit.sae.parameters import BUFFERS, unit_rows
from salve_audit.sae.products import is_rounded, multiplies_bfloat16, multiply
from salve_audit.sae.training import Recipe, train, trapezoid
from salve_audit.sae.variants import VARIANTS, find_variant

COUNTED = ["topk", "signed-topk", "batchtopk", "matryoshka"]


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loss_of(name: str):
    return topk.signed_topk_loss if name == "signed-topk" else VARIANTS[name].loss


def gradients(name: str, start: dict[str, torch.Tensor], acts: torch.Tensor, k: int) -> tuple[dict, torch.Tensor]:
    """(gradients and buffers after one step, loss)."""
    leaves = {key: value.clone().requires_grad_(key not in BUFFERS) for key, value in start.items()}
    loss = loss_of(name)(leaves, acts, k)
    (loss * torch.tensor([1.0, 3.0])).sum().backward()
    return {key: value if value.grad is None else value.grad for key, value in leaves.items()}, loss.detach()


@pytest.mark.parametrize("n_silent", [0, 3, 20])
@pytest.mark.parametrize("name", COUNTED)
def test_lists_give_the_loss_gradients_and_buffers_of_dense_products(name, n_silent, monkeypatch):
    acts = draw(2, 60, 48)
    start = VARIANTS["topk" if name == "signed-topk" else name].initialise(acts[0], 64, generators(0, 1))
    start["dictionary"] = start["dictionary"] * torch.linspace(0.2, 3, 64)[:, None]
    start["silent"][0, :n_silent] = 3
    start["silent"][1, 40 : 40 + n_silent // 2] = 3
    monkeypatch.setattr(listed, "AUX_PART", 1)
    runs = []
    for lists in (True, False):
        for module in (topk, batchtopk):
            monkeypatch.setattr(module, "pays_to_list", lambda *_, lists=lists: lists)
        runs.append(gradients(name, start, acts, 7))
    torch.testing.assert_close(runs[0][1], runs[1][1])
    for key, value in runs[1][0].items():
        torch.testing.assert_close(runs[0][0][key], value, rtol=1e-4, atol=1e-7, msg=key)


def test_the_auxiliary_loss_of_a_part_is_that_of_the_part(monkeypatch):
    acts = draw(2, 60, 48)
    start = VARIANTS["topk"].initialise(acts[0], 64, generators(0, 1))
    start["silent"][:, :9] = 3
    losses = []
    for lists in (True, False):
        monkeypatch.setattr(topk, "pays_to_list", lambda *_, lists=lists: lists)
        losses.append(topk.topk_loss({k: v.clone() for k, v in start.items()}, acts, 7))
    unit, pre = unit_rows(start), torch.bmm(acts, start["encoder_weight"].mT)
    dense = topk.keep_largest(pre, 7, signed=False)
    error = acts - torch.bmm(dense, unit["dictionary"])
    whole, part = (topk.auxiliary_loss(unit, pre[:, :n], error[:, :n]) for n in (60, 15))
    torch.testing.assert_close(losses[0] - losses[1], (part - whole) / 32, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("m", [5, 64, 700])
def test_the_largest_are_listed_whatever_their_sign(m):
    rank = draw(2, 9, m)
    listed = list_largest(rank, 4)
    assert (listed.n_rows, listed.n_latents) == (18, 2 * m)
    assert listed.row.tolist() == sorted(listed.row.tolist())
    for row in range(18):
        seed = row // 9
        latents = listed.latent[listed.row == row] - seed * m
        assert set(latents.tolist()) == set(rank[seed, row % 9].topk(4).indices.tolist())


def test_equal_ranks_are_listed_once():
    listed = list_largest(torch.zeros(1, 3, 10), 4)
    assert all(len(set(listed.latent[listed.row == row].tolist())) == 4 for row in range(3))


def test_the_largest_of_a_batch_are_listed():
    rank = draw(2, 20, 30)
    listed = list_largest_of_batch(rank, 3)
    dense = batchtopk.keep_largest_of_batch(rank, 3)
    place = {
        (row // 20, row % 20, latent - row // 20 * 30) for row, latent in zip(listed.row, listed.latent, strict=True)
    }
    assert {tuple(int(x) for x in index) for index in place} == {tuple(index) for index in dense.nonzero().tolist()}
    assert len(list_largest_of_batch(-rank.abs(), 3).row) == 0


def test_lists_are_joined_and_sorted_by_latent():
    first = CodeList(torch.tensor([0, 1, 1]), torch.tensor([2, 0, 3]), 2, 4)
    both = join_lists(first, CodeList(torch.tensor([0, 2]), torch.tensor([2, 1]), 3, 4))
    assert both.row.tolist() == [0, 1, 1, 2, 4]
    assert both.start.tolist() == [0, 1, 3, 4, 4]
    order, start = both.by_latent
    assert both.latent[order].tolist() == [0, 1, 2, 2, 3]
    assert start.tolist() == [0, 1, 2, 4]


def test_only_large_problems_on_a_processor_are_listed():
    assert pays_to_list(torch.zeros(1, 512, 512), 256, 8)
    assert not pays_to_list(torch.zeros(1, 512, 512), 256, 100)
    assert not pays_to_list(torch.zeros(1, 64, 24), 16, 3)
    assert not pays_to_list(torch.zeros(1, 512, 512, dtype=torch.float64), 256, 8)


@pytest.fixture
def rounding(monkeypatch):
    """As if this processor had the instructions; the products are slow where it has not, and the same."""
    monkeypatch.setattr(products, "multiplies_bfloat16", lambda: True)


def test_rounded_products_are_off_by_half_a_percent_at_most(rounding):
    left, right = draw(2, 64, 256).requires_grad_(), draw(2, 256, 300, seed=1).requires_grad_()
    assert is_rounded(left, right)
    upstream = draw(2, 64, 300, seed=2)
    multiply(left, right).backward(upstream)
    for computed, exact in (
        (multiply(left, right), left @ right),
        (left.grad, upstream @ right.mT),
        (right.grad, left.mT @ upstream),
    ):
        assert computed.dtype == torch.float32
        off = (computed - exact).norm() / exact.norm()
        assert 0 < off < 5e-3


def test_small_or_precise_products_are_exact(rounding):
    assert not is_rounded(torch.zeros(5, 128, 24), torch.zeros(5, 24, 16))
    assert not is_rounded(torch.zeros(1, 512, 512).double(), torch.zeros(1, 512, 512).double())
    assert is_rounded(torch.zeros(1, 128, 512), torch.zeros(1, 512, 64))


def test_without_the_instructions_nothing_is_rounded(monkeypatch):
    monkeypatch.setattr(products, "multiplies_bfloat16", lambda: False)
    assert not is_rounded(torch.zeros(1, 512, 512), torch.zeros(1, 512, 512))
    assert isinstance(multiplies_bfloat16(), bool)


def compute_gradients(parameters, batch, objective):
    """Gradients of what is trained, at these parameters, which stay as they are; buffers count on copies."""
    leaves = {key: value.clone().requires_grad_(key not in BUFFERS) for key, value in parameters.items()}
    objective(leaves, batch).sum().backward()
    return {key: value.grad for key, value in leaves.items() if value.grad is not None}


@pytest.mark.parametrize("name", ["linear-l1", "relu-l1", "topk", "batchtopk", "matryoshka", "gated", "jumprelu"])
def test_rounded_training_is_as_good_and_seeds_together_are_seeds_apart(name, monkeypatch):
    """At a size where everything is rounded and listed: the error is within 1 % of the exact training's."""
    codes = draw(2000, 20, seed=3).relu() * (torch.rand(2000, 20, generator=generators(4)[0]) < 0.2)
    acts = codes @ draw(20, 64, seed=5) + 0.1 * draw(2000, 64, seed=6)
    acts = (acts - acts.mean(0)) / acts.std()
    variant, sparsity = find_variant(name), 6 if VARIANTS[name].counted else 0.05
    objective = variant.objective(sparsity, 64)
    recipe = Recipe(6, 512, 5e-3, (0.9, 0.95), trapezoid)
    errors = {}
    for rounded in (True, False):
        monkeypatch.setattr(products, "multiplies_bfloat16", lambda rounded=rounded: rounded)
        start = variant.initialise(acts, 64, generators(0, 1, 2))
        assert is_rounded(acts[None, :512], start["encoder_weight"].mT) is rounded
        together = train(start, acts, objective, recipe, generators(0, 1, 2))
        errors[rounded] = float(objective({k: v.clone() for k, v in together.items()}, acts.expand(3, -1, -1)).sum())
        batch = acts[torch.stack([torch.randperm(2000, generator=g)[:512] for g in generators(0, 1, 2)])]
        among, alone, strange = (
            compute_gradients({k: v[problems] for k, v in together.items()}, own, objective)
            for problems, own in ((slice(None), batch), (slice(2, 3), batch[2:]), (slice(2, 3), batch[:1]))
        )
        for key, gradient in alone.items():
            # Summed up in another order, a value of bfloat16 is off by 2⁻⁸ at most, in a few products one after the
            # other. Trainings are not compared, as they drift apart, nor the start, where the encoder's gradient all
            # but cancels.
            assert (among[key][2:] - gradient).norm() < 2**-6 * gradient.norm(), key
            assert (strange[key] - gradient).norm() > 2**-3 * gradient.norm(), key  # other samples of the same
    assert errors[True] == pytest.approx(errors[False], rel=0.01)


def test_unit_rows_have_the_gradient_of_normalize():
    rows = {"dictionary": draw(2, 5, 7).double().requires_grad_()}
    upstream = draw(2, 5, 7, seed=1).double()
    unit_rows(rows)["dictionary"].backward(upstream)
    plain = rows["dictionary"].detach().clone().requires_grad_()
    torch.nn.functional.normalize(plain, dim=-1).backward(upstream)
    torch.testing.assert_close(rows["dictionary"].grad, plain.grad)


def test_mean_square_is_the_mean_of_squares():
    error = draw(3, 4, 5, 6).double().requires_grad_()
    mean_squares = mean_square(error)
    torch.testing.assert_close(mean_squares, error.square().mean((1, 2, 3)))
    (mean_squares * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    expected = torch.autograd.grad((error.square().mean((1, 2, 3)) * torch.tensor([1.0, 2, 3])).sum(), error)[0]
    torch.testing.assert_close(error.grad, expected)
    assert np.isfinite(error.grad.numpy()).all()
