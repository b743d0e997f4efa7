"""Texts of others as one printable line."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """One printable line: names of files and classes must not move the cursor, colour or forge lines."""
    if text.lstrip().startswith("::"):  # there and at "##[" a continuous integration reads commands
        text = text.replace(":", "\\x3a", 1)
    text = text.replace("##[", "\\x23#[")
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    is_space = unicodedata.category(character) == "Zs"  # no-break and typographic spaces, as between number and unit
    return " " if is_space else character.encode("unicode_escape").decode("ascii")
