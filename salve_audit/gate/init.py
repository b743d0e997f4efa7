"""A policy proposed from an audit, commented: limits just beyond what holds today."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from salve_audit.errors import ResultError
from salve_audit.gate.audit_file import BROKEN, CHANGED, AuditFile
from salve_audit.gate.estimates import Estimate
from salve_audit.gate.measures import measure, measure_share
from salve_audit.gate.names import name_some
from salve_audit.gate.policy import CONFIDENCE, MAX_SKIPPED, Setting
from salve_audit.gate.rules import ACCURACY, ALPHA_HAT, ERROR, FACTOR, NULL_P, REDUNDANCY, RELIANCE, WARNING, RuleKind
from salve_audit.results import AuditResult, ClassReliance
from salve_audit.results.reviewable import OBJECT

MARGIN = 0.1  # of shares, beyond the interval, for what retraining alone changes: a guess so far (docs/ci.md)
RATIO = 1.5  # of strengths, for the same reason
MOST_OVERRIDES = 50
WORTH = 0.15  # classes whose limits differ by less share one
OF_OBJECTS = ("colour", "sharpness")  # families of factors that may be all a class's object is known by
WEAK = 0.3  # least limit on a factor: what 30 images hold of which none needs it, and the margin


@dataclass(frozen=True)
class _Own:
    """The limit of one class alone.

    Attributes:
        limit: just beyond what holds today; None: one that nothing could break.
        today: value and interval in words.
        bound: of the interval, which a limit has to leave room for.
    """

    limit: float | None
    today: str
    bound: float


@dataclass(frozen=True)
class _Proposal:
    """The limits of one rule.

    Attributes:
        setting: the rule, without a limit.
        base: of all classes that have none of their own; None: nothing could break it.
        own: limits of the classes by themselves.
        today: of the class that is nearest to the limit.
    """

    setting: Setting
    base: float | None
    own: Mapping[str, _Own]
    today: str = ""


def propose_policy(result: AuditResult) -> str:
    """The text of a policy file under which the audit passes, if it can be trusted."""
    classes = [class_info for class_info in result.classes if class_info.n > 0]
    settings = (Setting(RELIANCE, None, WARNING), Setting(REDUNDANCY, None, WARNING), Setting(ALPHA_HAT, None))
    proposals = [_propose(setting, result, classes) for setting in settings]
    factors = _share_limit([_propose(setting, result, classes) for setting in _list_factors(classes)])
    lines = [*_head(result), *_audit_rules(classes), *_class_rules(result, proposals), *_factor_rules(factors)]
    return "\n".join([*lines, *_tail(), *_overrides(proposals, factors), *_exceptions()])


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
    missing = list_missing(result)
    if missing:
        listed = ", ".join(map(_quote, missing[:MOST_OVERRIDES])) if len(missing) <= MOST_OVERRIDES else '"*"'
        yield f"allow_missing = [{listed}]   # outputs without audit images"
    if not result.sae.satisfied:
        yield "require_autoencoder = false   # the autoencoder of this audit misses its own goal"
    yield ""


def check_source(file: AuditFile) -> None:
    """Refuses an audit of which nothing may be taken for what holds today.

    Raises:
        ResultError: its results are stale, or were changed after they were written.
    """
    if file.stale is not None:
        raise ResultError(str(file.path), f"is stale: {file.stale}")
    if file.digest == BROKEN:
        raise ResultError(str(file.path), CHANGED)


def list_relaxed(result: AuditResult) -> Iterator[str]:
    """What a proposed policy does not ask for, since the audit does not hold it."""
    missing = list_missing(result)
    if missing:
        yield f"allow_missing: no audit images of {name_some(missing, 3)}"
    if not result.sae.satisfied:
        yield "require_autoencoder = false: the autoencoder misses its own goal"


def list_missing(result: AuditResult) -> list[str]:
    """Classes without audit images."""
    present = {class_info.name for class_info in result.classes if class_info.n > 0}
    return [name for name in result.data.classes if name not in present]


def _audit_rules(classes: list[ClassReliance]) -> Iterator[str]:
    n, hits = sum(part.n for part in classes), sum(part.n_correct for part in classes)
    if n:
        limit = max(0.0, measure_share(hits, n).low - MARGIN / 2)
        yield f"# {ACCURACY.meaning}"
        yield f"{ACCURACY.key} = {_down(limit)}   # {hits / n:.3f} today"


def _class_rules(result: AuditResult, proposals: list[_Proposal]) -> Iterator[str]:
    if result.evidence is not None and not result.evidence.why_absent:
        yield "# A class may depend on its object alone, or on its colour or detail: these warn. What a review calls a"
        yield "# shortcut fails (review)."
    for proposal in proposals:
        if not proposal.own:
            continue
        kind = proposal.setting.kind
        yield f"# {kind.meaning}"
        if proposal.base is None:
            yield f"# {kind.key}: no limit for all classes: most are where none could fail; see the overrides."
        else:
            yield f"{kind.key} = {_setting(proposal.setting, proposal.base)}   # {proposal.today}"


def _share_limit(factors: list[_Proposal]) -> list[_Proposal]:
    """The proposals with one limit for all factors, where theirs are about the same."""
    limits = [part.base for part in factors if part.base is not None]
    if not limits or len(limits) < len(factors) or max(limits) - min(limits) > WORTH:
        return factors
    return [dataclasses.replace(part, base=max(limits)) for part in factors]


def _factor_rules(factors: list[_Proposal]) -> Iterator[str]:
    """One limit for all factors where it is the same, else one by name; see `_warn_of_objects`."""
    limits = {part.setting.name: part.base for part in factors if part.base is not None}
    if factors:
        yield f"# {FACTOR.meaning}"
    if (shared := _shared(factors)) is not None:
        yield f"{FACTOR.key} = {shared:g}"
    elif limits:
        listed = (f"{_quote(p.setting.name)} = {_setting(p.setting, p.base)}" for p in factors if p.base is not None)
        yield f"{FACTOR.key} = {{ {', '.join(listed)} }}"
    for part in factors:
        if part.base is None:
            yield f"# {_comment(part.setting.name)}: no limit for all classes: most depend on it; see the overrides."


def _shared(factors: list[_Proposal]) -> float | None:
    """The limit that all factors share."""
    limits = {part.base for part in factors}
    return limits.pop() if len(limits) == 1 else None


def _warn_of_objects(factors: list[_Proposal]) -> Iterator[str]:
    """Of all classes: by which factors an object alone may be known, where all factors share a limit."""
    names = [_quote(part.setting.name) for part in factors if part.setting.severity == WARNING]
    if names and (shared := _shared(factors)) is not None:
        listed = ", ".join(f"{name} = {shared:g}" for name in names)
        yield '[classes."*"]'
        yield f'{FACTOR.key} = {{ {listed}, severity = "{WARNING}" }}'


def _list_factors(classes: list[ClassReliance]) -> list[Setting]:
    """The factors that were removed from images of some class, without limits."""
    measured = [part.image_reliance.factors for part in classes if part.image_reliance is not None]
    removed = {part.name: part.kind for own in measured for part in own if part.is_removed and part.kind != OBJECT}
    return [Setting(FACTOR, None, WARNING if family in OF_OBJECTS else ERROR, name) for name, family in removed.items()]


def _propose(setting: Setting, result: AuditResult, classes: list[ClassReliance]) -> _Proposal:
    """The limit that about half of the classes share, and those of the classes that differ from it."""
    own = {part.name: limit for part in classes if (limit := _limit(setting, result, part)) is not None}
    sign = _sign(setting.kind)
    ordered = sorted(math.inf if part.limit is None else sign * part.limit for part in own.values())
    if not own or math.isinf(ordered[_middle(len(ordered))]):
        return _Proposal(setting, None, own)
    middle = ordered[_middle(len(ordered))]
    base = middle
    if setting.kind is not FACTOR:
        base = max(limit for limit in ordered if _is_near(setting.kind, limit, middle))
    held = {name: part for name, part in own.items() if part.limit is not None and sign * part.limit <= base}
    nearest = max(held, key=lambda name: sign * (held[name].limit or 0))
    return _Proposal(setting, sign * base, own, f"{_comment(nearest)} has {own[nearest].today} today")


def _sign(kind: RuleKind) -> int:
    """By which a larger limit is a looser one."""
    return -1 if kind.at_least else 1


def _middle(n: int) -> int:
    """The place of the middle class among those sorted from tight to loose; of very many, few are looser."""
    return max((n - 1) // 2, n - 1 - MOST_OVERRIDES)


def _is_near(kind: RuleKind, limit: float, other: float) -> bool:
    """True for limits so alike that one does for both classes."""
    if limit == other or kind is REDUNDANCY or math.isinf(limit):
        return limit == other
    return max(limit / other, other / limit) <= RATIO if kind is ALPHA_HAT else abs(limit - other) <= WORTH


def _limit(setting: Setting, result: AuditResult, class_info: ClassReliance) -> _Own | None:
    """The limit just beyond what a class has today; None: it has no value."""
    kind, reliance = setting.kind, class_info.image_reliance
    estimate = measure(setting, result, class_info)
    if estimate.reason:
        return None
    if estimate.screened:
        return _Own(WEAK, f"been screened on {estimate.n} images alone", 0.0)
    if kind is ALPHA_HAT:
        limit = float(f"{estimate.low / RATIO:.2g}") if math.isfinite(estimate.low) else None
        return _Own(limit if limit else None, _say(estimate), estimate.low)
    assert reliance is not None, "it was measured"
    if kind is REDUNDANCY:
        least = estimate.low if math.isfinite(estimate.low) else min(2.0, reliance.redundancy_limit)
        return _Own(least if least > 1 else None, _say(estimate), estimate.low)
    together = sum(part.is_removed for part in reliance.factors) if kind is FACTOR else 1
    limit = max(_up(estimate.high + MARGIN), WEAK if kind is FACTOR else 0.0)
    return _Own(limit if limit < _reach(estimate.n, together) else None, _say(estimate), estimate.high)


def _reach(n: int, together: int) -> float:
    """The lower bound where each of `n` images is lost: no limit from there on can ever be broken."""
    return float((0.025 / max(1, together)) ** (1 / n))


def _say(estimate: Estimate) -> str:
    texts = [f"{part:.2g}" if math.isfinite(part) else "∞" for part in (estimate.value, estimate.low, estimate.high)]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def _tail() -> Iterator[str]:
    yield ""
    yield f"# {NULL_P.key} = 0.05          # {NULL_P.meaning}"
    yield "# require_stable = true       # the dominant feature of every class under other seeds"
    yield "# max_drop = { accuracy = 0.1, image_reliance = 0.1, global_factor = 0.1, alpha_hat = 0.5 }"
    yield '# baseline = "main/salve-report"'
    yield '# review = "salve-review.toml"   # what people have said of concepts: accepted, shortcut, unclear'
    yield '# on_unreviewed = "warn"         # strong dependences that nobody has looked at: warn, fail or pass'
    yield "# max_fragile_share = 0.1        # a share of classes may violate rules, instead of none"


def _overrides(proposals: list[_Proposal], every_factor: list[_Proposal]) -> Iterator[str]:
    """The limits of classes that differ from the others."""
    lines: dict[str, list[str]] = {}
    factors: dict[str, list[tuple[Setting, _Own]]] = {}
    for proposal in (*proposals, *every_factor):
        kind = proposal.setting.kind
        tighter, looser = _find_different(proposal)
        if len(tighter) > MOST_OVERRIDES:
            yield ""
            yield f"# {len(tighter)} classes would hold a tighter {proposal.setting.key}: name them, or a glob."
            tighter = []
        for class_name in (*tighter, *looser):
            own = proposal.own[class_name]
            if kind is FACTOR:
                factors.setdefault(class_name, []).append((proposal.setting, own))
            else:
                lines.setdefault(class_name, []).append(_override(proposal.setting, own))
    for class_name, limits in factors.items():
        listed = ", ".join(f"{_quote(setting.name)} = {_or_false(setting, own)}" for setting, own in limits)
        said = ", ".join(f"{_comment(setting.name)} {own.today}" for setting, own in limits)
        lines.setdefault(class_name, []).append(f"{FACTOR.key} = {{ {listed} }}   # today {said}")
    of_all = list(_warn_of_objects(every_factor))
    if lines or of_all:
        yield ""
        yield "# Overrides of classes, by name or glob; `false` turns a rule off: there, no limit could be broken."
    yield from of_all
    for class_name, own_lines in lines.items():
        yield f"[classes.{_quote(class_name)}]"
        yield from own_lines


def _find_different(proposal: _Proposal) -> tuple[list[str], list[str]]:
    """Names of classes that would hold a tighter limit than that of all, and of those that need a looser one."""
    kind, base, sign = proposal.setting.kind, proposal.base, _sign(proposal.setting.kind)
    limited = {name: part.limit for name, part in proposal.own.items() if part.limit is not None}
    if base is None:
        return list(limited), []
    off = [name for name in proposal.own if name not in limited]
    looser = [name for name, limit in limited.items() if sign * limit > sign * base]
    if kind is FACTOR:  # many, of few images: not for a margin alone
        looser = [name for name in looser if proposal.own[name].bound > base]
    below = [name for name, limit in limited.items() if sign * limit < sign * base]
    tighter = [name for name in below if kind is not FACTOR and not _is_near(kind, limited[name], base)]
    return tighter, [*looser, *off]


def _override(setting: Setting, own: _Own) -> str:
    return f"{setting.kind.key} = {_or_false(setting, own)}   # {own.today} today"


def _or_false(setting: Setting, own: _Own) -> str:
    return "false" if own.limit is None else _setting(setting, own.limit)


def _exceptions() -> Iterator[str]:
    yield ""
    yield "# [[exceptions]]                 # a violation that is accepted until a day; then it is an error"
    yield '# class = "name or glob"'
    yield '# rule = "max_image_reliance"'
    yield '# reason = "why"'
    yield "# until = 2027-01-31"
    yield ""


def _setting(setting: Setting, limit: float) -> str:
    return f'{{ limit = {limit:g}, severity = "{WARNING}" }}' if setting.severity == WARNING else f"{limit:g}"


def _quote(name: str) -> str:
    """A name as a basic string of TOML, which has JSON's escapes; a lone surrogate has none."""
    return json.dumps(name.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _up(value: float) -> float:
    return math.ceil(value * 100 - 1e-9) / 100


def _down(value: float) -> float:
    return math.floor(value * 100 + 1e-9) / 100
