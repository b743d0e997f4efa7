"""Losses against a baseline: a paired bootstrap over the images that both audits have, corrected over classes.

Accuracy, flip medians and image reliance are compared image by image from both samples.parquet; seeds of the
autoencoder are a second level of the bootstrap of flip medians (`salve_audit.gate.paired_losses`). What audit.json
holds only as an interval is compared by the intervals of both (`salve_audit.gate.interval_losses`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from salve_audit.errors import UsageError
from salve_audit.gate.audit_file import BROKEN, UNSEALED, AuditFile
from salve_audit.gate.compared import Compared
from salve_audit.gate.estimates import Decision, Estimate, decide, unjudged
from salve_audit.gate.interval_losses import compare_intervals
from salve_audit.gate.paired_losses import PAIRED, compare_overall, compare_paired
from salve_audit.gate.policy import Policy
from salve_audit.gate.rules import DROP, MISMATCHES
from salve_audit.gate.samples import SAMPLES

UNPAIRED = (
    f"image reliance is compared by the intervals of both audits, for {SAMPLES} of one of them does not say what "
    "became of single images"
)


def find_mismatches(new: AuditFile, old: AuditFile) -> dict[str, str]:
    """What the two audits do not share, by the word that ``--allow-mismatch`` takes."""
    ours, theirs = new.result, old.result
    mismatches = {}
    if ours.provenance.data_sha256 != theirs.provenance.data_sha256:
        mismatches["data"] = "the audited data are others"
    if new.schema_version != old.schema_version:
        mismatches["schema"] = f"audit.json is version {new.schema_version} here and {old.schema_version} there"
    if ours.sae.variant != theirs.sae.variant:
        mismatches["autoencoder"] = f"the autoencoder is {ours.sae.variant} here and {theirs.sae.variant} there"
    if ours.data.classes != theirs.data.classes:
        mismatches["classes"] = "the classes are others"
    if old.digest != "sealed":
        words = {UNSEALED: "carries no digest over its numbers", BROKEN: "was changed after it was written"}
        mismatches["digest"] = f"the baseline {words[old.digest]}"
    return mismatches


def compare_with_baseline(
    policy: Policy, compared: Compared, seed: int = 0, only: Set[tuple[str, str]] | None = None
) -> dict[tuple[str, str], tuple[Estimate, Decision]]:
    """Every loss that the policy limits, decided: by class and measure; for accuracy also of all images together.

    A loss is a violation where its one-sided p-value, corrected by Holm's method over the classes of one measure, is at
    most half of what the confidence leaves, so that one class is judged as its interval is.

    Args:
        policy: with the limits.
        compared: both audits.
        seed: of the draws.
        only: classes and measures that may violate; others count in the correction, and are left out.
    """
    settings = {part.name for part in policy.all_settings if part.kind is DROP and part.limit is not None}
    losses: dict[tuple[str, str], tuple[Estimate, Decision]] = {}
    for name in sorted(settings):
        rows = list(_measure_classes(name, policy, compared, seed, only))
        losses |= _decide_all(rows, name, (1 - policy.confidence) / 2)
    overall = next((part for part in policy.settings if part.kind is DROP and part.name == "accuracy"), None)
    if overall is not None and overall.limit is not None:
        estimate = compare_overall(overall.limit, policy.confidence, compared)
        losses[("", "accuracy")] = estimate, decide(estimate, overall.limit, at_least=False)
    return losses


def describe_unpaired(policy: Policy, compared: Compared) -> tuple[str, ...]:
    """That a limit on the rise of image reliance is not judged image by image, where an audit does not allow it."""
    key = f"{DROP.key}.image_reliance"
    is_limited = any(part.key == key and part.limit is not None for part in policy.all_settings)
    if not is_limited or (compared.pairs is not None and compared.pairs.has_lost):
        return ()
    return (UNPAIRED,)


@dataclass(frozen=True)
class _Loss:
    class_name: str
    estimate: Estimate
    limit: float
    p: float  # of a loss of at most the limit, one-sided


def _measure_classes(
    name: str, policy: Policy, compared: Compared, seed: int, only: Set[tuple[str, str]] | None
) -> Iterator[_Loss]:
    old = {class_info.name: class_info for class_info in compared.old.classes}
    for class_info in compared.new.classes:
        own = policy.settings_of(class_info.name)
        setting = next((part for part in own if part.key == f"{DROP.key}.{name}"), None)
        if setting is None or setting.limit is None or class_info.n == 0:
            continue
        if only is not None and (class_info.name, name) not in only:
            yield _Loss(class_info.name, unjudged("it did not rise"), setting.limit, 1.0)
            continue
        before = old.get(class_info.name)
        if before is None or before.n == 0:
            yield _Loss(class_info.name, unjudged("the baseline has no images of this class"), setting.limit, 1.0)
            continue
        if name in PAIRED:
            estimate, p = compare_paired(name, setting.limit, policy.confidence, compared, (before, class_info), seed)
        else:
            estimate, p = compare_intervals(name, setting.limit, policy, compared, (before, class_info))
        yield _Loss(class_info.name, estimate, setting.limit, p)


def _decide_all(rows: Sequence[_Loss], name: str, level: float) -> dict[tuple[str, str], tuple[Estimate, Decision]]:
    corrected = _holm([row.p for row in rows])
    decided = {}
    for row, p in zip(rows, corrected, strict=True):
        decision = decide(row.estimate, row.limit, at_least=False)
        if decision.outcome == "fail" and p > level:
            why = f"beyond the limit, but not beyond what {len(rows)} classes show by luck (p {p:.2g}, Holm)"
            decision = Decision("undecided", why)
        decided[(row.class_name, name)] = (row.estimate, decision)
    return decided


def _holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's method."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, largest = [1.0] * len(values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = largest
    return adjusted


def check_mismatches(mismatches: Mapping[str, str], allowed: Sequence[str]) -> tuple[str, ...]:
    """The mismatches that are not allowed, as reasons.

    Raises:
        UsageError: an unknown word is allowed.
    """
    for word in allowed:
        if word not in MISMATCHES:
            raise UsageError("--allow-mismatch", f"{word!r} is not one of {', '.join(MISMATCHES)}")
    hint = "--allow-mismatch"
    return tuple(
        f"the baseline is not comparable: {why} ({hint} {word} compares nevertheless)"
        for word, why in mismatches.items()
        if word not in allowed
    )
