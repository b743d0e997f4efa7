"""The classes that are compared in full where all would cost too much.

An edit that is linear in its strength costs a few products per sample, so very many classes have it. SALVE and its
nulls need the whole head times all samples at every strength, and other seeds and keys multiply all work. They are
counted in multiply-adds, not in seconds, so that a plan depends on nothing but the audit's size; where the limit is
passed, the most fragile classes come first, and the summary is over those that have everything. On the other classes
SALVE is measured on a part of the other classes' images, and the nulls not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salve_audit.interventions.registry import METHODS, SALVE, is_null
from salve_audit.interventions.workbench import Workbench

MOST_COMPARED = 200  # classes; more would not change what is said of the methods
FULL_PRODUCTS = 6e12  # multiply-adds for the coupled methods
CHOICE_PRODUCTS = 2e12  # and for other seeds and keys
AREA_PRODUCTS = 12  # strengths per edit where the area is traced as well as the targets
LINEAR_COST = 40.0  # of a linear edit, in products of one class's row with all samples


@dataclass(frozen=True)
class Plan:
    """Plan of which classes are measured in full, in part, and over other keys and seeds.

    Attributes:
        classes: to measure SALVE on, in output order.
        compared: with the other methods.
        full: with the coupled methods on all samples.
        varied: with other seeds and keys.
    """

    classes: tuple[int, ...]
    compared: frozenset[int]
    full: frozenset[int]
    varied: frozenset[int]

    def methods(self, index: int, methods: Sequence[str]) -> tuple[str, ...]:
        """The methods of `methods` that are compared on this class."""
        if index not in self.compared:
            return tuple(method for method in methods if method == SALVE.key)
        return tuple(
            method for method in methods if index in self.full or not _is_coupled(method) or not is_null(method)
        )

    def on_part(self, index: int, method: str) -> bool:
        """True if what the other classes keep is measured on a part of their samples."""
        return _is_coupled(method) and index not in self.full

    def notes(self, bench: Workbench) -> tuple[str, ...]:
        """The parts of the comparison that are left out, in words."""
        notes = []
        if len(self.full) < len(self.classes):
            notes.append(
                f"The summary of all methods, null controls among them, is over the {len(self.full)} most fragile of "
                f"{len(self.classes)} classes ({_listed(bench, self.full)}): each edit by SALVE or a null needs the "
                "whole head on all images again. On the other classes there are no nulls, and what SALVE leaves "
                f"the other classes is measured on {len(bench.samples.thinned.labels)} images, spread evenly. "
                "The other methods are measured on "
                + (f"the {len(self.compared)} most fragile" if len(self.compared) < len(self.classes) else "all")
                + " classes and all images."
            )
        if len(self.varied) < len(self.full):
            notes.append(
                f"Other keys and seeds are compared on the {len(self.varied)} most fragile classes; elsewhere "
                "the intervals are over images alone."
            )
        return tuple(notes)


def make_plan(bench: Workbench) -> Plan:
    """The plan for these inputs; everything everywhere unless the audit is large."""
    classes = [index for index in range(len(bench.inputs.class_names)) if bench.can_compare(index)]
    order = sorted(classes, key=lambda index: (_fragility(bench, index), index))
    methods, n_targets = bench.settings.methods, len(bench.targets)
    n, d = bench.samples.acts.shape
    product = float(n) * d * len(bench.head.bias)  # the head on all samples
    strengths = n_targets if bench.samples.thinned_rows is not None else n_targets + AREA_PRODUCTS
    coupled = len([m for m in methods if _is_coupled(m)]) * strengths * product
    linear = LINEAR_COST * n * d
    seeds = len(bench.inputs.other_seeds)
    varied = seeds * sum(n_targets * product if _is_coupled(m) else linear for m in methods if METHODS[m].featured)
    varied += bench.settings.n_keys * linear * len([m for m in methods if METHODS[m].keyed])
    n_full = _affordable(FULL_PRODUCTS, coupled, len(order))
    n_varied = min(n_full, _affordable(CHOICE_PRODUCTS, varied, len(order)))
    compared = frozenset(order[: max(MOST_COMPARED, n_full)]) if SALVE.key in methods else frozenset(order)
    return Plan(tuple(classes), compared, frozenset(order[:n_full]), frozenset(order[:n_varied]))


def _is_coupled(method: str) -> bool:
    return METHODS[method].coupled


def _affordable(limit: float, each: float, n: int) -> int:
    return n if each * n <= limit else max(1, int(limit / each))


def _fragility(bench: Workbench, index: int) -> float:
    """Small: soon edited away."""
    given = bench.inputs.fragility
    if given is not None:
        return float(np.nan_to_num(given[index], nan=np.inf))
    rows = bench.samples.rows_of(index)
    logits = bench.samples.logits[:, rows]
    rivals = np.delete(logits, index, axis=0).max(axis=0)
    return float(np.median(logits[index] - rivals))


def _listed(bench: Workbench, chosen: frozenset[int]) -> str:
    names = [bench.inputs.class_names[index] for index in sorted(chosen)]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
