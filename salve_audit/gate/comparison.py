"""Two audits side by side: every measure of every class, its change, and whether the change is beyond chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from salve_audit.gate.audit_file import AuditFile
from salve_audit.gate.baseline import check_mismatches, compare_with_baseline, find_mismatches
from salve_audit.gate.compared import Compared
from salve_audit.gate.estimates import finite
from salve_audit.gate.policy import Policy, Setting
from salve_audit.gate.rules import DROP, DROP_MEASURES
from salve_audit.gate.samples import SAMPLES, samples_of

BETTER, WORSE, ALIKE, UNKNOWN = "better", "worse", "not distinguished", "not compared"


@dataclass(frozen=True)
class Change:
    """The change of one measure of one class; positive: it got worse.

    Attributes:
        class_name: empty: all images together.
        measure: one of those that ``max_drop`` takes.
        loss, low, high: None: not reached, or not compared.
        word: `BETTER`, `WORSE`, `ALIKE` or `UNKNOWN`, corrected over the classes of a measure (Holm).
        why: the reason, where it is not compared.
        n: images.
    """

    class_name: str
    measure: str
    loss: float | None
    low: float | None
    high: float | None
    word: str
    why: str
    n: int


@dataclass(frozen=True)
class Comparison:
    """Two audits compared.

    Attributes:
        changes: of every class and measure.
        refused: why they are not comparable; then there are no changes.
        notes: mismatches that were allowed, and what is not there.
        pairs_reliance: image reliance is compared image by image.
    """

    changes: tuple[Change, ...]
    refused: tuple[str, ...]
    notes: tuple[str, ...]
    pairs_reliance: bool = False


def compare_files(before: AuditFile, after: AuditFile, allowed: tuple[str, ...] = ()) -> Comparison:
    """Every measure that both audits have.

    Raises:
        UsageError: an unknown mismatch is allowed.
    """
    mismatches = find_mismatches(after, before)
    refused = check_mismatches(mismatches, allowed)
    if refused:
        return Comparison((), refused, ())
    samples = samples_of(after), samples_of(before)
    compared = Compared(after.result, before.result, *samples, str(before.folder))
    notes = [why for word, why in mismatches.items() if word in allowed]
    notes += [f"{SAMPLES} is missing: accuracy and flips are not compared"] * (None in samples)
    pairs_reliance = compared.pairs is not None and compared.pairs.has_lost
    return Comparison(tuple(_find_changes(compared, after)), (), tuple(notes), pairs_reliance)


def _find_changes(compared: Compared, new: AuditFile) -> Iterator[Change]:
    policy = Policy(settings=tuple(Setting(DROP, 0.0, name=name) for name in DROP_MEASURES))
    worse = compare_with_baseline(policy, compared)
    swapped = Compared(compared.old, compared.new, compared.old_samples, compared.new_samples, "")
    may_gain = {key for key, (loss, _) in worse.items() if key[1] == "global_factor" or loss.high < 0}
    better = compare_with_baseline(policy, swapped, only=may_gain)  # of factors another may have fallen most
    for key in _in_order(worse, new):
        estimate, decision = worse[key]
        gained = better.get(key)
        word = ALIKE
        if estimate.reason or math.isnan(estimate.value):
            word = UNKNOWN
        elif decision.outcome == "fail":
            word = WORSE
        elif gained is not None and gained[1].outcome == "fail":
            word = BETTER
        bounds = (finite(estimate.value), finite(estimate.low), finite(estimate.high))
        yield Change(*key, *bounds, word, estimate.reason, estimate.n)


def _in_order(losses: Mapping[tuple[str, str], object], new: AuditFile) -> list[tuple[str, str]]:
    """All images first, then classes and measures as they are listed."""
    names = ["", *(class_info.name for class_info in new.result.classes)]
    return [(name, measure) for name in names for measure in DROP_MEASURES if (name, measure) in losses]
