"""The digest that audit.json carries over its own numbers.

It is the sha256 of the file's canonical text (sorted keys, indented by one) without the keys `created` and `digest`. It
tells accidents and edits by hand, not forgery: who changes a number on purpose can compute it anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

DIGEST = "digest"
_LEFT_OUT = ("created", DIGEST)
_UNSET = "0" * 64
_FLAT, _BREAK = re.compile(r"[\[{]\n[^\[\]{}]*[\]}]"), re.compile(r"\n *")  # no string has a line break inside


def canonical(value: Mapping[str, Any]) -> str:
    """The text of a plain value as audit.json is written."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def seal(value: Mapping[str, Any]) -> str:
    """The canonical text with its digest."""
    text = canonical({**value, DIGEST: _UNSET})
    return text.replace(f' "{DIGEST}": "{_UNSET}"', f' "{DIGEST}": "{_hash(text)}"', 1)


def join_flat(text: str) -> str:
    """The text with each list and record of plain values on one line: where there are many, indentation is a fifth."""
    return _FLAT.sub(lambda found: _BREAK.sub("", found.group()), text)


def is_sealed(text: str, value: Mapping[str, Any]) -> bool:
    """True where the digest in the text of an audit.json is that of its numbers, however they are laid out.

    Args:
        text: of the file.
        value: the same, read.
    """
    digest = value.get(DIGEST)
    if _hash(text) == digest:
        return True
    try:
        return _hash(canonical({key: part for key, part in value.items() if key not in _LEFT_OUT})) == digest
    except ValueError:  # a number that is not finite, which no audit writes
        return False


def _hash(text: str) -> str:
    for key in _LEFT_OUT:
        text = _without_line(text, f'\n "{key}": ')
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _without_line(text: str, start: str) -> str:
    """The text without the line that starts so: one space before a key is the top level, and strings have no lines."""
    at = text.find(start)
    if at < 0:
        return text
    end = text.find("\n", at + 1)
    return text[:at] + (text[end:] if end >= 0 else "")
