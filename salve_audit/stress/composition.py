"""Several edits at once: the effect of their order, and the other classes' drift as edits add up (docs/method.md §5.4).

Each edit is applied to the head that the one before left, at the strength that alone takes its class to the target.
SALVE scales columns, ``W diag(s₁) diag(s₂)``, clamped entries included: its edits commute exactly, up to the rounding
of a product. Steering shifts the bias by fixed vectors and commutes, row scaling edits different rows and commutes.
Projections (ablation, LEACE, INLP) commute only where their directions are orthogonal.

The yardstick removes the outputs of the edited classes outright: the other classes gain by it, since no image can be
mistaken for a removed class any more. An edit that costs them nothing comes as far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.bootstrap import draw_accuracy, draw_weights, percentile_interval
from salve_audit.interventions.registry import REMOVED, is_null
from salve_audit.interventions.samples import AuditSamples
from salve_audit.results import Composition, CompositionChain, CompositionOrder, CompositionStep
from salve_audit.stress.matched_edits import MatchedEdits
from salve_audit.stress.population import Population

LENGTHS = (2, 5)  # edits at once
N_DRAWN = 4  # chains of random classes, beside the one of the most fragile
N_BOOTSTRAP = 1000
ROUNDING = 1e-9  # relative: logits that differ by less are equal
OFF = -1e6  # a logit that never wins


@dataclass(frozen=True)
class Chain:
    """Classes to edit, in order; `fragile`: the most fragile ones."""

    classes: tuple[int, ...]
    fragile: bool


@dataclass(frozen=True)
class Answers:
    """A head's answers for the samples: correct or not, and logits."""

    correct: Bool[np.ndarray, " n"]
    logits: Float[np.ndarray, "k n"]


def draw_chains(population: Population, n_drawn: int, rng: np.random.Generator) -> list[Chain]:
    """The most fragile classes, then random ones; one class stays without an edit, to drift. None under 3 classes."""
    present = int(np.count_nonzero(population.samples.counts))
    length = min(max(LENGTHS), len(population.classes), present - 1)
    if length < 2:
        return []
    chains = [Chain(population.classes[:length], fragile=True)]
    for _ in range(n_drawn):
        chosen = tuple(int(index) for index in rng.permutation(population.classes)[:length])
        if all(chosen != chain.classes for chain in chains):
            chains.append(Chain(chosen, fragile=False))
    return chains


def compose_edits(
    population: Population, edits: MatchedEdits, chains: Sequence[Chain], rng: np.random.Generator
) -> tuple[tuple[Composition, ...], tuple[CompositionChain, ...]]:
    """The yardstick, then every method on every chain whose classes it all brings to the target, if there is one."""
    samples = population.samples
    weights = draw_weights(samples.counts, N_BOOTSTRAP, rng)  # the same for all, so that everything is paired
    before = _answer(samples, population.head)
    summaries: list[Composition] = []
    ideal: dict[Chain, Float[np.ndarray, " draws"]] = {}  # the last step of the yardstick: its value, then its draws
    records: list[CompositionChain] = []
    methods = [method for method in edits.methods if not is_null(method)]  # controls are not combined
    for method in [REMOVED.key, *methods] if methods else []:
        usable = [
            chain for chain in chains if method == REMOVED.key or all(edits.reaches(method, i) for i in chain.classes)
        ]
        walked = [_Walk(population, edits, method, chain, before) for chain in usable]
        drawn = [_draw(weights, samples, walk) for walk in walked]
        own = [walk.record(steps) for walk, steps in zip(walked, drawn, strict=True)]
        records += own
        lasts = [np.append(walk.values[-1], steps[:, -1]) for walk, steps in zip(walked, drawn, strict=True)]
        ideal = ideal or dict(zip(usable, lasts, strict=True))
        if own:
            gaps = np.mean([last - ideal[chain] for last, chain in zip(lasts, usable, strict=True)], axis=0)
            low, high = percentile_interval(gaps[1:]).tolist()
            exact = all(order.gap <= ROUNDING for record in own for order in record.orders)
            summaries.append(
                Composition(method, len(own), exact, _mean_steps(walked, drawn), float(gaps[0]), low, high)
            )
    return tuple(summaries), tuple(records)


