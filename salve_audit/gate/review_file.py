"""Writing the review file: entries in the order of their classes, each as a person would write it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from salve_audit.errors import OutputError
from salve_audit.gate.review import Entry, Review
from salve_audit.gate.whole_file import write_whole
from salve_audit.results.looks import ConceptLook, is_same_look
from salve_audit.results.reviewable import REGION, quote

HEADER = (
    "# What people have said of the concepts and global factors that classes depend on; docs/review.md.\n"
    "# verdict: accepted (never fails), shortcut (fails beyond its limit), unclear (counts as not reviewed).\n"
)


def merge_entries(old: Iterable[Entry], new: Iterable[Entry]) -> tuple[Entry, ...]:
    """All entries; a new one takes the place of those on the same thing."""
    merged = list(old)
    for entry in new:
        merged = [each for each in merged if not _same_thing(each, entry)] + [entry]
    return tuple(sorted(merged, key=lambda entry: (entry.class_name, entry.kind, entry.name, entry.fingerprint)))


def _same_thing(a: Entry, b: Entry) -> bool:
    if (a.class_name, a.kind) != (b.class_name, b.kind):
        return False
    if a.kind != REGION or a.fingerprint == b.fingerprint:
        return True
    return bool(a.look and b.look) and is_same_look(ConceptLook(a.look, a.places), ConceptLook(b.look, b.places))


def render_review(entries: Iterable[Entry]) -> str:
    """The text of a review file, which `load_review` reads as the same entries."""
    return "\n".join([HEADER, *(render_entry(entry) for entry in entries)])


def render_entry(entry: Entry) -> str:
    """One ``[[entry]]``."""
    values = {
        "class": entry.class_name,
        "kind": entry.kind,
        "fingerprint": entry.fingerprint,
        "look": entry.look,
        "places": entry.places,
        "crop": entry.crop,
    }
    said = {"name": entry.name, "verdict": entry.verdict, "who": entry.who}
    lines = [f"{key} = {quote(value)}" for key, value in values.items() if value]
    lines += [f"{key} = {quote(value)}" for key, value in said.items()]
    lines += [f"when = {entry.when}", f"why = {quote(entry.why)}"]
    lines += [] if entry.limit is None else [f"limit = {entry.limit!r}"]
    return "\n".join(["[[entry]]", *lines, ""])


def write_review(review: Review) -> None:
    """Write the file of a review, by a rename.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(review.path)
    try:
        write_whole(path, render_review(review.entries))
    except OSError as error:
        raise OutputError(str(path), f"cannot be written ({error.strerror})") from error
