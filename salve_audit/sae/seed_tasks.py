"""Seeds of an autoencoder trained one by one, as tasks: on a cluster each may have a machine of its own.

Trained together or one by one they are the same (see `parameters`), since none touches anything of the others.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.sae.parameters import Parameters, select_problem
from salve_audit.sae.training import Objective, Recipe, train
from salve_audit.sae.variants import find_variant
from salve_audit.tasks import TaskMap

Arrays = dict[str, np.ndarray]  # parameters as they are sent
OwnStart = tuple[Arrays, np.ndarray]  # of one seed: parameters, state of its generator


@dataclass(frozen=True)
class SeedTraining:
    """All that tells a training from others on the same samples, in values that can be sent.

    Attributes:
        variant: its name.
        sparsity: λ or k.
        n_latents, share: see `Variant.objective`.
        recipe: how to train.
    """

    variant: str
    sparsity: float
    n_latents: int
    share: float
    recipe: Recipe

    @property
    def objective(self) -> Objective:
        """The loss."""
        return find_variant(self.variant).objective(self.sparsity, self.n_latents, self.share)


def train_seeds(
    tasks: TaskMap,
    training: SeedTraining,
    acts: Float[Tensor, "n d"],
    start: Parameters,
    generators: Sequence[torch.Generator],
) -> Parameters:
    """As `train`, each of the s problems as a task; the generators are left as they are.

    Raises:
        NothingMeasuredError: training diverged.
    """
    loads = [
        functools.partial(_load, select_problem(start, place), generator) for place, generator in enumerate(generators)
    ]
    device = acts.device.type
    done = tasks(_train_one, (training, acts.cpu().numpy(), device), loads, device)
    joined = {name: torch.from_numpy(np.concatenate([arrays[name] for arrays in done])) for name in done[0]}
    return {name: value.to(acts.device) for name, value in joined.items()}


def _load(start: Parameters, generator: torch.Generator) -> OwnStart:
    return {name: value.detach().cpu().numpy() for name, value in start.items()}, generator.get_state().numpy()


def _train_one(shared: tuple[SeedTraining, np.ndarray, str], own: OwnStart) -> Arrays:
    (training, acts, device), (start, state) = shared, own
    generator = torch.Generator(device)
    generator.set_state(torch.from_numpy(state.copy()))
    with warnings.catch_warnings():  # what was sent cannot be written to, and nothing does
        warnings.simplefilter("ignore", UserWarning)
        given = {name: torch.from_numpy(value).to(device) for name, value in start.items()}
        samples = torch.from_numpy(acts).to(device)
    trained = train(given, samples, training.objective, training.recipe, [generator])
    return {name: value.cpu().numpy() for name, value in trained.items()}
