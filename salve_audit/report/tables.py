"""Tables as data: every empty cell says why it is empty, every cut says where the rest is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from salve_audit.report.language import say
from salve_audit.report.numbers import DASH, count


@dataclass(frozen=True)
class Missing:
    """A value that does not exist, and the reason, which becomes a footnote."""

    reason: str


@dataclass(frozen=True)
class Noted:
    """A value that needs a word of explanation, which becomes a footnote."""

    text: str
    note: str


@dataclass(frozen=True)
class Chips:
    """Several short words in one cell."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """An image of the audit: its data URL, size in CSS pixels, the text for those who cannot see it."""

    url: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Thumbnails:
    """Several images in one cell, each with a word below it."""

    images: tuple[tuple[Shown, str], ...]


Value = str | Missing | Noted | Chips | Thumbnails


@dataclass(frozen=True)
class Column:
    """A column's header and kind: "name" (the row's header), "num" (right-aligned), "text" or "wrap" (long text)."""

    header: str
    kind: str = "num"


@dataclass(frozen=True)
class Cell:
    """The printed content of a table cell: text, the letter of a footnote, and words or images side by side."""

    text: str
    kind: str
    mark: str = ""
    words: tuple[str, ...] = ()
    images: tuple[tuple[Shown, str], ...] = ()


@dataclass(frozen=True)
class Table:
    """A finished table; `notes` are (letter, text) pairs, `cut` says what was left out."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[tuple[str, str], ...] = ()
    cut: str = ""


def make_table(
    caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Value]], limit: int, rest: str
) -> Table:
    """A table of at most `limit` rows; `rest` names where the others are, for instance ``classes[]``."""
    everything = list(rows)
    letters: dict[str, str] = {}
    made = tuple(
        tuple(_cell(value, column.kind, letters) for value, column in zip(row, columns, strict=True))
        for row in everything[:limit]
    )
    left = len(everything) - len(made)
    cut = (
        say(
            "The first {limit} of {total} rows; all are in audit.json under {rest}.",
            limit=count(limit),
            total=count(len(everything)),
            rest=rest,
        )
        if left > 0
        else ""
    )
    return Table(caption, tuple(columns), made, tuple((mark, reason) for reason, mark in letters.items()), cut)


def _cell(value: Value, kind: str, letters: dict[str, str]) -> Cell:
    if isinstance(value, (Missing, Noted)):
        text, note = (DASH, value.reason) if isinstance(value, Missing) else (value.text, value.note)
        mark = letters.setdefault(note, chr(ord("a") + len(letters)))
        return Cell(text, kind, mark)
    if isinstance(value, Chips):
        return Cell("" if value.words else DASH, kind, words=value.words)
    if isinstance(value, Thumbnails):
        return Cell("", kind, images=value.images)
    return Cell(value, kind)
