"""Two audits read, held against each other for what must agree, and compared class by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from salve_audit.compare.samples import Samples, read_samples
from salve_audit.compare.statistics import independent_difference, paired_accuracy, paired_median
from salve_audit.errors import UsageError
from salve_audit.report.changes import ClassChange, Comparison, Difference, Status
from salve_audit.report.conclusions import Conclusions, Group
from salve_audit.results import AuditResult, ClassReliance, load_audit

FREE_SETTINGS = ("arch", "weights", "head", "batch_size", "device", "images", "trust_model", "activation_maximisation")
LIMITS = "fail_"  # settings that judge, and change no number
NAMED = 3  # differing settings or classes that an error names


def compare_audits(old_path: str | Path, new_path: str | Path, *, allow_mismatch: bool = False) -> Comparison:
    """What changed from the old audit to the new one.

    Args:
        old_path, new_path: each an audit.json or the folder that holds one.
        allow_mismatch: compare although more than the model differs; what does is named in the result.

    Raises:
        ResultError: one of them cannot be read.
        UsageError: they differ in more than the model; names what.
    """
    old, new = load_audit(old_path), load_audit(new_path)
    mismatches = tuple(find_mismatches(old, new))
    if mismatches and not allow_mismatch:
        hint = "--allow-mismatch compares all the same, and names what differs"
        raise UsageError(str(new_path), f"cannot be compared with {old_path}: {'; '.join(mismatches)}", hint=hint)
    samples, pairing = _pair(old, new, Path(old_path), Path(new_path))
    changes = _compare_classes(old, new, samples)
    order = list(Status)
    ranked = sorted(changes, key=lambda change: (order.index(change.status), -_size(change), change.name))
    return Comparison(old, new, mismatches, pairing, tuple(ranked))


def find_mismatches(old: AuditResult, new: AuditResult) -> Iterator[str]:
    """What differs besides the model, so that numbers may differ for other reasons."""
    before, after = ({info.name for info in result.classes} for result in (old, new))
    if before != after:
        gone, added = sorted(before - after), sorted(after - before)
        parts = [f"{word} {', '.join(names[:NAMED])}{' ...' if len(names) > NAMED else ''}"
                 for word, names in (("without", gone), ("with", added)) if names]  # fmt: skip
        yield f"other classes ({'; '.join(parts)})"
    if old.tool_version != new.tool_version:
        yield f"made by salve-audit {old.tool_version} and {new.tool_version}"
    settings = sorted(_differing(old.provenance.config, new.provenance.config))
    if settings:
        yield f"other settings ({', '.join(settings[:NAMED])}{' ...' if len(settings) > NAMED else ''})"
    if _is_measured(old) != _is_measured(new):
        yield "image reliance was measured in one of them only"


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    for key in {*old, *new}:
        if key not in FREE_SETTINGS and not key.startswith(LIMITS) and old.get(key) != new.get(key):
            yield key


def _is_measured(result: AuditResult) -> bool:
    return any(info.image_reliance is not None for info in result.classes)


def _pair(
    old: AuditResult, new: AuditResult, old_path: Path, new_path: Path
) -> tuple[tuple[Samples, Samples] | None, str]:
    """Per-image results where both audits saw the same images, and how the comparison is made, in words."""
    unpaired = "Accuracies and flip medians are compared as of independent images"
    if old.provenance.data_sha256 != new.provenance.data_sha256:
        return None, f"{unpaired}: the two audits saw other images."
    both = read_samples(old_path), read_samples(new_path)
    if both[0] is None or both[1] is None:
        return None, f"{unpaired}: samples.parquet is not beside both."
    if both[0].keys != both[1].keys:
        return None, f"{unpaired}: the audit splits differ."
    return (both[0], both[1]), (
        "Accuracies and flip medians are compared image by image. Image reliance is not kept by image, so its "
        "differences are as of independent images, which makes their intervals rather too wide."
    )


def _compare_classes(
    old: AuditResult, new: AuditResult, samples: tuple[Samples, Samples] | None
) -> Iterator[ClassChange]:
    before, after = ({c.name: c.info for c in Conclusions(result).ranked} for result in (old, new))
    groups = tuple({c.name: c.group for c in Conclusions(result).ranked} for result in (old, new))
    for name in dict.fromkeys([*after, *before]):
        first, second = before.get(name), after.get(name)
        if first is None or second is None:
            status = Status.ADDED if first is None else Status.REMOVED
            yield ClassChange(name, status, first, second, None, None, None)
            continue
        reliance = _compare_reliance(first, second)
        accuracy, flip = _compare_head(first, second, samples)
        shown = any(part is not None and part.is_shown for part in (reliance, accuracy, flip))
        status = _status(groups[0][name], groups[1][name], shown)
        yield ClassChange(name, status, first, second, reliance, accuracy, flip)


def _status(before: Group, after: Group, shown: bool) -> Status:
    if after is Group.DEPENDS:
        return Status.STILL_FRAGILE if before is Group.DEPENDS else Status.NEWLY_FRAGILE
    if before is Group.DEPENDS and after is Group.NOT_FOUND:
        return Status.FIXED
    return Status.CHANGED if shown else Status.UNCHANGED


def _compare_reliance(old: ClassReliance, new: ClassReliance) -> Difference | None:
    first, second = old.image_reliance, new.image_reliance
    if first is None or second is None:
        return None
    return independent_difference((first.reliance, first.low, first.high), (second.reliance, second.low, second.high))


def _compare_head(
    old: ClassReliance, new: ClassReliance, samples: tuple[Samples, Samples] | None
) -> tuple[Difference, Difference]:
    """Accuracy and flip median."""
    if samples is not None:
        first, second = samples[0].of_class(old.name), samples[1].of_class(new.name)
        if len(first.correct) and len(first.correct) == len(second.correct):
            return paired_accuracy(first.correct, second.correct), paired_median(first.flips, second.flips)
    accuracy = independent_difference(
        (old.accuracy, old.accuracy_low, old.accuracy_high), (new.accuracy, new.accuracy_low, new.accuracy_high)
    )
    flip = independent_difference(
        (old.alpha_hat.flip.median, *old.judged_interval), (new.alpha_hat.flip.median, *new.judged_interval)
    )
    return accuracy, flip


def _size(change: ClassChange) -> float:
    part = change.reliance or change.accuracy
    return abs(part.value) if part is not None and part.value is not None else 0.0
