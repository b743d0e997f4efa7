"""A canvas that collects SVG elements, and the few shapes that the charts are made of.

Styles are presentation attributes, since a PDF renderer does not apply the page's style sheet inside an SVG.
A series is one ``<path>``: thousands of single circles would make the PDF slow. The PDF renderer sets SVG text letter
by letter, which breaks joined, combining and right-to-left scripts; for it, such texts are given apart, as labels.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from salve_audit.report.fonts import TEXT
from salve_audit.report.numbers import clean, clip

FONT = f"{TEXT}, Noto Sans, sans-serif"
INK, MUTED, RULE = "#1a1a1a", "#595959", "#d4d4d4"
# Okabe and Ito's colours that differ in lightness as well
BLUE, VERMILLION, ORANGE, GREEN, SKY = "#0072b2", "#d55e00", "#e69f00", "#009e73", "#56b4e9"

_NARROW, _WIDE = set("iljtfrI.,:;'|!()[] "), set("mwMW@%&")


@dataclass(frozen=True)
class Label:
    """A text to be laid over an image, where an SVG text with the same anchor and baseline would stand."""

    text: str
    x: float
    y: float
    size: float
    anchor: str
    bold: bool
    turn: float  # degrees, clockwise


@dataclass(frozen=True)
class Drawing:
    """A finished image: complete as `svg`, or as `bare` without the texts in `labels`."""

    svg: Markup
    bare: Markup
    labels: tuple[Label, ...]
    width: float
    height: float


class Canvas:
    """An SVG image of a given size in CSS pixels, with a title and a description for those who cannot see it."""

    def __init__(self, width: float, height: float, title: str, desc: str, axis: str = "") -> None:
        self.width, self.height = width, height
        self._axis = f' data-axis="{_escape(axis)}"' if axis else ""  # for the page's script
        self._head = f"<title>{_escape(title)}</title><desc>{_escape(desc)}</desc>"
        self._parts: list[str] = []
        self._labels: dict[int, Label] = {}  # by position in the parts

    def path(self, d: str, *, fill: str = "none", stroke: str = "none", width: float = 1, dash: str = "") -> None:
        """One path; nothing is drawn for an empty one."""
        if d:
            dashes = f' stroke-dasharray="{dash}"' if dash else ""
            line = f' stroke="{stroke}" stroke-width="{width:g}"{dashes}' if stroke != "none" else ""
            self._parts.append(f'<path d="{d}" fill="{fill}"{line}/>')

    def text(
        self,
        at: tuple[float, float],
        text: str,
        *,
        anchor: str = "start",
        size: float = 11,
        fill: str = INK,
        bold: bool = False,
        turn: float = 0,
    ) -> None:
        """Text whose baseline starts, ends or is centred at a point, turned around it by degrees."""
        x, y, plain = num(at[0]), num(at[1]), clean(text)
        if _needs_shaping(plain):
            self._labels[len(self._parts)] = Label(plain, *at, size, anchor, bold, turn)
        extra = f' transform="rotate({turn:g} {x} {y})"' if turn else ""
        extra += ' font-weight="bold"' if bold else ""
        shifts, spelled = _place_hats(plain, size)
        self._parts.append(
            f'<text x="{x}" y="{y}" font-size="{size:g}" text-anchor="{anchor}" fill="{fill}"{shifts}{extra}>'
            f"{_escape(spelled)}</text>"
        )

    def render(self) -> Drawing:
        """The image, safe to put into a page."""
        bare = [part for i, part in enumerate(self._parts) if i not in self._labels]
        drawing = self._element(self._parts)
        return Drawing(drawing, self._element(bare), tuple(self._labels.values()), self.width, self.height)

    def _element(self, parts: Iterable[str]) -> Markup:
        w, h = num(self.width), num(self.height)
        opening = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}"'
        opening += self._axis
        return Markup(f'{opening} font-family="{FONT}">{self._head}{"".join(parts)}</svg>')


def _needs_shaping(text: str) -> bool:
    """True where any letter is right-to-left or combining; α̂ does not count, since its hat is placed by hand."""
    letters = text.replace("α̂", "")
    return any(unicodedata.bidirectional(c) in ("R", "AL") or unicodedata.category(c)[0] == "M" for c in letters)


def _place_hats(text: str, size: float) -> tuple[str, str]:
    """α̂ as α and a circumflex that is moved back over it: a renderer that sets single letters cannot combine them."""
    if "α̂" not in text:
        return "", text
    spelled = text.replace("α̂", "αˆ")
    shifts = [0.0] * (len(spelled) + 1)
    for i, letter in enumerate(spelled):
        if letter == "ˆ":
            shifts[i], shifts[i + 1] = -0.57 * size, 0.157 * size  # widths of α and ˆ: 0.664 and 0.413 em
    values = " ".join(f"{shift:.2f}".rstrip("0").rstrip(".") for shift in shifts[: len(spelled)])
    return f' dx="{values}"', spelled


def num(value: float) -> str:
    """A coordinate with one decimal at most."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def _escape(text: str) -> str:
    return html.escape(clean(text), quote=True)


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """Straight lines through points."""
    return "".join(f"{'L' if i else 'M'}{num(x)} {num(y)}" for i, (x, y) in enumerate(points))


