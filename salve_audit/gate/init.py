"""A policy proposed from an audit, commented: limits just beyond what holds today."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from salve_audit.gate.estimates import Estimate
from salve_audit.gate.measures import measure, measure_share
from salve_audit.gate.policy import CONFIDENCE, MAX_SKIPPED, Setting
from salve_audit.gate.rules import ACCURACY, ALPHA_HAT, FACTOR, NULL_P, REDUNDANCY, RELIANCE, WARNING, RuleKind
from salve_audit.results import AuditResult, ClassReliance

MARGIN = 0.1  # of shares, beyond the interval, for what retraining alone changes: a guess so far (docs/ci.md)
RATIO = 1.5  # of strengths, for the same reason
MOST_OVERRIDES = 50
WORTH = 0.15  # an override is written for a class whose own limit is tighter than that of all by this much


def propose_policy(result: AuditResult) -> str:
    """The text of a policy file under which the audit passes, if it can be trusted."""
    classes = [class_info for class_info in result.classes if class_info.n > 0]
    return "\n".join([*_head(result), *_audit_rules(classes), *_class_rules(result, classes), *_tail(result, classes)])


def _head(result: AuditResult) -> Iterator[str]:
    yield f"# Policy of salve-audit, proposed from the audit of {_comment(result.model.name)} on {result.created[:10]}."
    yield "# Limits lie just beyond what holds there: beyond the interval, and the margin that retraining needs."
    yield "# Try it: salve-audit gate AUDIT --policy THIS_FILE. docs/ci.md has all rules."
    yield ""
    yield f"confidence = {CONFIDENCE}      # of the intervals that decide"
    yield 'on_undecided = "warn"   # the interval contains the limit: warn, fail or pass'
    yield 'on_thin = "warn"        # too few images of a class: warn, fail or skip'
    yield 'min_judged = "all"      # classes that every rule has to judge, thin ones apart: a number, a share, or "all"'
    yield f"max_skipped_share = {MAX_SKIPPED}   # of images that could not be read"
    present = {class_info.name for class_info in result.classes if class_info.n > 0}
    missing = [name for name in result.data.classes if name not in present]
    if missing:
        listed = ", ".join(map(_quote, missing[:MOST_OVERRIDES])) if len(missing) <= MOST_OVERRIDES else '"*"'
        yield f"allow_missing = [{listed}]   # outputs without audit images"
    if not result.sae.satisfied:
        yield "require_autoencoder = false   # the autoencoder of this audit misses its own goal"
    yield ""


def _audit_rules(classes: list[ClassReliance]) -> Iterator[str]:
    n, hits = sum(part.n for part in classes), sum(part.n_correct for part in classes)
    if n:
        limit = max(0.0, measure_share(hits, n).low - MARGIN / 2)
        yield f"# {ACCURACY.meaning}"
        yield f"{ACCURACY.key} = {_down(limit)}   # {hits / n:.3f} today"


def _class_rules(result: AuditResult, classes: list[ClassReliance]) -> Iterator[str]:
    if result.evidence is not None and not result.evidence.why_absent:
        yield "# A class may depend on its object alone: these two warn; what a review calls a shortcut fails (review)."
    for kind in (RELIANCE, REDUNDANCY, ALPHA_HAT):
        limits = {part.name: limit for part in classes if (limit := _limit(kind, result, part)) is not None}
        if limits:
            loosest = (min if kind.at_least else max)(limits.values())
            yield f"# {kind.meaning}"
            yield f"{kind.key} = {_setting(kind, loosest)}"
    factors = _factor_limits(result, classes)
    if factors:
        yield f"# {FACTOR.meaning}"
        listed = ", ".join(f"{_quote(name)} = {limit:g}" for name, limit in factors.items())
        yield f"{FACTOR.key} = {{ {listed} }}"


def _limit(kind: RuleKind, result: AuditResult, class_info: ClassReliance) -> float | None:
    """The limit just beyond what a class has today; None: it has no value, or no limit would say anything."""
    estimate = measure(Setting(kind, None), result, class_info)
    if estimate.reason:
        return None
    if kind is REDUNDANCY:
        return max(1.0, estimate.low) if math.isfinite(estimate.low) else None
    if kind is ALPHA_HAT:
        return float(f"{estimate.low / RATIO:.2g}") if math.isfinite(estimate.low) else None
    return _up(_beyond(estimate))


def _beyond(estimate: Estimate) -> float:
    return min(1.0, estimate.high + MARGIN)


def _factor_limits(result: AuditResult, classes: list[ClassReliance]) -> dict[str, float]:
    names = dict.fromkeys(
        factor.name for part in classes if part.image_reliance is not None for factor in part.image_reliance.factors
    )
    limits = {}
    for name in names:
        estimates = [measure(Setting(FACTOR, 0.0, name=name), result, part) for part in classes]
        measured = [_beyond(estimate) for estimate in estimates if not estimate.reason]
        if measured:
            limits[name] = _up(max(measured))
    return limits


def _tail(result: AuditResult, classes: list[ClassReliance]) -> Iterator[str]:
    yield ""
    yield f"# {NULL_P.key} = 0.05          # {NULL_P.meaning}"
    yield "# require_stable = true       # the dominant feature of every class under other seeds"
    yield "# max_drop = { accuracy = 0.1, image_reliance = 0.1, global_factor = 0.1, alpha_hat = 0.5 }"
    yield '# baseline = "main/salve-report"'
    yield '# review = "salve-review.toml"   # what people have said of concepts: accepted, shortcut, unclear'
    yield '# on_unreviewed = "warn"         # strong dependences that nobody has looked at: warn, fail or pass'
    yield "# max_fragile_share = 0.1        # a share of classes may violate rules, instead of none"
    yield from _overrides(result, classes)
    yield ""
    yield "# [[exceptions]]                 # a violation that is accepted until a day; then it is an error"
    yield '# class = "name or glob"'
    yield '# rule = "max_image_reliance"'
    yield '# reason = "why"'
    yield "# until = 2027-01-31"
    yield ""


def _overrides(result: AuditResult, classes: list[ClassReliance]) -> Iterator[str]:
    """Tighter limits of classes that depend on single things less than others do."""
    limits = {part.name: limit for part in classes if (limit := _limit(RELIANCE, result, part)) is not None}
    tighter = [name for name, limit in limits.items() if limit <= max(limits.values()) - WORTH]
    if not tighter:
        return
    yield ""
    if len(tighter) > MOST_OVERRIDES:
        yield f"# {len(tighter)} classes would hold a tighter {RELIANCE.key}; name them by glob:"
        yield '# [classes."*_vehicle"]'
        yield f"# {RELIANCE.key} = {_setting(RELIANCE, min(limits.values()))}"
        return
    yield "# Overrides of classes, by name or glob; `false` turns a rule off."
    for name in tighter:
        yield f"[classes.{_quote(name)}]"
        yield f"{RELIANCE.key} = {_setting(RELIANCE, limits[name])}"


def _setting(kind: RuleKind, limit: float) -> str:
    """A class may depend on its object alone: that warns, and a person's word (review) makes it fail or accepts it."""
    return f'{{ limit = {limit:g}, severity = "{WARNING}" }}' if kind in (RELIANCE, REDUNDANCY) else f"{limit:g}"


def _quote(name: str) -> str:
    """A name as a basic string of TOML, which has JSON's escapes; a lone surrogate has none."""
    return json.dumps(name.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _up(value: float) -> float:
    return math.ceil(value * 100 - 1e-9) / 100


def _down(value: float) -> float:
    return math.floor(value * 100 + 1e-9) / 100
