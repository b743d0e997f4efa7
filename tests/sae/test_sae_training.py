"""Losses, schedules, batches and the loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from salve_audit.errors import NothingMeasuredError
from salve_audit.sae.losses import canonical_l1_loss, raw_l1_loss
from salve_audit.sae.parameters import decode, encode_linear, multiply_batch, rotation_parameters, xavier_parameters
from salve_audit.sae.training import Effort, Recipe, draw_batches, fifths, train, trapezoid, worth
from salve_audit.sae.variants import VARIANTS


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def constant(progress: float) -> float:
    return 1.0


def make_parameters(dtype: torch.dtype = torch.float32) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Two autoencoders of 4 latents on 3 coordinates, the last latent of the second all zeros; 5 samples each."""
    g = torch.Generator().manual_seed(0)
    shapes = {"encoder_weight": (2, 4, 3), "encoder_bias": (2, 4), "dictionary": (2, 4, 3), "decoder_bias": (2, 3)}
    parameters = {name: torch.randn(*shape, generator=g, dtype=dtype) for name, shape in shapes.items()}
    for name in ("encoder_weight", "encoder_bias", "dictionary"):
        parameters[name][1, 3] = 0
    return parameters, torch.randn(2, 5, 3, generator=g, dtype=dtype)


@pytest.mark.parametrize(("loss", "canonical"), [(raw_l1_loss, False), (canonical_l1_loss, True)])
def test_losses_against_loops(loss, canonical):
    parameters, acts = make_parameters()
    own = {name: value.numpy().astype(np.float64) for name, value in parameters.items()}
    for s, value in enumerate(loss(parameters, acts, 0.3)):
        error, penalty = 0.0, 0.0
        for a in acts[s].numpy().astype(np.float64):
            codes = [own["encoder_weight"][s, i] @ a + own["encoder_bias"][s, i] for i in range(4)]
            recon = sum(codes[i] * own["dictionary"][s, i] for i in range(4)) + own["decoder_bias"][s]
            error += sum((recon[j] - a[j]) ** 2 for j in range(3)) / 15
            norms = [math.hypot(*own["dictionary"][s, i]) if canonical else 1 for i in range(4)]
            penalty += sum(abs(codes[i]) * norms[i] for i in range(4)) / 5
        assert value.item() == pytest.approx(error + 0.3 * penalty, rel=1e-5)


