"""One training problem: its samples, the held-out part that judges, and how parameters become an autoencoder."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.canonical import canonical_arrays
from salve_audit.sae.clock import Clock
from salve_audit.sae.consolidation import consolidate
from salve_audit.sae.kept import TrainingStore, recall_or_train
from salve_audit.sae.metrics import LEAST_R2, Quality, measure_quality
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.normalisation import (
    Normalisation,
    fit_normalisation,
    identity_normalisation,
    normalise,
    read_rows,
    refuse_non_finite,
    scaled_head,
)
from salve_audit.sae.parameters import Parameters, select_problem
from salve_audit.sae.seed_tasks import SeedTraining, train_seeds
from salve_audit.sae.settings import SaeSettings, default_latents, spanning_latents
from salve_audit.sae.streaming import Stream, fits_memory
from salve_audit.sae.subspace import Subspace, find_goal, find_subspace
from salve_audit.sae.supervised import ConceptBlock, check_room, split_off_concepts
from salve_audit.sae.supervised_concepts import Concepts, class_concepts
from salve_audit.sae.training import Recipe, train, worth
from salve_audit.sae.tuning import MAX_NUDGES, Ladder, SparsityPoint, count_ladder, penalty_ladder, split_validation
from salve_audit.sae.variant_names import SUPERVISED
from salve_audit.sae.variants import Variant, find_variant
from salve_audit.tasks import TaskMap

logger = logging.getLogger(__name__)

HELD_OUT, MOST_HELD_OUT = 0.15, 20_000  # share of the samples, and how many at most: 0.3 % of accuracy are seen then
PRODUCTS = 5  # of size (m, r) that a sample takes part in: two forwards, three backwards
FEWEST_STEPS = 10
MOST_JUDGED = 2000  # held-out samples that judge a point on the way
WORTH_OF_COMPONENT = 1.7e7  # multiply-adds for each pair of component and latent, to train five seeds well
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
        train_acts: (t, r) as the variant sees them, on the device: all training samples, or a part of the stream.
        validation: held-out activations (v, d) in the model's units, and their labels (v,).
        head: the verified head.
        trims: latents that merging leaves over are dropped at the end: m was not asked for.
        block: known concepts in front of what is trained; the m latents are these and the trained ones.
        stream: the training samples where they do not fit into memory.
        subspace: whose coordinates `train_acts` are; None: they are the activations' own.
        share: r / d, which makes λ that of the mean square error over all d coordinates.
        components: leading components that stand for the activations (see `narrow`); None: quality is that of all.
        least_r2: the goal for R² (see `find_goal`).
        most_nudges: points beside the best one of the path that are tried in full.
        clock: the time left.
        kept: trainings of an ended search; None: none are kept.
        tasks: trains seeds one by one; None: they are trained as one.
    """

    variant: Variant
    n_latents: int
    n_seeds: int
    seed: int
    recipe: Recipe
    brief_recipe: Recipe | None
    normalisation: Normalisation
    train_acts: Float[Tensor, "t r"]
    validation: tuple[Float[np.ndarray, "v d"], Int[np.ndarray, " v"]]
    head: LinearHead
    trims: bool = False
    block: ConceptBlock | None = None
    stream: Stream | None = None
    subspace: Subspace | None = None
    share: float = 1.0
    components: int | None = None
    least_r2: float = LEAST_R2
    most_nudges: int = MAX_NUDGES
    clock: Clock = field(default_factory=Clock)
    kept: TrainingStore | None = None
    tasks: TaskMap | None = None

    @property
    def samples(self) -> Tensor | Stream:
        """The training samples: in memory, or streamed."""
        return self.train_acts if self.stream is None else self.stream

    @property
    def is_judged_by_classes(self) -> bool:
        """False for activations alone, whose stand-in for a head has a single output: R² decides."""
        return self.head.n_classes > 1

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
        recipe = self._shortened(recipe, n_seeds)
        described: list[object] = [
            self.variant.name,
            self.n_trained,
            self.seed,
            n_seeds,
            sparsity,
            self.components,
            self.share,
        ]
        described += [len(self.samples), *self.train_acts.shape, recipe.epochs, recipe.batch_size]
        described += [recipe.learning_rate, recipe.most_steps]

        def work() -> Parameters:
            return self._train_from(start, sparsity, recipe, n_seeds)

        return recall_or_train(self.kept, described, start, self.train_acts.device, work)

    def _train_from(self, start: Parameters | None, sparsity: float, recipe: Recipe, n_seeds: int) -> Parameters:
        device, began = self.train_acts.device, time.perf_counter()
        generators = [torch.Generator(device).manual_seed(self.seed + i) for i in range(n_seeds)]
        if start is None:
            start = self.variant.initialise(self.train_acts, self.n_trained, generators)
        lone = SeedTraining(self.variant.name, sparsity, self.n_trained, self.share, recipe)
        if self.tasks is None or n_seeds == 1 or self.stream is not None:
            parameters = train(start, self.samples, lone.objective, recipe, generators)
        else:
            parameters = train_seeds(self.tasks, lone, self.train_acts, start, generators)
        self.clock.note(self.count_work(recipe, n_seeds), time.perf_counter() - began)
        return consolidate(parameters, self.train_acts) if self.variant.merges_duplicates else parameters

    def count_work(self, recipe: Recipe, n_seeds: int) -> float:
        """Multiply-adds of a training."""
        n = len(self.samples)
        per_sample = PRODUCTS * self.n_trained * self.train_acts.shape[1]
        return float(recipe.count_steps(n) * min(recipe.batch_size, n) * per_sample * n_seeds)

    def _shortened(self, recipe: Recipe, n_seeds: int) -> Recipe:
        """The recipe, with fewer steps where the time left does not allow it."""
        share = self.clock.affords(self.count_work(recipe, n_seeds))
        if share >= 1:
            return recipe
        self.clock.miss("steps of the training in full")
        steps = max(FEWEST_STEPS, int(share * recipe.count_steps(len(self.samples))))
        return dataclasses.replace(recipe, most_steps=steps)

    @property
    def reserved(self) -> float:
        """Multiply-adds that the search leaves for the training of all seeds in full."""
        stretches = [BRIEF_STRETCHES * self.count_work(self.brief_recipe, self.n_seeds)] if self.brief_recipe else []
        return self.count_work(self.recipe, self.n_seeds) + sum(stretches if self.variant.merges_duplicates else [])

    def can_settle(self) -> bool:
        """True if there is time for one more training of all seeds, in brief."""
        return self.brief_recipe is None or self.clock.allows(self.count_work(self.brief_recipe, self.n_seeds))

    def visit(self, sparsity: float, start: Parameters | None) -> SparsityPoint:
        """One point of the sparsity path: a single autoencoder, trained briefly."""
        assert self.brief_recipe is not None, f"{self.variant.name} has no path"
        return self._measured(sparsity, self.train_from(start, sparsity, self.brief_recipe, 1), most=MOST_JUDGED)

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

    def _measured(self, sparsity: float, parameters: Parameters, most: int | None = None) -> SparsityPoint:
        """The first autoencoder of the batch speaks for all."""
        quality = self.measure(self.canonical(parameters, sparsity), most)
        also = f", {100 * quality.accuracy_kept:.1f} % of accuracy kept" if self.is_judged_by_classes else ""
        name = "k" if self.variant.counted else "λ"
        logger.info("%s %.4g: R² %.3f, L0 %.0f%s", name, sparsity, quality.r2, quality.l0, also)
        return SparsityPoint(sparsity, parameters, quality)

    def canonical(self, parameters: Parameters, sparsity: float, index: int = 0) -> TrainedSae:
        """Autoencoder `index` of the batch in canonical form."""
        folded, activation = self.variant.fold(select_problem(parameters, index), sparsity)
        basis = None if self.subspace is None else self.subspace.basis
        arrays = canonical_arrays(folded, self.train_acts, self.normalisation, self.n_trained, activation, basis)
        activation = dataclasses.replace(activation, threshold=arrays.pop("threshold", None))
        recipe = {name: getattr(self.recipe, name) for name in ("epochs", "batch_size", "learning_rate")}
        described: dict[str, object] = {"sparsity": sparsity, "seed": self.seed + index, **recipe}
        described["n_train"] = len(self.samples)
        if self.block is not None:
            arrays = self.block.join(arrays)
            described["concepts"] = list(self.block.names)
        return TrainedSae(variant=self.variant.name, hyperparameters=described, activation=activation, **arrays)

    def measure(self, sae: TrainedSae, most: int | None = None) -> Quality:
        """Metrics on the held-out part, or on at most so many samples spread over it."""
        acts, labels = self.validation
        step = 1 if most is None else -(-len(acts) // most)
        quality = measure_quality(sae, acts[::step], labels[::step], self.head)
        return dataclasses.replace(quality, least_r2=self.least_r2)


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
    variant, clock = find_variant(settings.variant), Clock(settings.budget, progress=settings.progress)
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
        recipe=variant.recipe(len(stream), 0.0),
        brief_recipe=None,
        normalisation=stream.normalisation,
        train_acts=stream.read(rows),
        validation=(read_rows(acts, held), labels[held]),
        head=head,
        trims=variant.merges_duplicates and settings.n_latents is None,
        clock=clock,
        kept=settings.kept,
        tasks=settings.tasks,
    )
    if variant.name == SUPERVISED:  # concepts are solved for, not trained: a sample has to do
        problem = _with_concepts(problem, (concepts or class_concepts(labels)).at(rows), settings)
    elif not in_memory:
        problem = dataclasses.replace(problem, stream=stream)
    if variant.normalised:
        problem = _in_subspace(problem)
    if problem.subspace is not None and problem.block is None and settings.n_latents is None:
        problem = dataclasses.replace(problem, n_latents=spanning_latents(problem.subspace, head.n_classes))
    problem = _with_recipes(problem)
    return dataclasses.replace(problem, recipe=_adjusted(problem.recipe, settings))


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