def segment(x1: float, y1: float, x2: float, y2: float) -> str:
    """One straight line."""
    return f"M{num(x1)} {num(y1)}L{num(x2)} {num(y2)}"


def box(x: float, y: float, width: float, height: float) -> str:
    """A rectangle."""
    return f"M{num(x)} {num(y)}h{num(width)}v{num(height)}h{num(-width)}z"


def circle(x: float, y: float, r: float) -> str:
    """A circle around a point."""
    return f"M{num(x - r)} {num(y)}a{num(r)} {num(r)} 0 1 0 {num(2 * r)} 0a{num(r)} {num(r)} 0 1 0 {num(-2 * r)} 0z"


def diamond(x: float, y: float, r: float) -> str:
    """A square standing on its corner."""
    return f"M{num(x - r)} {num(y)}L{num(x)} {num(y - r)}L{num(x + r)} {num(y)}L{num(x)} {num(y + r)}z"


def triangle(x: float, y: float, r: float) -> str:
    """A triangle pointing up."""
    return f"M{num(x - r)} {num(y + 0.7 * r)}L{num(x)} {num(y - r)}L{num(x + r)} {num(y + 0.7 * r)}z"


def square(x: float, y: float, r: float) -> str:
    """A square around a point."""
    return box(x - r, y - r, 2 * r, 2 * r)


def arrow(x: float, y: float, r: float = 4) -> str:
    """The head of an arrow that points right and ends at a point: it goes on beyond the axis."""
    return f"M{num(x - r)} {num(y - r)}L{num(x)} {num(y)}L{num(x - r)} {num(y + r)}"


def text_width(text: str, size: float = 11) -> float:
    """A generous estimate of a text's width in a sans-serif face."""
    ems = sum(0.32 if c in _NARROW else 0.9 if c in _WIDE else 1.0 if ord(c) > 0x2E80 else 0.6 for c in text)
    return ems * size


def shortened(text: str, width: float, size: float = 11) -> str:
    """`text`, without its middle where it would be wider than `width`."""
    most = int(width / (0.32 * size)) + 2  # no text of so many characters fits; longer ones would take ages
    length = min(len(clean(text)), most)
    short = clip(text, length)
    while length > 1 and text_width(short, size) > width:
        length -= 1
        short = clip(text, length)
    return short


def distinct_labels(texts: Sequence[str], width: float, size: float = 11) -> list[str]:
    """The texts shortened to a width, numbered where two different ones would look alike."""
    labels = [shortened(text, width, size) for text in texts]
    for i, text in enumerate(texts):
        if any(labels[j] == labels[i] and texts[j] != text for j in range(len(texts)) if j != i):
            mark = f" ‹{i + 1}›"
            labels[i] = shortened(text, width - text_width(mark, size), size) + mark
    return labels