def test_written_out_gradient_is_the_gradient():
    """Against autograd on the plain composition, in float64, for unequal weights of the two seeds."""
    parameters, acts = make_parameters(torch.float64)
    gradients = []
    for fused in (True, False):
        leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        if fused:
            loss = canonical_l1_loss(leaves, acts, 0.3)
        else:
            codes = encode_linear(leaves, acts)
            scaled = codes.abs().mean(1) * leaves["dictionary"].norm(dim=-1)
            loss = (decode(leaves, codes) - acts).square().mean((1, 2)) + 0.3 * scaled.sum(-1)
        (loss * torch.tensor([1.0, 3.0])).sum().backward()
        gradients.append({name: value.grad for name, value in leaves.items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-10, atol=1e-12)
    assert gradients[0]["encoder_weight"][1, 3].eq(0).all()
    assert gradients[0]["dictionary"][1, 3].eq(0).all()


def test_rescaling_cheats_the_raw_loss_but_not_the_canonical_one():
    """docs/method.md §1, scale degeneracy: z -> tz, D -> D/t."""
    parameters, acts = make_parameters()
    t = 0.01
    scaled = {
        "encoder_weight": t * parameters["encoder_weight"],
        "encoder_bias": t * parameters["encoder_bias"],
        "dictionary": parameters["dictionary"] / t,
        "decoder_bias": parameters["decoder_bias"],
    }
    torch.testing.assert_close(canonical_l1_loss(scaled, acts, 0.3), canonical_l1_loss(parameters, acts, 0.3))
    error = raw_l1_loss(parameters, acts, 0.0)
    penalty = raw_l1_loss(parameters, acts, 0.3) - error
    torch.testing.assert_close(raw_l1_loss(scaled, acts, 0.3), error + t * penalty, rtol=1e-4, atol=1e-4)


def test_paper_schedule_falls_every_200_of_1000_epochs():
    n_steps = 1000 * 266
    factors = [fifths(epoch * 266 / n_steps) for epoch in (0, 199, 200, 399, 400, 600, 800, 999)]
    assert factors == pytest.approx([1, 1, 0.8, 0.8, 0.64, 0.512, 0.4096, 0.4096])


def test_trapezoid_warms_up_and_anneals():
    values = [trapezoid(step / 1000) for step in range(1000)]
    assert 0 < values[0] < 0.1
    assert values[100:700] == [1.0] * 600
    assert values[700:] == sorted(values[700:], reverse=True)
    assert values[-1] < 0.01


def test_paper_recipe_is_the_papers():
    recipe = VARIANTS["paper"].recipe(8500, 1.0)
    assert (recipe.epochs, recipe.batch_size, recipe.schedule) == (1000, 32, fifths)
    assert not VARIANTS["paper"].normalised


@pytest.mark.parametrize("variant", ["linear-l1", "paper", "relu-l1"])
def test_objective_weighs_the_mean_over_the_latents_asked_for(variant):
    parameters, acts = make_parameters()
    loss = VARIANTS[variant].loss(parameters, acts, 0.3 / 7)
    torch.testing.assert_close(VARIANTS[variant].objective(0.3, 7)(parameters, acts), loss)


@pytest.mark.parametrize(("n", "batch_size"), [(10, 10), (700, 700), (800, 400), (8500, 500), (1_300_000, 513)])
def test_default_recipe_takes_few_large_batches_and_small_sets_whole(n, batch_size):
    recipe = VARIANTS["linear-l1"].recipe(n, 1.0)
    assert recipe.batch_size == batch_size
    assert recipe.count_steps(n) == 400


def test_training_does_not_cost_more_than_its_samples_are_worth():
    effort, work = Effort(400, 500, 1e-2, share=0.25, least=30), 5.0 * 1000 * 1000
    costs = [effort.recipe(n, work).count_steps(n) * 500 * work / worth(n) for n in (10_000, 50_000)]
    assert max(costs) <= 0.25
    assert min(costs) > 0.2
    assert effort.recipe(10_000, 100 * work).count_steps(10_000) == 30
    assert worth(10_000_000) == worth(50_000)


@pytest.mark.parametrize("n", [7, 8, 9])
def test_every_epoch_visits_each_sample_once_in_an_order_of_the_seeds_own(n):
    recipe = Recipe(epochs=3, batch_size=4, learning_rate=0.1, betas=(0.9, 0.9), schedule=constant)
    batches = list(draw_batches(n, recipe, generators(0, 1)))
    per_epoch = math.ceil(n / 4)
    assert len(batches) == 3 * per_epoch
    epochs = [torch.cat(batches[e * per_epoch : (e + 1) * per_epoch], dim=1) for e in range(3)]
    for epoch in epochs:
        assert epoch.sort(dim=1).values.tolist() == [list(range(n))] * 2
        assert epoch[0].tolist() != epoch[1].tolist()
    assert epochs[0].tolist() != epochs[1].tolist()


def quadratic(parameters, acts):
    return (acts - parameters["decoder_bias"][:, None]).square().mean((1, 2))


def test_training_finds_the_minimum_and_leaves_the_start_alone():
    acts = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) + 2
    start = {"decoder_bias": torch.zeros(2, 3)}
    recipe = Recipe(epochs=300, batch_size=10, learning_rate=0.02, betas=(0.9, 0.99), schedule=trapezoid)
    trained = train(start, acts, quadratic, recipe, generators(0, 1))
    torch.testing.assert_close(trained["decoder_bias"], acts.mean(0).expand(2, 3), atol=0.02, rtol=0)
    assert start["decoder_bias"].eq(0).all()
    assert not trained["decoder_bias"].requires_grad


