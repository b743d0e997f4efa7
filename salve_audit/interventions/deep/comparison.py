"""Deep edits beside edits of the head: the same classes, targets and images, by runs of the real network."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.activations.images import LoaderSettings, require_images
from salve_audit.activations.store import ActivationSplit
from salve_audit.errors import CheckpointError, DeepEditError
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.interventions.bootstrap import draw_weights, percentile_interval
from salve_audit.interventions.comparison import ComparisonInputs
from salve_audit.interventions.context import EditContext, compute_fit_statistics, float64_head
from salve_audit.interventions.deep.effect import EditEffect, find_correct, measure_effect
from salve_audit.interventions.deep.network import DeepNetwork, edit_values
from salve_audit.interventions.deep.projection import Projection
from salve_audit.interventions.deep.search import search_strengths
from salve_audit.interventions.deep.stream import Scope, find_stream
from salve_audit.interventions.deep.subset import Subset, choose_classes, choose_subset, is_affordable
from salve_audit.interventions.deep.writers import AffineMap, Values
from salve_audit.interventions.measure import head_change, match_targets, relative_change
from salve_audit.interventions.registry import METHODS, SALVE
from salve_audit.interventions.samples import edit_logits, sort_samples
from salve_audit.interventions.streams import open_stream
from salve_audit.results.deep import DeepComparison, DeepResult, DeepScope

log = logging.getLogger(__name__)
TARGETS = (0.5, 0.05)
TINY = 1e-12  # below it a feature that does not fire would make shares infinite
PROOF_IMAGES = 4  # what every block is given and returns is held at once
LOADED = 64  # images decoded at a time
N_HALVINGS = 5
N_DRAWS = 1000


@dataclass(frozen=True)
class DeepInputs:
    """The network and the images that deep edits are compared on.

    Attributes:
        classifier, images: the network and the images.
        audit: labels and paths of the audit split.
        compared: head, features, dictionary, as the comparison of edits of the head had them.
        encoder: (m, d), the encoder's rows.
        seed: of the bootstrap.
        device: to run on.
        workers: processes that decode images.
        asked_for: edits are made however long they take.
        advance: is told how many classes of how many are done.
    """

    classifier: Classifier
    images: ImageSet
    audit: ActivationSplit
    compared: ComparisonInputs
    encoder: Float[np.ndarray, "m d"]
    seed: int
    device: torch.device
    workers: int
    asked_for: bool = False
    advance: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class _Matched:
    """One edit of one class at one target."""

    method: str
    index: int
    target: float
    strength: float
    reached: bool
    effect: EditEffect
    weight_change: float


def compare_deep_edits(inputs: DeepInputs) -> DeepComparison:
    """Both deep edits, SALVE, steering and row scaling, each brought to 50 % and 5 % of the most fragile classes.

    The strengths of the edits of the head are exact, those of the deep ones from a search by runs of the network from
    the first edited block on. Where the network is of no known family, the record says so.
    """
    labels = np.asarray(inputs.audit.labels)
    fragility = inputs.compared.fragility
    classes = choose_classes(
        labels, np.full(inputs.compared.head.n_classes, np.nan) if fragility is None else fragility
    )
    if not classes or len(np.unique(labels)) < 2:
        return DeepComparison("", "too few images per class")
    try:
        first = _load(inputs, np.linspace(0, len(labels) - 1, min(PROOF_IMAGES, len(labels))).astype(np.intp))
        stream = find_stream(inputs.classifier, first)
    except CheckpointError as error:  # that no deep edit is known is one
        log.info("%s", error)
        return DeepComparison("", error.why)
    network = DeepNetwork(inputs.classifier, stream, inputs.device)
    entered = zip(stream.scopes(), network.enter(stream.scopes(), first[:1]), strict=True)
    works = {scope: network.count_work(scope, incoming) for scope, incoming in entered}
    limited = inputs.device.type == "cpu" and not inputs.asked_for
    dear = tuple(scope for scope, work in works.items() if limited and not is_affordable(len(classes), work))
    notes = tuple(
        f"{scope.method} is left out: {works[scope] / 1e9:.1f} billion multiply-adds per run (--deep-edits on makes it)"
        for scope in dear
    )
    scopes = tuple(scope for scope in works if scope not in dear)
    if not scopes:
        return DeepComparison(
            stream.family, "every run of the network would take too long; --deep-edits on makes them", notes=notes
        )
    bench = _Bench(inputs, network, scopes, choose_subset(labels, classes, max(works[scope] for scope in scopes)))
    comparison = bench.compare()
    return dataclasses.replace(comparison, notes=(*notes, *comparison.notes))


def _load(inputs: DeepInputs, rows: np.ndarray) -> Tensor:
    """The images in these rows of the audit split."""
    paths = [inputs.audit.paths[row] for row in rows]
    settings = LoaderSettings(LOADED, inputs.workers)
    return require_images(inputs.images.reader, paths, inputs.classifier.transform, settings)


class _Bench:
    """The subset's images at the scopes' first blocks, and its samples at the head."""

    def __init__(self, inputs: DeepInputs, network: DeepNetwork, scopes: tuple[Scope, ...], subset: Subset) -> None:
        self.inputs, self.network, self.scopes, self.subset = inputs, network, scopes, subset
        self.incoming = network.enter(self.scopes, _load(inputs, subset.rows))
        self.head = float64_head(inputs.compared.head)
        self.acts = network.run(self.scopes[-1], self.incoming[-1])  # (n, d), unedited
        self.samples = sort_samples(self.acts, subset.labels, self.head)
        self.weights = draw_weights(self.samples.counts, N_DRAWS, open_stream(inputs.seed, "deep edits"))

    def compare(self) -> DeepComparison:
        """Measures all edits of all classes."""
        names = self.inputs.compared.class_names
        matched: list[_Matched] = []
        left: dict[str, list[tuple[float, float]]] = {scope.method: [] for scope in self.scopes}
        notes, edited = [], []
        for place, index in enumerate(self.subset.classes):
            if self.inputs.advance is not None:
                self.inputs.advance(place, len(self.subset.classes))
            try:
                projection = self._project(index)
            except DeepEditError as error:
                notes.append(f"{names[index]} is left out: {error.what}: {error.why}")
                continue
            edited.append(names[index])
            matched.extend(self._edit_head(index))
            for scope, incoming in zip(self.scopes, self.incoming, strict=True):
                matched.extend(self._edit_deep(index, scope, incoming, projection))
                left[scope.method].append(self._measure_rest(index, scope, incoming, projection))
        return DeepComparison(
            family=self.network.stream.family,
            reason="" if edited else "no class has a feature that can be projected out",
            n_samples=len(self.subset.rows),
            class_names=tuple(edited),
            n_per_class=self.subset.n_own,
            scopes=tuple(_describe(scope, left[scope.method]) for scope in self.scopes),
            results=tuple(self._record(match, matched) for match in matched),
            notes=tuple(notes),
        )

    def _feature(self, index: int) -> int:
        return int(self.inputs.compared.features[index])

    def _project(self, index: int) -> Projection:
        feature = self._feature(index)
        rows = self.inputs.compared.dictionary[feature], self.inputs.encoder[feature]
        return self.network.stream.readout.pull_back(self.network.model, *rows, feature)

    def _edit_head(self, index: int) -> list[_Matched]:
        context = self._context(index)
        matches = []
        for method in (key for key, method in METHODS.items() if method.beside):
            intervention = METHODS[method].build(context)
            assert intervention is not None, f"{method} always has something to act on"
            (edited,) = edit_logits(self.samples, [intervention], index)
            matched = match_targets(edited, index, np.array(TARGETS))
            for target, strength, reached in zip(TARGETS, matched.strengths.tolist(), matched.reached, strict=True):
                after = intervention.head(strength).logits(self.samples.acts).T
                effect = measure_effect(self.samples, index, after, self.weights)
                change, _ = head_change(intervention, self.head, strength)
                matches.append(_Matched(method, index, target, strength, bool(reached), effect, change))
        return matches

    def _context(self, index: int) -> EditContext:
        compared = self.inputs.compared
        nothing = np.full(compared.head.d, np.nan)  # spoils whatever should read it: these methods need no activations
        return EditContext(
            head=self.head,
            class_index=index,
            feature=self._feature(index),
            dominant=compared.features,
            dictionary=compared.dictionary,
            mean_codes=compared.mean_codes,
            alive=compared.alive,
            fit=compute_fit_statistics(nothing[None, :], np.zeros(1, np.int64), 1),
            key=nothing,
            rng=np.random.default_rng(0),
        )

    def _edit_deep(self, index: int, scope: Scope, incoming: Tensor, projection: Projection) -> list[_Matched]:
        rows = self.samples.rows_of(index)
        own = self.samples.labels[rows]

        def accuracy(strength: float) -> float:
            acts = self.network.run_edited(scope, incoming[rows], [(projection, strength)])
            return float(find_correct(self.head.logits(acts).T, own).mean())

        matches = []
        for target, (strength, reached) in zip(TARGETS, search_strengths(accuracy, TARGETS, N_HALVINGS), strict=True):
            acts = self.network.run_edited(scope, incoming, [(projection, strength)])
            effect = measure_effect(self.samples, index, self.head.logits(acts).T, self.weights)
            values = edit_values(self.network.model, scope, [(projection, strength)])
            change = change_of_weights(self.network.model, scope, values)
            matches.append(_Matched(scope.method, index, target, strength, reached, effect, change))
        return matches

    def _measure_rest(self, index: int, scope: Scope, incoming: Tensor, projection: Projection) -> tuple[float, float]:
        """Share of the feature's reading left at strength 1 on the class's images, and distance from P a."""
        rows, readout = self.samples.rows_of(index), self.network.stream.readout
        model = self.network.model
        wanted = readout.push_forward(model, projection, self.inputs.encoder[self._feature(index)])
        before = self.samples.acts[rows] - readout.offset(model)
        after = self.network.run_edited(scope, incoming[rows], [(projection, 1.0)]) - readout.offset(model)
        exact = before - (before @ wanted.encoder)[:, None] * wanted.direction
        moved = max(float(np.linalg.norm(exact - before, axis=1).mean()), TINY)
        reading = np.abs(before @ wanted.encoder).mean()  # its mean may be near 0 where readings have both signs
        left = float((after @ wanted.encoder).mean() / max(reading, TINY)) * _sign(before @ wanted.encoder)
        return left, float(np.linalg.norm(after - exact, axis=1).mean() / moved)

    def _record(self, match: _Matched, matches: Sequence[_Matched]) -> DeepResult:
        low, high = percentile_interval(match.effect.draws).tolist()
        same = (
            each for each in matches if (each.method, each.index, each.target) == (SALVE.key, match.index, match.target)
        )
        salve = next(same)
        is_paired = match.method != SALVE.key and match.reached and salve.reached
        ends = percentile_interval(match.effect.draws - salve.effect.draws).tolist()
        return DeepResult(
            method=match.method,
            class_name=self.inputs.compared.class_names[match.index],
            feature=self._feature(match.index),
            target_accuracy=match.target,
            strength=match.strength,
            reached_accuracy=match.effect.own,
            reached=match.reached,
            others_accuracy=match.effect.others,
            low=low,
            high=high,
            others_worst=match.effect.worst,
            kl=match.effect.kl,
            agreement=match.effect.agreement,
            weight_change=match.weight_change,
            to_salve=match.effect.others - salve.effect.others if is_paired else None,
            to_salve_low=ends[0] if is_paired else None,
            to_salve_high=ends[1] if is_paired else None,
        )


def _describe(scope: Scope, rest: Sequence[tuple[float, float]]) -> DeepScope:
    left, distance = (float(np.mean(column)) for column in zip(*rest, strict=True)) if rest else (None, None)
    layers = tuple(writer.layer for writer in scope.writers)
    return DeepScope(scope.method, layers, scope.left, scope.blocks[0], left, distance)


def change_of_weights(model: nn.Module, scope: Scope, values: Values) -> float:
    """``‖W' − W‖_F / ‖W‖_F`` over the scope's writers with BatchNorm and gates folded in, constants left out."""
    before, after = (
        np.concatenate([_folded(writer.measure(model, given)) for writer in scope.writers]) for given in (None, values)
    )
    return relative_change(before, after)


def _folded(affine: AffineMap) -> Float[np.ndarray, " many"]:
    return (affine.scale[:, None] * affine.weight.reshape(len(affine.weight), -1)).ravel()


def _sign(readings: Float[np.ndarray, " n"]) -> float:
    """Sign of the mean reading, so that what is left of it is a positive share."""
    return 1.0 if readings.mean() >= 0 else -1.0
