"""The training loop: activations stay on the device, nothing is read back while it runs.

A step waits for the device only if Python asks for a value; none is asked for before the last step is queued.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.errors import NothingMeasuredError
from salve_audit.sae.parameters import BUFFERS, Parameters
from salve_audit.sae.streaming import Stream

RATE = 8e10  # multiply-adds a second, of two cores without special instructions
MOST_WORTH = 50_000  # samples, beyond which none is worth more
HEAP_BLOCK = 31 * 2**20  # bytes; glibc learns from blocks up to 32 MiB
Objective = Callable[[Parameters, Tensor], Tensor]  # (parameters, acts (s, n, d)) -> (s,)


@dataclass(frozen=True)
class Recipe:
    """Settings of one training: length, batches, rates.

    Attributes:
        epochs: passes over the samples.
        batch_size: samples per step and seed.
        learning_rate: Adam's, before the schedule.
        betas: Adam's.
        schedule: progress in [0, 1) -> factor on the learning rate.
        most_steps: training ends after so many, within its first epoch for large sets; None: whole epochs.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    betas: tuple[float, float]
    schedule: Callable[[float], float]
    most_steps: int | None = None

    def count_steps(self, n: int) -> int:
        """Optimiser steps on n samples."""
        steps = self.epochs * math.ceil(n / self.batch_size)
        return steps if self.most_steps is None else min(steps, self.most_steps)


def trapezoid(progress: float) -> float:
    """Rises over the first 2 %, stays, and falls linearly over the last 30 %: that anneals the noise of large steps."""
    return min(1.0, (progress + 0.001) / 0.02, (1 - progress) / 0.3)


def fifths(progress: float) -> float:
    """Times 0.8 after every fifth: every 200 of 1000 epochs (the paper's recipe)."""
    return 0.8 ** math.floor(5 * progress + 1e-9)


@dataclass(frozen=True)
class Effort:
    """The training that a variant needs, less where it would cost more than its share of the time.

    Time is counted as the work of a plain processor, so that every machine trains alike.

    Attributes:
        steps: of the optimiser.
        batch_size: about so many samples; small sets are one batch.
        learning_rate: Adam's.
        share: of the work that n samples are worth.
        least: steps in any case.
    """

    steps: int
    batch_size: int
    learning_rate: float
    share: float
    least: int

    def recipe(self, n: int, work: float) -> Recipe:
        """The recipe for `n` training samples, each of `work` multiply-adds a step over all seeds."""
        n_batches = max(1, round(n / self.batch_size))
        batch_size = math.ceil(n / n_batches)
        affordable = int(self.share * worth(n) / max(1.0, work * batch_size))
        steps = min(self.steps, max(self.least, affordable))
        epochs = math.ceil(steps / n_batches)
        return Recipe(epochs, batch_size, self.learning_rate, (0.9, 0.95), trapezoid, most_steps=steps)


def worth(n: int) -> float:
    """Multiply-adds that autoencoders of n samples are worth: about 9 s for a thousand, 18 s for ten thousand."""
    return RATE * (8 + 1e-3 * min(n, MOST_WORTH))


def train(
    parameters: Parameters,
    acts: Float[Tensor, "n d"] | Stream,
    objective: Objective,
    recipe: Recipe,
    generators: Sequence[torch.Generator],
) -> Parameters:
    """New parameters after training all s problems at once; the ones given are left as they are.

    Args:
        parameters: starting point, seed axis in front.
        acts: (n, d) float32 on the device, as the variant wants them (normalised or not), or a stream of such.
        objective: loss of a batch for each problem.
        recipe: how to optimise.
        generators: one per problem, on the device of `acts`; each draws its own order of samples.

    Raises:
        NothingMeasuredError: training diverged.
    """
    trained = {name: value.detach().clone().requires_grad_(name not in BUFFERS) for name, value in parameters.items()}
    leaves = [value for value in trained.values() if value.requires_grad]
    rate = recipe.learning_rate
    optimiser = torch.optim.Adam(leaves, lr=rate, betas=recipe.betas, fused=True)
    _widen_heap(acts.device)
    n_steps = recipe.count_steps(len(acts))
    for step, batch in zip(range(n_steps), draw_samples(acts, recipe, generators), strict=False):
        optimiser.param_groups[0]["lr"] = rate * recipe.schedule(step / n_steps)
        optimiser.zero_grad()
        objective(trained, batch).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    done = {name: value.detach() for name, value in trained.items()}
    if not all(bool(value.isfinite().all()) for value in done.values()):
        raise NothingMeasuredError(
            "autoencoder", "its training diverged", hint="try a smaller learning rate or sparsity"
        )
    return done


def _widen_heap(device: torch.device) -> None:
    """Lets the C library keep what a step frees: glibc gives memory back to the system, and has it cleared page by page
    at the next step, unless a block as large as this one was freed before (a fourth of a step's time).
    """
    if device.type == "cpu":
        torch.empty(HEAP_BLOCK, dtype=torch.uint8)


def draw_samples(
    acts: Float[Tensor, "n d"] | Stream, recipe: Recipe, generators: Sequence[torch.Generator]
) -> Iterator[Float[Tensor, "s b d"]]:
    """The samples of every step."""
    if isinstance(acts, Stream):
        yield from acts.draw(recipe.batch_size, generators)
        return
    for rows in draw_batches(len(acts), recipe, generators):
        yield acts.index_select(0, rows.flatten()).view(*rows.shape, -1)


def draw_batches(n: int, recipe: Recipe, generators: Sequence[torch.Generator]) -> Iterator[Int[Tensor, "s b"]]:
    """Row numbers of every step: each problem goes through its own permutation of the samples, epoch after epoch."""
    for _ in range(recipe.epochs):
        order = torch.stack([torch.randperm(n, device=g.device, generator=g) for g in generators])
        yield from torch.split(order, recipe.batch_size, dim=1)
