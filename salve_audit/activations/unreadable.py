"""Images that cannot be read: skipped one by one, an error when they are many or a class has no others."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.errors import DataError
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.data.sources.verified import CHANGED

MAX_SHARE = 0.05  # of a split; beyond it the result would describe another data set


def check_share_unreadable(imageset: ImageSet, skipped: Sequence[tuple[str, str]]) -> None:
    """Raises as soon as `skipped`, (path, reason) each, are over 5 % of either split, or one has changed meanwhile.

    Raises:
        DataError: names the first unreadable image of that split and the cause, or the one that changed.
    """
    if not skipped:
        return
    changed = next((path for path, reason in skipped if reason == CHANGED), None)
    if changed is not None:  # the cache's key describes what the image was before
        hint = "run it again when nothing writes there"
        raise DataError(str(imageset.root), f"{changed} {CHANGED}", hint=hint)
    for split, purpose in ((imageset.fit, "to fit"), (imageset.audit, "to audit")):
        known = set(split.paths)
        lost = [(path, reason) for path, reason in skipped if path in known]
        if len(lost) > MAX_SHARE * len(split.paths):
            path, reason = lost[0]
            why = f"over {MAX_SHARE:.0%} of the {len(split.paths)} images {purpose} cannot be read"
            raise DataError(str(imageset.root), f"{why}, the first is {path}: {reason}", hint="repair or remove them")


def check_classes_left(imageset: ImageSet, skipped: Sequence[tuple[str, str]]) -> None:
    """Raises when every image of a class in a split was unreadable.

    Raises:
        DataError: names the class and the split.
    """
    lost = {path for path, _ in skipped}
    if not lost:
        return
    for split, purpose in ((imageset.fit, "to fit"), (imageset.audit, "to audit")):
        left = _labels_left(split, lost)
        for label in sorted(set(split.labels) - left):
            why = f"no image {purpose} of the class {imageset.classes[label]!r} can be read"
            raise DataError(str(imageset.root), why, hint="repair them or remove the class")


def _labels_left(split: ImageSplit, lost: set[str]) -> set[int]:
    return {label for path, label in zip(split.paths, split.labels, strict=True) if path not in lost}
