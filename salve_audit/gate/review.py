"""The review file: what people have said of the concepts and global factors that classes depend on.

``salve-review.toml`` has one ``[[entry]]`` a concept or factor::

    [[entry]]
    class = "husky"
    kind = "region"            # or a global factor: border, colour, ...
    fingerprint = "5c1f09ab"   # of a concept; a factor needs none
    name = "snow"
    verdict = "shortcut"       # accepted | shortcut | unclear
    who = "A. Reviewer"
    when = 2026-11-20
    why = "background, not the dog"
    limit = 0.1                # of a shortcut, where the policy's is not meant

What is judged a shortcut fails beyond its limit, what is accepted never does, what is unclear counts as not reviewed.
"""

from __future__ import annotations

import datetime
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salve_audit.errors import UsageError
from salve_audit.gate.measures import Dependence, find_dependences
from salve_audit.results import AuditResult, ClassReliance, Concept

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ACCEPTED, SHORTCUT, UNCLEAR = "accepted", "shortcut", "unclear"
VERDICTS = (ACCEPTED, SHORTCUT, UNCLEAR)
REGION = "region"
REQUIRED = ("class", "kind", "name", "verdict", "who", "when", "why")
KNOWN = (*REQUIRED, "fingerprint", "limit")


@dataclass(frozen=True)
class Entry:
    """What one person has said of one concept or global factor of one class."""

    class_name: str
    kind: str
    fingerprint: str
    name: str
    verdict: str
    who: str
    when: str
    why: str
    limit: float | None = None


@dataclass(frozen=True)
class Review:
    """A review file."""

    path: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class ReviewedClass:
    """The dependences of a class by what the review says of them.

    Attributes:
        accepted: those that are accepted.
        shortcuts: entry and dependence of those judged shortcuts.
        unreviewed: strong ones without a word, or with an unclear one.
    """

    accepted: tuple[Dependence, ...] = ()
    shortcuts: tuple[tuple[Entry, Dependence], ...] = ()
    unreviewed: tuple[Dependence, ...] = ()


def fingerprint(concept: Concept) -> str:
    """The identity of a concept over audits of one model: a hash of its class, layer and strongest channels."""
    text = f"{concept.class_name}\n{concept.layer}\n{','.join(map(str, concept.channels))}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def match(entry: Entry, concept: Concept) -> bool:
    """True where the entry speaks of the concept: the same kind, class and fingerprint."""
    of_concept = (concept.kind, concept.class_name, fingerprint(concept))
    return (entry.kind, entry.class_name, entry.fingerprint) == of_concept


def load_review(path: Path) -> Review:
    """The review in a TOML file.

    Raises:
        UsageError: the file cannot be read, or an entry is wrong; names file and path of the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(str(path), reason or "cannot be read") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(str(path), f"not TOML ({error})") from error
    unknown = sorted(set(content) - {"entry"})
    entries = content.get("entry", [])
    if unknown or not isinstance(entries, list):
        raise UsageError(str(path), f"unknown key {unknown[0]!r}" if unknown else "expected [[entry]] tables")
    return Review(str(path), tuple(_read_entry(entry, f"entry[{i}]", str(path)) for i, entry in enumerate(entries)))


def review_class(review: Review, result: AuditResult, class_info: ClassReliance, strong: float) -> ReviewedClass:
    """The dependences of a class, sorted by what the review says of them.

    Args:
        review: the file.
        result: the audit.
        class_info: the class.
        strong: drop of accuracy from which a dependence has to be reviewed; the interval has to lie above it.
    """
    accepted, shortcuts, unreviewed = [], [], []
    for dependence in find_dependences(result, class_info):
        entry = _find_entry(review, result, class_info.name, dependence)
        if entry is not None and entry.verdict == ACCEPTED:
            accepted.append(dependence)
        elif entry is not None and entry.verdict == SHORTCUT:
            shortcuts.append((entry, dependence))
        elif dependence.low > strong:
            unreviewed.append(dependence)
    return ReviewedClass(tuple(accepted), tuple(shortcuts), tuple(unreviewed))


def _find_entry(review: Review, result: AuditResult, class_name: str, dependence: Dependence) -> Entry | None:
    """The entry on a dependence; of several the strictest verdict counts."""
    if dependence.concept is None:
        named = [entry for entry in review.entries if (entry.class_name, entry.kind) == (class_name, dependence.kind)]
    else:
        concept = next(concept for concept in result.concepts if concept.index == dependence.concept)
        named = [entry for entry in review.entries if match(entry, concept)]
    order = (SHORTCUT, UNCLEAR, ACCEPTED)
    return min(named, key=lambda entry: order.index(entry.verdict), default=None)


def _read_entry(value: Any, at: str, source: str) -> Entry:
    if not isinstance(value, dict):
        raise UsageError(source, f"expected a table in {at!r}")
    for key in value:
        if key not in KNOWN:
            raise UsageError(source, f"unknown key {key!r} in {at!r}", hint="known: " + ", ".join(KNOWN))
    for key in REQUIRED:
        if key not in value:
            raise UsageError(source, f"missing key {key!r} in {at!r}")
    texts = {key: _read_text(value, key, at, source) for key in (*REQUIRED, "fingerprint") if key != "when"}
    if texts["verdict"] not in VERDICTS:
        words = f"expected {', '.join(VERDICTS)}, got {texts['verdict']!r} in '{at}.verdict'"
        raise UsageError(source, words)
    if texts["kind"] == REGION and not texts["fingerprint"]:
        raise UsageError(source, f"missing key 'fingerprint' in {at!r}: a concept is known by it")
    return Entry(
        class_name=texts["class"],
        kind=texts["kind"],
        fingerprint=texts["fingerprint"],
        name=texts["name"],
        verdict=texts["verdict"],
        who=texts["who"],
        when=_read_day(value["when"], at, source),
        why=texts["why"],
        limit=_read_limit(value.get("limit"), at, source),
    )


def _read_text(value: Mapping[str, Any], key: str, at: str, source: str) -> str:
    text = value.get(key, "")
    if not isinstance(text, str):
        raise UsageError(source, f"expected a text, got {type(text).__name__} in '{at}.{key}'")
    return text


def _read_day(value: Any, at: str, source: str) -> str:
    try:
        day = value if isinstance(value, datetime.date) else datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise UsageError(source, f"expected a date such as 2027-01-31, got {value!r} in '{at}.when'") from None
    return day.isoformat()[:10]


def _read_limit(value: Any, at: str, source: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UsageError(source, f"expected a share in 0..1, got {value!r} in '{at}.limit'")
    return float(value)
