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
from salve_audit.interventions.registry import FEATURED, KEYED
from salve_audit.interventions.samples import edit_logits
from salve_audit.interventions.summary import ClassDraws
from salve_audit.interventions.workbench import Workbench
from salve_audit.results import InterventionResult, MethodSpread

KEYS, SEEDS = "keys", "seeds"


@dataclass(frozen=True)
class Variant:
    """One method under one other choice.

    Attributes:
        method: its name.
        over: "keys" or "seeds".
        choice: from 1 on; 0 is the one audited.
        matched: brought to the targets.
    """

    method: str
    over: str
    choice: int
    matched: Matched


def measure_variants(bench: Workbench, index: int, methods: Sequence[str]) -> list[Variant]:
    """All other choices of these methods in one class; a choice that has nothing to act on is left out."""
    context = bench.context(index)
    variants = _measure(bench, [m for m in methods if m in KEYED], KEYS, bench.with_other_keys(context))
    return variants + _measure(bench, [m for m in methods if m in FEATURED], SEEDS, bench.with_other_seeds(context))


def _measure(bench: Workbench, methods: Sequence[str], over: str, contexts: Sequence[EditContext]) -> list[Variant]:
    variants: list[Variant] = []
    for method in methods if contexts else ():
        made: list[tuple[int, Intervention]] = []
        for choice, context in enumerate(contexts, start=1):
            intervention = bench.intervene(method, context)
            if intervention is not None:
                made.append((choice, intervention))
        edits = edit_logits(bench.samples, [intervention for _, intervention in made], contexts[0].class_index)
        for (choice, _), edited in zip(made, edits, strict=True):
            matched = match_targets(edited, contexts[0].class_index, bench.targets)
            variants.append(Variant(method, over, choice, matched))
    return variants


def mix_draws(
    bench: Workbench, index: int, found: tuple[InterventionResult, ...], drawn: np.ndarray, variants: Sequence[Variant]
) -> ClassDraws:
    """The class's draws with the choices drawn as well.

    Args:
        bench: its weights are the draws of the samples.
        index: the class.
        found: results of the choice audited, by method, then target.
        drawn: (n_draws, results) over the samples alone.
        variants: all other choices.
    """
    mixed = drawn.copy()
    counted = np.tile(np.array([one.reached for one in found], dtype=bool), (len(drawn), 1))
    column = {(one.method, one.target_accuracy): i for i, one in enumerate(found)}
    n_choices = {over: 1 + max((v.choice for v in variants if v.over == over), default=0) for over in (KEYS, SEEDS)}
    picks = {over: _pick(bench, over, index, n) for over, n in n_choices.items()}
    for one in variants:
        draws = np.flatnonzero(picks[one.over] == one.choice)
        if (one.method, bench.settings.targets[0]) not in column or not draws.size:
            continue
        others = draw_others(bench.weights[draws], one.matched.correct, bench.samples, index)  # (draws, targets)
        for i, target in enumerate(bench.settings.targets):
            place = column[one.method, target]
            mixed[draws, place] = others[:, i]
            counted[draws, place] = one.matched.reached[i]
    return ClassDraws(found, drawn, mixed, counted)


def _pick(bench: Workbench, over: str, index: int, n_choices: int) -> Int[np.ndarray, " n_draws"]:
    """A seed holds for all classes and methods of a draw, a key for one class."""
    rng = bench.rng(f"pick {over}", index if over == KEYS else 0)
    return rng.integers(n_choices, size=len(bench.weights))


def summarise_spreads(
    bench: Workbench, index: int, found: Sequence[InterventionResult], variants: Sequence[Variant]
) -> list[MethodSpread]:
    """Per method and target the range over the choices that reach the target; none without any.

    Over keys: of the random ones. Over seeds: of all, the audited one among them.
    """
    spreads: list[MethodSpread] = []
    name, others = bench.inputs.class_names[index], bench.samples.others(index)
    for method, over in dict.fromkeys((one.method, one.over) for one in variants):
        own = [one.matched for one in variants if one.method == method]
        for i, target in enumerate(bench.settings.targets):
            values = [float(one.accuracies[i, others].mean()) for one in own if one.reached[i]]
            audited = [one for one in found if (one.method, one.target_accuracy) == (method, target) and one.reached]
            if over == SEEDS:
                values += [one.others_accuracy for one in audited]
            if values:
                spreads.append(MethodSpread(method, name, target, len(values), *_range(values), over))
    return spreads


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    low, median, high = np.quantile(values, [0.0, 0.5, 1.0]).tolist()
    return low, median, high
