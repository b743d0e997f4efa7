"""One training problem: its samples, the held-out part that judges, and how parameters become an autoencoder."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.canonical import canonical_arrays
from salve_audit.sae.consolidation import consolidate
from salve_audit.sae.metrics import Quality, measure_quality
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.normalisation import (
    Normalisation,
    fit_normalisation,
    identity_normalisation,
    read_rows,
    refuse_non_finite,
)
from salve_audit.sae.parameters import Parameters, select_problem
from salve_audit.sae.settings import SaeSettings, default_latents
from salve_audit.sae.streaming import Stream, fits_memory
from salve_audit.sae.supervised import ConceptBlock, check_room, split_off_concepts
from salve_audit.sae.supervised_concepts import Concepts, class_concepts
from salve_audit.sae.training import Recipe, train
from salve_audit.sae.tuning import Ladder, SparsityPoint, count_ladder, penalty_ladder, split_validation
from salve_audit.sae.variant_names import SUPERVISED
from salve_audit.sae.variants import Variant, find_variant

logger = logging.getLogger(__name__)

HELD_OUT, MOST_HELD_OUT = 0.15, 20_000  # share of the samples, and how many at most: 0.3 % of accuracy are seen then
BRIEF_STRETCHES = 2  # before the full training: each leaves fewer latents, which makes the next one faster


@dataclass(frozen=True, eq=False)
class Problem:
    """The part of a training that all points of the sparsity path and all seeds share.

    Attributes:
        variant: the kind of autoencoder.
        n_latents: m.
        n_seeds: how many are trained side by side at the end.
        seed: of the first of them.
        recipe, brief_recipe: how to train in full, and before that or for a point of the path.
        normalisation: of the training samples; the identity for variants that train on raw activations.
        train_acts: (t, d) as the variant sees them, on the device: all training samples, or a part of the stream.
        validation: held-out activations (v, d) in the model's units, and their labels (v,).
        head: the verified head.
        trims: latents that merging leaves over are dropped at the end: m was not asked for.
        block: known concepts in front of what is trained; the m latents are these and the trained ones.
    """

    variant: Variant
    n_latents: int
    n_seeds: int
    seed: int
    recipe: Recipe
    brief_recipe: Recipe | None
    normalisation: Normalisation
    train_acts: Float[Tensor, "t d"]
    validation: tuple[Float[np.ndarray, "v d"], Int[np.ndarray, " v"]]
    head: LinearHead
    trims: bool = False
    block: ConceptBlock | None = None
    stream: Stream | None = None

    @property
    def samples(self) -> Tensor | Stream:
        """The training samples: in memory, or streamed."""
        return self.train_acts if self.stream is None else self.stream

    @property
    def n_trained(self) -> int:
        """Latents that training finds: all but the known concepts."""
        return self.n_latents - (len(self.block.names) if self.block else 0)

    @property
    def ladder(self) -> Ladder:
        """The values of λ or k to choose from."""
        return count_ladder(self.n_trained) if self.variant.counted else penalty_ladder(self.n_trained, self.head.d)

    def train_from(self, start: Parameters | None, sparsity: float, recipe: Recipe, n_seeds: int) -> Parameters:
        """Trains `n_seeds` autoencoders at once, from `start` or from scratch, and consolidates them."""
        device = self.train_acts.device
        generators = [torch.Generator(device).manual_seed(self.seed + i) for i in range(n_seeds)]
        if start is None:
            start = self.variant.initialise(self.train_acts, self.n_trained, generators)
        parameters = train(start, self.samples, self.variant.objective(sparsity, self.n_trained), recipe, generators)
        return consolidate(parameters, self.train_acts) if self.variant.merges_duplicates else parameters

    def visit(self, sparsity: float, start: Parameters | None) -> SparsityPoint:
        """One point of the sparsity path: a single autoencoder, trained briefly."""
        assert self.brief_recipe is not None, f"{self.variant.name} has no path"
        return self._measured(sparsity, self.train_from(start, sparsity, self.brief_recipe, 1))

    def visit_seeds(self, sparsity: float, start: Parameters | None) -> SparsityPoint:
        """Train all seeds: in full from scratch, or briefly from where they are."""
        brief = [self.brief_recipe] if self.brief_recipe is not None else []
        before = BRIEF_STRETCHES * brief if self.variant.merges_duplicates else []
        stretches = [*before, self.recipe] if start is None else brief
        parameters = start
        for recipe in stretches:
            parameters = self.train_from(parameters, sparsity, recipe, self.n_seeds)
        assert parameters is not None, f"{self.variant.name} is not trained step by step"
        return self._measured(sparsity, parameters)

    def _measured(self, sparsity: float, parameters: Parameters) -> SparsityPoint:
        """The first autoencoder of the batch speaks for all."""
        quality = self.measure(self.canonical(parameters, sparsity))
        accuracy = 100 * quality.accuracy_kept
        name = "k" if self.variant.counted else "λ"
        logger.info(
            "%s %.4g: R² %.3f, L0 %.0f, %.1f %% of accuracy kept", name, sparsity, quality.r2, quality.l0, accuracy
        )
        return SparsityPoint(sparsity, parameters, quality)

    def canonical(self, parameters: Parameters, sparsity: float, index: int = 0) -> TrainedSae:
        """Autoencoder `index` of the batch in canonical form."""
        folded, activation = self.variant.fold(select_problem(parameters, index), sparsity)
        arrays = canonical_arrays(folded, self.train_acts, self.normalisation, self.n_trained, activation)
        activation = dataclasses.replace(activation, threshold=arrays.pop("threshold", None))
        recipe = {name: getattr(self.recipe, name) for name in ("epochs", "batch_size", "learning_rate")}
        described: dict[str, object] = {"sparsity": sparsity, "seed": self.seed + index, **recipe}
        described["n_train"] = len(self.samples)
        if self.block is not None:
            arrays = self.block.join(arrays)
            described["concepts"] = list(self.block.names)
        return TrainedSae(variant=self.variant.name, hyperparameters=described, activation=activation, **arrays)

    def measure(self, sae: TrainedSae) -> Quality:
        """Metrics on the held-out part."""
        return measure_quality(sae, *self.validation, self.head)


def prepare_problem(
    acts: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    head: LinearHead,
    settings: SaeSettings,
    concepts: Concepts | None = None,
) -> Problem:
    """Checks, holds out, normalises and copies the training samples to the device.

    `concepts` are for ``supervised``, which takes the classes where none are given; other variants know none.

    Raises:
        DataError: NaN or infinite values, no variance, or too few samples to hold any out.
        UsageError: no such variant, or no latent left beside the concepts.
    """
    assert acts.shape[1:] == (head.d,), f"expected (n, {head.d}) activations, got {acts.shape}"
    assert labels.shape == (len(acts),), f"expected ({len(acts)},) labels, got {labels.shape}"
    variant = find_variant(settings.variant)
    refuse_non_finite(acts)
    rows, held = _hold_out(labels, settings.seed)
    stream = Stream(acts, rows, _normalise(acts, rows, variant), torch.device(settings.device))
    in_memory = fits_memory(len(rows), head.d, settings.memory_limit)
    if not in_memory:
        rows = rows[stream.sample(torch.Generator().manual_seed(settings.seed))]
    problem = Problem(
        variant=variant,
        n_latents=settings.n_latents or default_latents(head.d, head.n_classes),
        n_seeds=settings.n_seeds or variant.n_seeds,
        seed=settings.seed,
        recipe=_adjusted(variant.recipe(len(stream)), settings),
        brief_recipe=variant.brief_recipe(len(stream)) if variant.brief_recipe else None,
        normalisation=stream.normalisation,
        train_acts=stream.read(rows),
        validation=(read_rows(acts, held), labels[held]),
        head=head,
        trims=variant.merges_duplicates and settings.n_latents is None,
    )
    if variant.name != SUPERVISED:  # concepts are solved for, not trained: a sample has to do
        return problem if in_memory else dataclasses.replace(problem, stream=stream)
    return _with_concepts(problem, (concepts or class_concepts(labels)).at(rows), settings)


def _hold_out(labels: Int[np.ndarray, " n"], seed: int) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " v"]]:
    """Rows to train on and rows of the validation part, stratified by class."""
    share = min(HELD_OUT, MOST_HELD_OUT / len(labels))
    return split_validation(labels, share, np.random.default_rng(seed))


def _normalise(acts: Float[np.ndarray, "n d"], rows: Int[np.ndarray, " t"], variant: Variant) -> Normalisation:
    """The moments of the training rows; the identity for variants that train on raw activations."""
    normalisation = fit_normalisation(acts, rows)  # whatever the variant: constant activations are refused here
    return normalisation if variant.normalised else identity_normalisation(acts.shape[1])


def _with_concepts(problem: Problem, concepts: Concepts, settings: SaeSettings) -> Problem:
    """The problem of what the concepts of its training samples leave over."""
    n_latents = settings.n_latents or default_latents(problem.head.d, max(problem.head.n_classes, len(concepts.names)))
    check_room(n_latents, concepts.names)
    block, rest = split_off_concepts(problem.train_acts, concepts, problem.normalisation)
    return dataclasses.replace(problem, n_latents=n_latents, normalisation=block.leftover, train_acts=rest, block=block)


def change_variant(problem: Problem, name: str) -> Problem:
    """The problem on its samples for another variant, also normalised, with that one's recipe."""
    variant, n = find_variant(name), len(problem.samples)
    assert variant.normalised, f"{name} trains on other numbers"
    assert problem.variant.normalised, f"{problem.variant.name} trains on other numbers"
    brief = variant.brief_recipe(n) if variant.brief_recipe else None
    trims = problem.trims and variant.merges_duplicates
    return dataclasses.replace(problem, variant=variant, recipe=variant.recipe(n), brief_recipe=brief, trims=trims)


def _adjusted(recipe: Recipe, settings: SaeSettings) -> Recipe:
    given = {name: getattr(settings, name) for name in ("epochs", "batch_size", "learning_rate")}
    given = {name: value for name, value in given.items() if value is not None}
    most_steps = None if "epochs" in given else recipe.most_steps
    wide = None if "learning_rate" in given else recipe.wide
    return dataclasses.replace(recipe, most_steps=most_steps, wide=wide, **given)
