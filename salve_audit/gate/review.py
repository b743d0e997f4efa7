"""The review file: what people have said of the concepts and global factors that classes depend on.

``salve-review.toml``, which ``salve-audit review`` writes, has one ``[[entry]]`` a concept or factor::

    [[entry]]
    class = "husky"
    kind = "region"            # or a global factor, by name or family: border, colour, ...
    fingerprint = "5c1f09ab"   # of a concept; a factor needs none
    look = "gH+B..."           # of a concept, by which it is found again in audits of other networks
    places = "1f2e3d4c:3,10,12,20 ..."
    crop = "data:image/jpeg;base64,..."
    name = "snow"
    verdict = "shortcut"       # accepted | shortcut | unclear
    who = "A. Reviewer"
    when = 2026-11-20
    why = "background, not the dog"
    limit = 0.1                # of a shortcut, where the policy's is not meant

What is judged a shortcut fails beyond its limit, what is accepted never does, what is unclear counts as not reviewed.
In another audit of the same network a concept is known by its fingerprint, in one of another network by look and places
(`salve_audit.results.looks`, which says how near is near enough; docs/review.md how well that works).
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salve_audit.errors import UsageError
from salve_audit.gate.measures import Dependence, find_dependences
from salve_audit.results import AuditResult, ClassReliance, Concept
from salve_audit.results.looks import ConceptLook, find_nearest, is_same_look
from salve_audit.results.reviewable import REGION, fingerprint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ACCEPTED, SHORTCUT, UNCLEAR = "accepted", "shortcut", "unclear"
VERDICTS = (ACCEPTED, SHORTCUT, UNCLEAR)
REQUIRED = ("class", "kind", "name", "verdict", "who", "when", "why")
OPTIONAL = ("fingerprint", "look", "places", "crop")
KNOWN = (*REQUIRED, *OPTIONAL, "limit")


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
    look: str = ""
    places: str = ""
    crop: str = ""


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


def match(entry: Entry, concept: Concept) -> bool:
    """True where the entry speaks of the concept: the same kind and class, and the same fingerprint or look."""
    if (entry.kind, entry.class_name) != (concept.kind, concept.class_name):
        return False
    if entry.fingerprint == fingerprint(concept):
        return True
    known = ConceptLook(entry.look, entry.places)
    return bool(entry.look) and concept.look is not None and is_same_look(known, concept.look)


def match_among(entry: Entry, concepts: Sequence[Concept]) -> tuple[Concept, ...]:
    """The concepts of an audit that the entry speaks of: those with its fingerprint, else that nearest to its look."""
    matching = [concept for concept in concepts if match(entry, concept)]
    exact = [concept for concept in matching if entry.fingerprint == fingerprint(concept)]
    if exact:
        return tuple(exact)
    looks = [concept.look for concept in matching if concept.look is not None]  # all of them: what else matches by
    nearest = find_nearest(ConceptLook(entry.look, entry.places), looks)
    return () if nearest is None else (matching[nearest],)


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
    accepted, unreviewed = [], []
    shortcuts: dict[Entry, Dependence] = {}  # of the related factors that one entry speaks of, the strongest
    families = set()
    for dependence in find_dependences(result, class_info):
        entry = _find_entry(review, result, class_info.name, dependence)
        if entry is not None and entry.verdict == ACCEPTED:
            accepted.append(dependence)
        elif entry is not None and entry.verdict == SHORTCUT:
            shortcuts.setdefault(entry, dependence)
        elif dependence.low > strong and dependence.is_beyond_chance and dependence.family not in families:
            unreviewed.append(dependence)
            families |= {dependence.family} - {REGION}
    return ReviewedClass(tuple(accepted), tuple(shortcuts.items()), tuple(unreviewed))


def _find_entry(review: Review, result: AuditResult, class_name: str, dependence: Dependence) -> Entry | None:
    """The entry on a dependence; of several the strictest verdict counts."""
    mine = [entry for entry in review.entries if entry.class_name == class_name]
    if dependence.concept is None:
        named = [entry for entry in mine if entry.kind in (dependence.kind, dependence.family)]
    else:
        own = result.concepts_by_class.get(class_name, ())
        indices = {entry: {concept.index for concept in match_among(entry, own)} for entry in mine}
        named = [entry for entry in mine if dependence.concept in indices[entry]]
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
    texts = {key: _read_text(value, key, at, source) for key in (*REQUIRED, *OPTIONAL) if key != "when"}
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
        **{key: texts[key] for key in OPTIONAL if key != "fingerprint"},
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
