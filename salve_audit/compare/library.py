"""The comparison as a function of results or paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from salve_audit.compare.audits import compare_audits
from salve_audit.errors import UsageError
from salve_audit.report.changes import Comparison
from salve_audit.results import AuditResult


def compare(
    old: AuditResult | str | Path, new: AuditResult | str | Path, *, allow_mismatch: Sequence[str] = ()
) -> Comparison:
    """What changed from one audit to another of the same images, beyond chance or not; needs no torch.

    Args:
        old, new: results, result folders, or audit.json files.
        allow_mismatch: what the two need not share: ``data``, ``schema``, ``autoencoder``, ``classes``, ``digest``.

    Returns:
        The comparison; ``to_frame()`` has a row per class, ``of(status)`` the classes that became something.

    Raises:
        ResultError: one cannot be read, or they differ in more than the model; names what.
        UsageError: an argument has the wrong type.

    >>> import salve_audit
    >>> same = salve_audit.compare("salve-report", salve_audit.load_audit("salve-report"))
    >>> float(same.to_frame().loc["castle", "accuracy_change"])
    0.0
    """
    for name, audit in (("old", old), ("new", new)):
        if not isinstance(audit, (AuditResult, str, Path)):
            raise UsageError(name, f"expected a result or a path, got {type(audit).__name__}")
    if isinstance(allow_mismatch, str):
        allow_mismatch = (allow_mismatch,)
    return compare_audits(old, new, tuple(allow_mismatch))
