"""Texts of others as one printable line."""

from __future__ import annotations


def plain(text: str) -> str:
    """One printable line: names of files and classes must not move the cursor, colour or forge lines."""
    if text.lstrip().startswith("::"):  # there and at "##[" a continuous integration reads commands
        text = text.replace(":", "\\x3a", 1)
    text = text.replace("##[", "\\x23#[")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