def _in_subspace(problem: Problem) -> Problem:
    """The problem in principal coordinates."""
    acts = problem.train_acts
    held, head = normalised_validation(problem), None
    if problem.block is None:
        head = scaled_head(problem.head, problem.normalisation)
    most = math.isqrt(int(worth(len(problem.samples)) / WORTH_OF_COMPONENT))
    subspace = find_subspace(acts, held, problem.validation[1], head, most)
    logger.info("%d of %d coordinates hold what can be learnt", subspace.rank, acts.shape[1])
    stream = problem.stream and dataclasses.replace(problem.stream, subspace=subspace)
    share = subspace.rank / acts.shape[1]
    return dataclasses.replace(
        problem,
        train_acts=subspace.project(acts),
        stream=stream,
        subspace=subspace,
        share=share,
        least_r2=find_goal(subspace),
    )


def normalised_validation(problem: Problem) -> Float[Tensor, "v d"]:
    """The held-out samples as `train_acts` were before they were projected."""
    acts, device = problem.validation[0], problem.train_acts.device
    rows, block = np.arange(len(acts)), problem.block
    if block is None:
        return normalise(acts, rows, problem.normalisation, device)
    held = normalise(acts, rows, block.normalisation, device)
    size = block.leftover.scale / block.normalisation.scale
    return held @ torch.from_numpy(block.remainder / size).to(device, held.dtype)