class _Walk:
    """One method along one chain, forwards and back."""

    def __init__(self, population: Population, edits: MatchedEdits, method: str, chain: Chain, before: Answers) -> None:
        self.samples, self.names = population.samples, edits.inputs.class_names
        self.method, self.chain = method, chain
        self.answers = [before]
        forwards = edit_in_turn(edits, method, chain.classes)
        self.orders = []
        for n_edits, head in enumerate(forwards, start=1):
            self.answers.append(_answer(self.samples, head))
            if n_edits in (LENGTHS[0], len(chain.classes)):
                last = edit_in_turn(edits, method, chain.classes[:n_edits][::-1])[-1]
                self.orders.append(self._compare(n_edits, _answer(self.samples, last)))
        self.correct = np.stack([answers.correct for answers in self.answers])  # (steps, n)
        self.accuracy = self.samples.class_accuracies(self.correct)  # (steps, k)
        self.answers = self.answers[:1]  # logits are large

    @property
    def others(self) -> Bool[np.ndarray, " k"]:
        """Classes with samples that the chain does not edit."""
        present = self.samples.counts > 0
        present[list(self.chain.classes)] = False
        return present

    @property
    def values(self) -> Float[np.ndarray, " steps"]:
        """Others' mean accuracy after every edit."""
        mean: np.ndarray = self.accuracy[:, self.others].mean(axis=1)
        return mean

    def edited(self, n_edits: int) -> float | None:
        """Mean accuracy of the classes edited so far."""
        done = list(self.chain.classes[:n_edits])
        return float(self.accuracy[n_edits, done].mean()) if done else None

    def record(self, draws: Float[np.ndarray, "n_draws steps"]) -> CompositionChain:
        """The chain's own record."""
        names = tuple(self.names[index] for index in self.chain.classes)
        edited = [self.edited(i) for i in range(len(self.values))]
        return CompositionChain(
            self.method, names, self.chain.fragile, make_steps(self.values, draws, edited), tuple(self.orders)
        )

    def _compare(self, n_edits: int, back: Answers) -> CompositionOrder:
        there = self.answers[n_edits]
        size = float(np.abs(there.logits).max()) or 1.0
        accuracies = self.samples.class_accuracies(np.stack([there.correct, back.correct]))[:, self.others].mean(axis=1)
        return CompositionOrder(
            n_edits=n_edits,
            gap=float(np.abs(there.logits - back.logits).max()) / size,
            agreement=float((there.logits.argmax(axis=0) == back.logits.argmax(axis=0)).mean()),
            others_gap=float(accuracies[1] - accuracies[0]),
        )


def edit_in_turn(edits: MatchedEdits, method: str, classes: Sequence[int]) -> list[AffineHead]:
    """The heads after one, two, ... edits, each made on the head before it."""
    heads: list[AffineHead] = []
    for index in classes:
        before = heads[-1] if heads else edits.head
        heads.append(_remove_output(before, index) if method == REMOVED.key else edits.edit(method, index, before))
    return heads


def _remove_output(head: AffineHead, index: int) -> AffineHead:
    weight, bias = head.weight.copy(), head.bias.copy()
    weight[index], bias[index] = 0.0, OFF
    return AffineHead(weight, bias)


def make_steps(
    values: Float[np.ndarray, " steps"], draws: Float[np.ndarray, "n_draws steps"], edited: Sequence[float | None]
) -> tuple[CompositionStep, ...]:
    """Others' accuracy and its change from the first step, with percentile intervals of the same draws."""
    bounds = percentile_interval(draws)
    changes = percentile_interval(draws - draws[:, :1])
    return tuple(
        CompositionStep(
            n_edits=i,
            others=float(value),
            low=float(bounds[i, 0]),
            high=float(bounds[i, 1]),
            change=float(value - values[0]),
            change_low=float(changes[i, 0]),
            change_high=float(changes[i, 1]),
            edited=edited[i],
        )
        for i, value in enumerate(values)
    )


def _mean_steps(
    walked: Sequence[_Walk], drawn: Sequence[Float[np.ndarray, "n_draws steps"]]
) -> tuple[CompositionStep, ...]:
    values = np.mean([walk.values for walk in walked], axis=0)
    edited = [[value for walk in walked if (value := walk.edited(i)) is not None] for i in range(len(values))]
    means = [float(np.mean(accuracies)) if accuracies else None for accuracies in edited]
    return make_steps(values, np.mean(drawn, axis=0), means)


def _draw(
    weights: Float[np.ndarray, "n_draws n"], samples: AuditSamples, walk: _Walk
) -> Float[np.ndarray, "n_draws steps"]:
    """Others' mean accuracy after every edit in every draw."""
    return draw_accuracy(weights, walk.correct, samples, walk.others)


def _answer(samples: AuditSamples, head: AffineHead) -> Answers:
    logits = head.weight @ samples.acts.T + head.bias[:, None]
    own = logits[samples.labels, np.arange(len(samples.labels))]
    return Answers(np.count_nonzero(logits >= own, axis=0) == 1, logits)
