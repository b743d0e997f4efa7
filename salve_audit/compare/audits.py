"""Two saved audits, compared by the gate's statistics, as what became of each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from salve_audit.errors import ResultError
from salve_audit.gate.audit_file import open_audit
from salve_audit.gate.comparison import BETTER, WORSE, Change, compare_files
from salve_audit.report.changes import ClassChange, Comparison, Difference, Status
from salve_audit.report.conclusions import Conclusion, Conclusions, Group
from salve_audit.results import AuditResult

ALL_PAIRED = "Accuracies, flip medians and image reliance are compared image by image."
PAIRED = "Accuracies and flip medians are compared image by image; image reliance by the intervals of both audits."
UNPAIRED = "Image reliance is compared by the intervals of both audits; accuracies and flip medians are not compared."


def compare_audits(
    old_audit: str | Path | AuditResult, new_audit: str | Path | AuditResult, allowed: tuple[str, ...] = ()
) -> Comparison:
    """What changed from the old audit to the new one.

    Args:
        old_audit, new_audit: each a result, an audit.json or the folder that holds one.
        allowed: what the two need not share, by the words of ``--allow-mismatch``; what differs is named in the result.

    Raises:
        ResultError: one of them cannot be read, or they differ in more than the model; names what.
        UsageError: an unknown mismatch is allowed.
    """
    before, after = open_audit(old_audit), open_audit(new_audit)
    compared = compare_files(before, after, allowed)
    old = old_audit if isinstance(old_audit, AuditResult) else before.result
    new = new_audit if isinstance(new_audit, AuditResult) else after.result
    if compared.refused:
        more = f" (and {len(compared.refused) - 1} more)" if len(compared.refused) > 1 else ""
        raise ResultError(_name(new_audit), compared.refused[0] + more)
    changes = {(change.class_name, change.measure): change for change in compared.changes}
    is_paired = any(change.measure == "accuracy" and change.loss is not None for change in compared.changes)
    ranked = sorted(_classes(old, new, changes), key=_rank)
    pairing = ALL_PAIRED if is_paired and compared.pairs_reliance else PAIRED if is_paired else UNPAIRED
    return Comparison(old, new, compared.notes, pairing, tuple(ranked))


def _name(audit: str | Path | AuditResult) -> str:
    return audit.model.name if isinstance(audit, AuditResult) else str(audit)


def _rank(change: ClassChange) -> tuple[int, float, str]:
    part = change.reliance or change.accuracy
    size = abs(part.value) if part is not None and part.value is not None else 0.0
    return (list(Status).index(change.status), -size, change.name)


def _classes(old: AuditResult, new: AuditResult, changes: Mapping[tuple[str, str], Change]) -> Iterator[ClassChange]:
    before, after = ({each.name: each for each in Conclusions(result).ranked} for result in (old, new))
    for name in dict.fromkeys([*after, *before]):
        first, second = before.get(name), after.get(name)
        if first is None or second is None:
            status = Status.ADDED if first is None else Status.REMOVED
            only = [None if each is None else each.info for each in (first, second)]
            yield ClassChange(name, status, only[0], only[1], None, None, None)
            continue
        parts = _parts(first, second, {measure: changes.get((name, measure)) for measure in _MEASURES})
        status = _status(first.group, second.group, any(part is not None and part.is_shown for part in parts))
        yield ClassChange(name, status, first.info, second.info, *parts)


_MEASURES = ("image_reliance", "accuracy", "alpha_hat")


def _parts(
    old: Conclusion, new: Conclusion, changes: Mapping[str, Change | None]
) -> tuple[Difference | None, Difference | None, Difference | None]:
    """Image reliance, accuracy and flip median; the last as the share that it rose or fell by."""
    reliance = None
    if old.reliance is not None and new.reliance is not None:
        reliance = _difference(old.reliance.reliance, new.reliance.reliance, changes["image_reliance"], rises=True)
    accuracy = _difference(old.info.accuracy, new.info.accuracy, changes["accuracy"])
    medians = old.info.alpha_hat.flip.median, new.info.alpha_hat.flip.median
    return reliance, accuracy, _difference(*medians, changes["alpha_hat"])


def _difference(old: float | None, new: float | None, change: Change | None, rises: bool = False) -> Difference:
    """New less old; the gate counts losses, which are rises of image reliance and falls of the others."""
    if change is None or change.loss is None:
        return Difference(old, new, None, None, None, False)
    bounds = (change.low, change.high) if rises else (_minus(change.high), _minus(change.low))
    value = change.loss if rises else -change.loss
    return Difference(old, new, value, *bounds, change.word in (BETTER, WORSE))


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def _status(before: Group, after: Group, shown: bool) -> Status:
    if after is Group.DEPENDS:
        return Status.STILL_FRAGILE if before is Group.DEPENDS else Status.NEWLY_FRAGILE
    if before is Group.DEPENDS and after is Group.NOT_FOUND:
        return Status.FIXED
    return Status.CHANGED if shown else Status.UNCHANGED