def test_divergence_is_reported():
    def undefined(parameters, acts):
        return parameters["decoder_bias"].log().sum(1)

    recipe = Recipe(epochs=1, batch_size=2, learning_rate=1.0, betas=(0.9, 0.99), schedule=constant)
    with pytest.raises(NothingMeasuredError, match=r"^autoencoder: its training diverged$"):
        train({"decoder_bias": torch.full((1, 2), -1.0)}, torch.ones(4, 2), undefined, recipe, generators(0))


class CountReads(TorchDispatchMode):
    """Counts what makes Python wait for a device: values read back from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_no_value_is_read_back_per_step(variant):
    acts = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    start = VARIANTS[variant].initialise(acts, 4, generators(0, 1))
    sparsity = 2 if VARIANTS[variant].counted else 0.1
    counts = []
    for epochs in (1, 10):
        recipe = Recipe(epochs, batch_size=8, learning_rate=1e-3, betas=(0.9, 0.99), schedule=trapezoid)
        with CountReads() as reads:
            train(start, acts, VARIANTS[variant].objective(sparsity, 4), recipe, generators(0, 1))
        counts.append(reads.n)
    assert counts[0] == counts[1] <= len(start)  # one check of every parameter at the end


def test_rotation_start_reconstructs_as_principal_components_do():
    g = torch.Generator().manual_seed(0)
    acts = torch.randn(200, 10, generator=g) * torch.linspace(3, 0.1, 10)
    acts -= acts.mean(0)
    acts = acts @ torch.linalg.svd(acts, full_matrices=False).Vh.T  # principal coordinates
    for n_latents in (1, 4, 10, 25):
        start = rotation_parameters(acts, n_latents, generators(5))
        recon = acts @ start["encoder_weight"][0].T @ start["dictionary"][0]
        lost = torch.linalg.svdvals(acts).square()[n_latents:].sum()
        torch.testing.assert_close((recon - acts).square().sum(), lost, rtol=1e-3, atol=1e-4)


def test_xavier_start_has_the_papers_bound():
    start = xavier_parameters(torch.zeros(1, 50), 30, generators(0, 1))
    bound = math.sqrt(6 / 80)
    for name in ("encoder_weight", "dictionary"):
        assert 0.97 * bound < start[name].abs().max() <= bound
    assert start["encoder_bias"].eq(0).all()
    assert not torch.equal(start["encoder_weight"], start["dictionary"])


@pytest.mark.parametrize(("n", "inner", "m"), [(128, 24, 1), (128, 1, 24), (1, 24, 16), (128, 24, 16)])
def test_a_problem_is_multiplied_alone_as_among_others(n: int, inner: int, m: int) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right, upstream = (torch.randn(3, *shape, generator=generator) for shape in ((n, inner), (inner, m), (n, m)))

    def results(problems: slice) -> list[torch.Tensor]:
        factors = left[problems].clone().requires_grad_(), right[problems].clone().requires_grad_()
        product = multiply_batch(*factors, added=upstream[problems], alpha=-1)
        product.backward(upstream[problems])
        assert factors[0].grad is not None
        assert factors[1].grad is not None
        return [product.detach(), factors[0].grad, factors[1].grad]

    for among, alone in zip(results(slice(None)), results(slice(2, 3)), strict=True):
        if 1 in (n, inner, m):  # bit for bit: the same kind of product; else a library may choose another kernel
            assert torch.equal(among[2:], alone)
        scale = np.finfo(np.float32).eps * max(n, inner, m) * float(left.abs().max() * right.abs().max())
        torch.testing.assert_close(among[2:], alone, rtol=0, atol=scale)
