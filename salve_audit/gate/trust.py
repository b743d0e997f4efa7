"""Reasons for which an audit cannot be trusted, whatever its intervals say: each of them is exit code 2.

What can be recomputed from audit.json is recomputed, so that a file whose parts contradict each other never passes.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from salve_audit.gate.names import name_some
from salve_audit.gate.policy import Policy, Setting, fits
from salve_audit.gate.recompute import find_contradictions
from salve_audit.gate.review import Review
from salve_audit.gate.rules import SHORTCUT, UNREVIEWED
from salve_audit.results import AuditResult
from salve_audit.results.notes import find_distrust

MOST_NAMED = 5


def find_problems(result: AuditResult, policy: Policy, today: datetime.date) -> tuple[str, ...]:
    """The reasons in words, those about the data first."""
    return (
        *find_contradictions(result),
        *_find_missing_classes(result, policy),
        *(f"the audit's own warning: {note}" for note in find_distrust(result.notes, result.distrust)),
        *_find_skipped(result, policy),
        *_find_weak_autoencoder(result, policy),
        *_find_unreviewable(result, policy),
        *_find_expired(policy, today),
        *_find_unmatched(result, policy),
        *_find_idle(policy),
    )


def _find_missing_classes(result: AuditResult, policy: Policy) -> Iterator[str]:
    present = {class_info.name for class_info in result.classes if class_info.n > 0}
    missing = [name for name in result.data.classes if name not in present and not policy.may_miss(name)]
    if missing:
        verb, named = "has" if len(missing) == 1 else "have", name_some(missing, MOST_NAMED)
        yield (
            f"{len(missing)} of {len(result.data.classes)} classes {verb} no audit images: {named} "
            "(allow_missing in the policy names classes that may be missing)"
        )
    if not present:
        yield "no class has audit images: nothing was evaluated"


def _find_skipped(result: AuditResult, policy: Policy) -> Iterator[str]:
    data = result.data
    total = data.n_images
    if total and data.n_skipped / total > policy.max_skipped_share:
        share, limit = data.n_skipped / total, policy.max_skipped_share
        yield f"{data.n_skipped} of {total} images could not be read: {share:.1%}, max_skipped_share is {limit:.1%}"


def _find_weak_autoencoder(result: AuditResult, policy: Policy) -> Iterator[str]:
    if not policy.require_autoencoder:
        return
    resting = sorted({setting.key for setting in policy.all_settings if setting.limit is not None and _rests(setting)})
    sae = result.sae
    if resting and not sae.satisfied:
        kept = sae.accuracy_reconstructed / sae.accuracy_original if sae.accuracy_original else 0.0
        yield (
            f"{', '.join(resting)} rest on an autoencoder that misses its own goal: it keeps {kept:.0%} of the "
            f"accuracy at R² {sae.r2:.2f} (require_autoencoder = false in the policy takes it nevertheless)"
        )


def _find_unreviewable(result: AuditResult, policy: Policy) -> Iterator[str]:
    """A review says nothing of a class whose dependence was not measured."""
    if policy.review is None:
        return
    missing = [part.name for part in result.classes if part.n > 0 and part.image_reliance is None]
    if missing:
        named = name_some(missing, MOST_NAMED)
        yield f"the review needs image reliance, which was not measured for {len(missing)} classes: {named}"


def _rests(setting: Setting) -> bool:
    return setting.kind.of_features or setting.name in ("alpha_hat", "cross_class_damage")


def _find_expired(policy: Policy, today: datetime.date) -> Iterator[str]:
    for part in policy.exemptions:
        if part.until < today.isoformat():
            line = f" (line {part.line})" if part.line is not None else ""
            yield f"the exception of {part.class_name!r} from {part.rule} expired on {part.until}{line}: {part.reason}"


def _find_unmatched(result: AuditResult, policy: Policy) -> Iterator[str]:
    """Overrides and exceptions of classes that do not exist are misspelt, or the audit is of other classes."""
    patterns = [(override.pattern, "override") for override in policy.overrides]
    patterns += [(part.class_name, "exception") for part in policy.exemptions]
    for pattern, word in patterns:
        if pattern and not any(fits(pattern, name) for name in result.data.classes):
            yield f"the policy has an {word} for {pattern!r}, and no class of the audit is called so"


def _find_idle(policy: Policy) -> Iterator[str]:
    """Exceptions from rules that the policy does not have: misspelt, or left over."""
    settings = [setting for setting in policy.all_settings if setting.limit is not None]
    if policy.review is not None:
        settings += [Setting(SHORTCUT, policy.shortcut_limit), Setting(UNREVIEWED, policy.strong)]
    for part in policy.exemptions:
        if not any(part.concerns(setting) for setting in settings):
            line = f" (line {part.line})" if part.line is not None else ""
            yield f"the policy has an exception from {part.rule}{line}, and no such rule"


def find_strangers(result: AuditResult, review: Review | None) -> tuple[str, ...]:
    """Entries of a review for classes that the audit does not have: misspelt, or the audit is of other classes."""
    entries = () if review is None else review.entries
    strangers = dict.fromkeys(part.class_name for part in entries if part.class_name not in result.data.classes)
    return tuple(f"the review has an entry for {name!r}, and no class of the audit is called so" for name in strangers)
