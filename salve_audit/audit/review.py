"""A review of a saved audit: what there is to say a word on, and the review file with what was said."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from salve_audit.errors import UsageError
from salve_audit.gate.review import VERDICTS, Entry, Review, load_review, match_among
from salve_audit.gate.review_file import merge_entries, write_review
from salve_audit.report.crops import crop_reviewed
from salve_audit.results import AuditResult, load_audit
from salve_audit.results.reviewable import LEAST_DROP, REGION, Reviewable, data_url, list_reviewable


@dataclass(frozen=True)
class Word:
    """What a person says of a thing."""

    verdict: str
    name: str
    why: str
    who: str
    limit: float | None = None


@dataclass
class ReviewSession:
    """An audit, the review file beside it, and what is said while it goes on; each word is written at once.

    Attributes:
        result: the audit.
        review: the entries so far.
        things: what classes depend on, the strongest first.
        today: the date of what is said now.
    """

    result: AuditResult
    review: Review
    things: tuple[Reviewable, ...]
    today: datetime.date

    def find_entry(self, thing: Reviewable) -> Entry | None:
        """The first entry on a thing; None: nobody has said anything."""
        for entry in self.review.entries:
            if entry.class_name == thing.class_name and self._speaks_of(entry, thing):
                return entry
        return None

    def _speaks_of(self, entry: Entry, thing: Reviewable) -> bool:
        if thing.kind != REGION or thing.concept is None:
            return entry.kind in (thing.kind, thing.name)
        own = [each.concept for each in self.things if each.class_name == thing.class_name and each.kind == REGION]
        return thing.concept in match_among(entry, [concept for concept in own if concept is not None])

    @property
    def open(self) -> tuple[Reviewable, ...]:
        """Things without a word, or with an unclear one."""
        entries = ((thing, self.find_entry(thing)) for thing in self.things)
        return tuple(thing for thing, entry in entries if entry is None or entry.verdict == "unclear")

    def say(self, thing: Reviewable, word: Word) -> None:
        """Write down a word on a thing, in place of an earlier one.

        Raises:
            OutputError: the file cannot be written.
        """
        self.add([make_entry(thing, word, self.today)])

    def add(self, entries: Sequence[Entry]) -> None:
        """Write down entries, in place of earlier ones on the same things.

        Raises:
            OutputError: the file cannot be written.
        """
        self.review = Review(self.review.path, merge_entries(self.review.entries, entries))
        write_review(self.review)


def open_review(
    audit: Path, file: Path, least: float = LEAST_DROP, today: datetime.date | None = None
) -> ReviewSession:
    """Begin, or go on with, the review of a saved audit.

    Args:
        audit: an audit.json or its folder.
        file: the review file; it need not be there yet.
        least: drop of accuracy above which the whole interval of a dependence lies that is put before a person.
        today: the date of what is said; None: today's.

    Raises:
        ResultError: the audit cannot be read.
        UsageError: the review file is wrong, or image reliance was not measured.
    """
    result = load_audit(audit)
    if all(info.image_reliance is None for info in result.classes):
        why = "" if result.evidence is None else f" ({result.evidence.why_absent})"
        raise UsageError(str(audit), f"there is nothing to review: image reliance was not measured{why}")
    review = load_review(file) if file.exists() else Review(str(file), ())
    return ReviewSession(result, review, list_reviewable(result, least), today or datetime.date.today())


def make_entry(thing: Reviewable, word: Word, today: datetime.date) -> Entry:
    """The entry on a thing."""
    crop = crop_reviewed(thing)
    look = thing.concept.look if thing.concept is not None and thing.kind == REGION else None
    return Entry(
        class_name=thing.class_name,
        kind=thing.kind,
        fingerprint=thing.fingerprint,
        name=word.name or thing.name,
        verdict=word.verdict,
        who=word.who,
        when=today.isoformat(),
        why=word.why,
        limit=word.limit,
        look="" if look is None else look.values,
        places="" if look is None else look.places,
        crop="" if crop is None else data_url(crop),
    )


def find_things(session: ReviewSession, text: str) -> tuple[tuple[Reviewable, ...], str]:
    """The things and the verdict that ``CLASS:KIND=VERDICT`` names.

    KIND is ``region`` (the strongest concept), ``concept N``, a global factor or its family, or ``*`` (all of the
    class). A class name may hold colons and equals signs.

    Raises:
        UsageError: it does not read so, or names nothing that the audit has.
    """
    target, _, verdict = text.rpartition("=")
    name, _, kind = target.rpartition(":")
    if not name or not kind or verdict not in VERDICTS:
        raise UsageError(f"--set {text}", f"expected CLASS:KIND=VERDICT with a verdict of {', '.join(VERDICTS)}")
    own = [thing for thing in session.things if thing.class_name == name]
    if name not in session.result.data.classes:
        raise UsageError(f"--set {text}", f"the audit has no class {name!r}")
    chosen = [thing for thing in own if kind in ("*", thing.kind, thing.name)]
    if not chosen:
        there = ", ".join(dict.fromkeys(word for thing in own for word in (thing.name, thing.kind)))
        raise UsageError(
            f"--set {text}", f"{name} depends on no {kind!r} that is strong enough to review", hint=f"there is: {there}"
            if there else "--least 0 lists weaker ones",
        )  # fmt: skip
    return (tuple(chosen) if kind == "*" else (chosen[0],)), verdict
