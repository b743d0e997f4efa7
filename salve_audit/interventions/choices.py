"""Methods under another choice of what they leave open: ROME's key, the seed of the autoencoder.

Every choice is an edit of its own, matched by itself. They give the spread of a method, and the second level of its
bootstrap: in every draw of the samples a choice is drawn as well, the one audited among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from salve_audit.interventions.affine import Intervention
from salve_audit.interventions.bootstrap import draw_others
from salve_audit.interventions.context import EditContext
from salve_audit.interventions.measure import Matched, match_targets
from salve_audit.interventions.registry import METHODS
from salve_audit.interventions.samples import edit_logits
from salve_audit.interventions.summary import ClassDraws
from salve_audit.interventions.workbench import Workbench
from salve_audit.results import InterventionResult, MethodSpread

KEYS, SEEDS = "keys", "seeds"


@dataclass(frozen=True)
class MethodChoice:
    """One method under one other choice.

    Attributes:
        method: its name.
        over: "keys" or "seeds".
        number: from 1 on; 0 is the one audited.
        matched: brought to the targets.
    """

    method: str
    over: str
    number: int
    matched: Matched


def measure_choices(bench: Workbench, index: int, methods: Sequence[str]) -> list[MethodChoice]:
    """All other choices of these methods in one class; a choice that has nothing to act on is left out."""
    context = bench.context(index)
    keyed = [key for key in methods if METHODS[key].keyed]
    featured = [key for key in methods if METHODS[key].featured]
    choices = _measure(bench, keyed, KEYS, bench.with_other_keys(context))
    return choices + _measure(bench, featured, SEEDS, bench.with_other_seeds(context))


def _measure(
    bench: Workbench, methods: Sequence[str], over: str, contexts: Sequence[EditContext]
) -> list[MethodChoice]:
    choices: list[MethodChoice] = []
    for method in methods if contexts else ():
        made: list[tuple[int, Intervention]] = []
        for number, context in enumerate(contexts, start=1):
            intervention = bench.intervene(method, context)
            if intervention is not None:
                made.append((number, intervention))
        edits = edit_logits(bench.samples, [intervention for _, intervention in made], contexts[0].class_index)
        for (number, _), edited in zip(made, edits, strict=True):
            matched = match_targets(edited, contexts[0].class_index, bench.targets)
            choices.append(MethodChoice(method, over, number, matched))
    return choices


def mix_draws(
    bench: Workbench,
    index: int,
    audited: tuple[InterventionResult, ...],
    drawn: np.ndarray,
    choices: Sequence[MethodChoice],
) -> ClassDraws:
    """The class's draws with the choices drawn as well.

    Args:
        bench: its weights are the draws of the samples.
        index: the class.
        audited: results of the choice audited, by method, then target.
        drawn: (n_draws, results) over the samples alone.
        choices: all other ones.
    """
    mixed = drawn.copy()
    counted = np.tile(np.array([result.reached for result in audited], dtype=bool), (len(drawn), 1))
    column = {(result.method, result.target_accuracy): i for i, result in enumerate(audited)}
    n_choices = bench.n_choices(index)
    picks = {KEYS: _pick(bench, KEYS, index, n_choices[0]), SEEDS: _pick(bench, SEEDS, index, n_choices[1])}
    for choice in choices:
        draws = np.flatnonzero(picks[choice.over] == choice.number)
        if (choice.method, bench.settings.targets[0]) not in column or not draws.size:
            continue
        others = draw_others(bench.weights[draws], choice.matched.correct, bench.samples, index)  # (draws, targets)
        for i, target in enumerate(bench.settings.targets):
            place = column[choice.method, target]
            mixed[draws, place] = others[:, i]
            counted[draws, place] = choice.matched.reached[i]
    return ClassDraws(audited, drawn, mixed, counted)


def _pick(bench: Workbench, over: str, index: int, n_choices: int) -> Int[np.ndarray, " n_draws"]:
    """A seed holds for all classes and methods of a draw, a key for one class."""
    rng = bench.rng(f"pick {over}", index if over == KEYS else 0)
    return rng.integers(n_choices, size=len(bench.weights))


def summarise_spreads(
    bench: Workbench, index: int, results: Sequence[InterventionResult], choices: Sequence[MethodChoice]
) -> list[MethodSpread]:
    """Per method and target the range over the choices that reach the target; none without any.

    Over keys: of the random ones. Over seeds: of all, the audited one among them.
    """
    spreads: list[MethodSpread] = []
    name, others = bench.inputs.class_names[index], bench.samples.others(index)
    for method, over in dict.fromkeys((choice.method, choice.over) for choice in choices):
        own = [choice.matched for choice in choices if choice.method == method]
        for i, target in enumerate(bench.settings.targets):
            values = [float(matched.accuracies[i, others].mean()) for matched in own if matched.reached[i]]
            audited = [
                result
                for result in results
                if (result.method, result.target_accuracy) == (method, target) and result.reached
            ]
            if over == SEEDS:
                values += [result.others_accuracy for result in audited]
            if values:
                spreads.append(MethodSpread(method, name, target, len(values), *_range(values), over))
    return spreads


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    low, median, high = np.quantile(values, [0.0, 0.5, 1.0]).tolist()
    return low, median, high