def narrow(problem: Problem, rank: int, most_rows: int, n_seeds: int) -> Problem:
    """The problem of the first principal components alone, with at most so many samples: cheap, and much like it.

    Its activations are the components' coordinates, its quality what is kept of them.
    """
    assert problem.subspace is not None, "only normalised variants are trained in principal coordinates"
    subspace = problem.subspace.first(rank)
    held = subspace.project(normalised_validation(problem))[:most_rows].cpu().numpy()
    head = scaled_head(problem.head, problem.normalisation)
    weight = (head.weight.astype(np.float64) @ subspace.basis.T).astype(np.float32)
    acts = problem.train_acts
    acts = acts[:: -(-len(acts) // most_rows), : subspace.rank].contiguous()
    narrowed = dataclasses.replace(
        problem,
        n_latents=min(problem.n_latents, spanning_latents(subspace, problem.head.n_classes)),
        n_seeds=n_seeds,
        normalisation=identity_normalisation(subspace.rank),
        train_acts=acts,
        validation=(held, problem.validation[1][:most_rows]),
        head=dataclasses.replace(head, weight=weight),
        stream=None,
        subspace=None,
        components=subspace.rank,
        least_r2=LEAST_R2,
        most_nudges=1,
        share=problem.share * subspace.rank / problem.subspace.rank,
    )
    return _with_recipes(narrowed)


def _halved(recipe: Recipe, n: int) -> Recipe:
    return dataclasses.replace(recipe, most_steps=math.ceil(recipe.count_steps(n) / 2))


def at_width(problem: Problem, n_latents: int) -> Problem:
    """The problem with another number of latents."""
    return _with_recipes(dataclasses.replace(problem, n_latents=n_latents))


def change_variant(problem: Problem, name: str) -> Problem:
    """The problem on its samples for another variant, also normalised, with that one's recipe."""
    variant = find_variant(name)
    assert variant.normalised, f"{name} trains on other numbers"
    assert problem.variant.normalised, f"{problem.variant.name} trains on other numbers"
    trims = problem.trims and variant.merges_duplicates
    return _with_recipes(dataclasses.replace(problem, variant=variant, trims=trims))


def _with_recipes(problem: Problem) -> Problem:
    """The problem with the recipes that its variant and size need."""
    variant, n = problem.variant, len(problem.samples)
    work = float(PRODUCTS * problem.n_trained * problem.train_acts.shape[1])
    full, brief = variant.recipe(n, work * problem.n_seeds), variant.brief_recipe and variant.brief_recipe(n, work)
    if problem.components is not None:  # where variants are told apart half the way does
        full, brief = _halved(full, n), brief and _halved(brief, n)
    return dataclasses.replace(problem, recipe=full, brief_recipe=brief)


def _adjusted(recipe: Recipe, settings: SaeSettings) -> Recipe:
    given = {name: getattr(settings, name) for name in ("epochs", "batch_size", "learning_rate")}
    given = {name: value for name, value in given.items() if value is not None}
    most_steps = None if "epochs" in given else recipe.most_steps
    return dataclasses.replace(recipe, most_steps=most_steps, **given)
