"""Numbers as a reader meets them: one rule per quantity, used by every table, chart and sentence."""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Sequence

DASH = "–"
NOT_REACHED = "not reached"
NBSP = "\u00a0"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def strength(value: float | None) -> str:
    """A strength α or α̂ (or another positive quantity without a unit) with three significant digits."""
    if value is None:
        return NOT_REACHED
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


def percent(value: float) -> str:
    """A share in 0..1 as a percentage with one decimal."""
    return f"{100 * value:,.1f}{NBSP}%"


def points(value: float) -> str:
    """A difference of two shares in percentage points, always with its sign."""
    rounded = round(100 * value, 1)
    sign = "+" if rounded > 0 else "−" if rounded < 0 else "±"
    return f"{sign}{abs(rounded):.1f}"


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
        return f"at least {strength(low)}"
    if low is None:
        return f"at most {strength(high)}"
    return f"{strength(low)} to {strength(high)}"


def percent_interval(low: float, high: float) -> str:
    """The interval of a share in percent, without the sign."""
    return f"{100 * low:.1f}–{100 * high:.1f}"


def names(values: Sequence[str], limit: int = 5) -> str:
    """Some names as a phrase: the first `limit` and how many more there are."""
    shown = [clean(value) for value in values[:limit]]
    more = len(values) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def plural(n: int, singular: str, many: str | None = None) -> str:
    """``1 class``, ``2 classes``."""
    return f"{count(n)} {singular if n == 1 else many or singular + 's'}"


def moment(created: str) -> datetime.datetime:
    """The aware time that an ISO 8601 text names; UTC where it names no zone.

    Raises:
        ValueError: not ISO 8601.
    """
    # Python 3.10 reads no "Z"
    parsed = datetime.datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", created))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.timezone.utc)


def clean(text: str) -> str:
    """Text without control characters and lone surrogates, which no document may hold."""
    bad = ("Cc", "Cs", "Cn", "Co")
    return "".join("\ufffd" if unicodedata.category(c) in bad and c != "\n" else c for c in text)
