"""Numbers and names as a reader meets them: one rule per quantity, used by every table, chart and sentence."""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Sequence

from salve_audit.report.language import say

DASH = "–"
NOT_REACHED = "not reached"
NBSP = "\u00a0"
LONGEST_NAME = 40  # characters of a name in a sentence or a table; the whole name is in the index and on hover
WHOLE_PERCENTS_UP_TO = 100  # images, where a decimal would claim more than was counted
# Marks around a name in a text, which the page turns into a bidirectional isolate. Private characters: no name that
# went through `clean` holds them.
ISOLATE, POP = "\ue000", "\ue001"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_NO_TEXT = ("Cc", "Cs", "Cn", "Co")
_JOINERS = "\u200c\u200d"  # parts of ordinary words and emoji


def strength(value: float | None) -> str:
    """A strength α or α̂ (or another positive quantity without a unit) with three significant digits."""
    if value is None:
        return say(NOT_REACHED)
    if value == 0:
        return "0"
    size = abs(float(f"{value:.2e}"))
    if not 1e-3 <= size < 1e5:
        mantissa, exponent = f"{value:.2e}".split("e")
        power = str(int(exponent)).translate(_SUPERSCRIPT)
        return f"{mantissa}{NBSP}×{NBSP}10{power}".replace("-", "−")
    decimals = max(0, 2 - math.floor(math.log10(size)))
    rounded = round(value, 2 - math.floor(math.log10(size)))
    return f"{rounded:,.{decimals}f}".replace("-", "−")


def percent(value: float, n: int | None = None) -> str:
    """A share in 0..1 as a percentage of three digits at most; of at most 100 images in whole percents."""
    return f"{_hundredths(value, n)}{NBSP}%"


def _hundredths(value: float, n: int | None = None) -> str:
    whole = n is not None and n <= WHOLE_PERCENTS_UP_TO
    text = f"{100 * value:,.{0 if whole else 1}f}"
    text = text[:-2] if text in ("100.0", "-100.0") else text
    return "0" if text == "-0" else text.replace("-", "−")


def points(value: float) -> str:
    """A difference of two shares in percentage points, always with its sign."""
    rounded = round(100 * value, 1)
    sign = "+" if rounded > 0 else "−" if rounded < 0 else "±"
    return f"{sign}{abs(rounded):.0f}" if abs(rounded) >= 100 else f"{sign}{abs(rounded):.1f}"


def count(value: int) -> str:
    """An integer with thousands separated."""
    return f"{value:,}"


def p_value(value: float) -> str:
    """A p-value with two significant digits, never 0."""
    if value < 0.001:
        return "< 0.001"
    return f"{value:.2f}" if value >= 0.0995 else f"{value:.2g}"


def strength_interval(low: float | None, high: float | None) -> str | None:
    """The interval of a strength; an open upper end means that it is not reached. None: there is no interval."""
    if low is None and high is None:
        return None
    if high is None:
        return say("at least {x}", x=strength(low))
    if low is None:
        return say("at most {x}", x=strength(high))
    return say("{low} to {high}", low=strength(low), high=strength(high))


def percent_interval(low: float, high: float, n: int | None = None) -> str:
    """The interval of a share in percent, without the sign; rounded outwards where it is of at most 100 images."""
    if n is not None and n <= WHOLE_PERCENTS_UP_TO:
        low, high = math.floor(100 * low + 1e-9) / 100, math.ceil(100 * high - 1e-9) / 100
    return f"{_hundredths(low, n)}–{_hundredths(high, n)}"


def names(values: Sequence[str], limit: int = 5) -> str:
    """Some names as a phrase: the first `limit`, each clipped and isolated, and how many more there are."""
    shown = [name(value) for value in values[:limit]]
    more = len(values) - len(shown)
    if more:
        return say("{names} and {n} more", names=", ".join(shown), n=more)
    return say(" and ").join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def name(value: str) -> str:
    """A name within a sentence: clipped, and isolated so that its direction leaves the sentence alone."""
    return f"{ISOLATE}{clip(value)}{POP}"


def clip(text: str, most: int = LONGEST_NAME) -> str:
    """Clean text of at most `most` characters; a longer one loses its middle, where names differ least."""
    text = clean(text).replace("\n", " ")
    if len(text) <= most:
        return text
    head = (most - 1 + 1) // 2
    tail = most - 1 - head
    start, end = text[:head], text[len(text) - tail :]
    while end and (unicodedata.combining(end[0]) or end[0] in _JOINERS):
        end = end[1:]
    return f"{start.rstrip(_JOINERS)}…{end}"


def moment(created: str) -> datetime.datetime:
    """The aware time that an ISO 8601 text names; UTC where it names no zone.

    Raises:
        ValueError: not ISO 8601.
    """
    # Python 3.10 reads no "Z"
    parsed = datetime.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", created))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.timezone.utc)


def clean(text: str) -> str:
    """Text whose control, format and unassigned characters are shown as their codes instead of obeyed."""
    if text.isprintable():  # nearly all; none of what is shown as a code counts as printable
        return text
    return "".join(c if c == "\n" or _is_text(c) else f"‹U+{ord(c):04X}›" for c in text)


def _is_text(character: str) -> bool:
    category = unicodedata.category(character)
    return category not in _NO_TEXT and (category != "Cf" or character in _JOINERS)


def isolated(text: str) -> str:
    """Text whose marks around names have become directional isolates, and which is clean otherwise."""
    parts = re.split(f"([{ISOLATE}{POP}])", text)
    return "".join({ISOLATE: "\u2068", POP: "\u2069"}.get(part) or clean(part) for part in parts)


def unmarked(text: str) -> str:
    """Text without the marks around names, for plain output."""
    return text.replace(ISOLATE, "").replace(POP, "")
