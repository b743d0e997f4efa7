"""Findings as one picture, drawn with Pillow: for slides and messages, where no page can be opened."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from salve_audit.explain.findings import Explanation, ShownMap
from salve_audit.explain.words import (
    conclude,
    conclude_edit,
    conclude_pieces,
    describe_flip,
    list_parts,
    name_feature,
    name_piece,
    show_share,
    signed,
)
from salve_audit.report.numbers import NBSP, clean, percent

WIDTH, MARGIN, GAP = 1240, 40, 16
TILE = 176
INK, MUTED, RULE, ACCENT, AGAINST, SOFT = "#1a1a1a", "#595959", "#d4d4d4", "#0b4f7d", "#c96a1b", "#eef0f3"
FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")
BOLD = ("DejaVuSans-Bold.ttf", "LiberationSans-Bold.ttf", "Arial Bold.ttf")
Column = tuple[UInt8[np.ndarray, "h w 3"], ...]  # pictures one below the other
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def render_figure(found: Sequence[Explanation]) -> bytes:
    """A PNG with all findings, one below the other."""
    parts = [_Sheet(one).image for one in found]
    whole = Image.new("RGB", (WIDTH, sum(part.height for part in parts)), "white")
    y = 0
    for part in parts:
        whole.paste(part, (0, y))
        y += part.height
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _font(size: int, bold: bool) -> Font:
    """A font that the system has, else the one that comes with Pillow, which knows fewer scripts."""
    for name in BOLD if bold else FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


@dataclass
class _Sheet:
    """Draws from top to bottom on a canvas that is cut where the drawing ends."""

    found: Explanation

    def __post_init__(self) -> None:
        one = self.found.decomposition
        height = 2300 + 34 * len(one.features) + 800 * (1 + len(one.features) // 6)
        self.canvas = Image.new("RGB", (WIDTH, height), "white")
        self.draw, self.y = ImageDraw.Draw(self.canvas), MARGIN
        self._head()
        self._sum()
        self._pieces()
        self._looks()
        self._classes()
        self.image = self.canvas.crop((0, 0, WIDTH, self.y + MARGIN))

    def _text(self, at: tuple[float, float], text: str, size: int = 17, fill: str = INK, **options: object) -> None:
        bold, right, most = options.get("bold", False), options.get("right", False), options.get("most")
        font = _font(size, bool(bold))
        shown = " ".join(clean(text.replace(NBSP, " ")).split())
        if isinstance(most, int):
            shown = _shorten(shown, font, most)
        self.draw.text(at, shown, fill=fill, font=font, anchor="rm" if right else "lm")

    def _paragraph(self, text: str, size: int = 18, x: int = MARGIN, width: int = WIDTH - 2 * MARGIN) -> None:
        font, line = _font(size, False), ""
        lines = []
        for word in clean(text.replace(NBSP, " ")).split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        for one in [*lines, line]:
            self._text((x, self.y + size * 0.7), one, size, most=width)
            self.y += round(size * 1.5)

    def _heading(self, text: str) -> None:
        self.y += 14
        self._text((MARGIN, self.y + 14), text, 22, ACCENT, bold=True, most=WIDTH - 2 * MARGIN)
        self.y += 40

    def _head(self) -> None:
        found, top = self.found, 0
        title = found.image.replace("\\", "/").rsplit("/", 1)[-1]
        self._text((MARGIN, self.y + 8), f"{found.model} ({found.architecture})", 15, MUTED, most=WIDTH - 2 * MARGIN)
        self._text((MARGIN, self.y + 40), title, 28, bold=True, most=WIDTH - 2 * MARGIN)
        self.y += 72
        self._paragraph(conclude(found))
        self.y += 8
        top = self.y
        self.canvas.paste(Image.fromarray(found.pixels), (MARGIN, top))
        bottom = top + found.pixels.shape[0]
        self.y = top
        x = MARGIN + found.pixels.shape[1] + 40
        self._scores(x, found)
        self.y = max(self.y, bottom) + 10

    def _scores(self, x: int, found: Explanation) -> None:
        edit = found.edit
        self._text((x, self.y + 12), "what the model says", 16, MUTED)
        if edit is not None:
            self._text((x + 560, self.y + 12), "after the edit", 16, MUTED)
        self.y += 34
        after = {} if edit is None else {one.index: one for one in edit.after}
        for one in found.scores:
            self._score(x, one.name, one.probability, ACCENT)
            if one.index in after:
                self._score(x + 560, "", after[one.index].probability, AGAINST)
            self.y += 34

    def _score(self, x: int, name: str, probability: float, colour: str) -> None:
        wide = 190 if name else 0
        if name:
            self._text((x, self.y + 12), name, 17, most=180)
        self.draw.rectangle((x + wide, self.y + 3, x + wide + 230, self.y + 21), fill=SOFT)
        self.draw.rectangle(
            (x + wide, self.y + 3, x + wide + max(1, round(230 * probability)), self.y + 21), fill=colour
        )
        self._text((x + wide + 315, self.y + 12), percent(probability), 17, right=True)

    def _sum(self) -> None:
        one = self.found.decomposition
        self._heading(f"What makes up the logit of {one.class_name}: {one.logit:.2f}")
        bar, adds, share, flip = (330, 760), 850, 950, 990
        self._text((MARGIN, self.y + 8), "part", 15, MUTED)
        for x, text in ((adds, "adds"), (share, "share")):
            self._text((x, self.y + 8), text, 15, MUTED, right=True)
        self._text((flip, self.y + 8), "flips at α̂, to", 15, MUTED)
        self.y += 28
        rows = [(name_feature(each), each.part, describe_flip(each.flip)) for each in one.features]
        rows += [(name, value, "") for name, value in list_parts(one)]
        values = [value for _, value, _ in rows]
        low, high = min(0.0, *values), max(0.0, *values)
        unit = (bar[1] - bar[0]) / ((high - low) or 1.0)
        zero = bar[0] - low * unit
        for place, (name, value, when) in enumerate(rows):
            if place == len(one.features):
                self.draw.line((MARGIN, self.y, WIDTH - MARGIN, self.y), fill=RULE)
            self._text((MARGIN, self.y + 15), name, 17, INK if place < len(one.features) else MUTED, most=280)
            ends = sorted((zero, zero + value * unit))
            self.draw.rectangle((ends[0], self.y + 6, ends[1], self.y + 23), fill=ACCENT if value > 0 else AGAINST)
            self.draw.line((zero, self.y + 1, zero, self.y + 28), fill=INK)
            self._text((adds, self.y + 15), signed(value), 17, right=True)
            self._text((share, self.y + 15), show_share(one, value), 17, right=True)
            self._text((flip, self.y + 15), when, 17, most=WIDTH - MARGIN - flip)
            self.y += 30
        self._text((MARGIN, self.y + 12), "blue: speaks for the class; orange: against it", 14, MUTED)
        self.y += 26

    def _looks(self) -> None:
        found = self.found
        if found.maps is None:
            self._heading("No heat maps")
            self._paragraph(f"{found.why_no_maps}.")
            return
        self._heading("Where the features look: Grad-FAM, below it integrated gradients")
        notes = [f"adds {signed(one.part)}" for one in found.decomposition.features]
        names = [name_feature(one) for one in found.decomposition.features]
        self._tiles(_both(found.maps.features), names, notes)
        self._text((MARGIN, self.y + 6), "dark blue: least, yellow: most; outlined: the hottest fifth", 14, MUTED)
        self.y += 22

    def _classes(self) -> None:
        found = self.found
        if found.edit is not None:
            self._heading(
                "Before and after the edit"
                + (": Grad-CAM, below it integrated gradients" if found.maps is not None else "")
            )
            self._paragraph("; ".join(found.edit.steps), 16)
            self._paragraph(conclude_edit(found.edit))
            self.y += 6
        elif found.maps is not None:
            self._heading("Where the class looks: Grad-CAM, below it integrated gradients")
        if found.maps is not None:
            maps = [*found.maps.before, *found.maps.after]
            notes = ["before" if found.edit else ""] * len(found.maps.before) + ["after"] * len(found.maps.after)
            self._tiles(_both(maps), [one.of.removesuffix(" after the edit") for one in maps], notes)

    def _pieces(self) -> None:
        pieces, own = self.found.pieces, self.found.predicted.name
        if pieces is None:
            return
        self._heading("What the prediction rests on in the picture")
        self._paragraph(conclude_pieces(pieces, own))
        self.y += 6
        names = [name_piece(one, number) for number, one in enumerate(pieces.found, 1)]
        notes = [f"{one.predicted} {percent(one.probability)}" for one in pieces.found]
        self._tiles([(one.outlined, one.without) for one in pieces.found], names, notes)
        if notes:
            self._text((MARGIN, self.y + 6), "below it taken out, and what the model says then", 14, MUTED)
            self.y += 22

    def _tiles(self, columns: Sequence[Column], names: Sequence[str], notes: Sequence[str]) -> None:
        in_row = (WIDTH - 2 * MARGIN + GAP) // (TILE + GAP)
        for start in range(0, len(columns), in_row):
            tall = 0
            for place in range(start, min(start + in_row, len(columns))):
                x = MARGIN + (place - start) * (TILE + GAP)
                y = self.y
                for pixels in columns[place]:
                    picture = _fit(pixels)
                    self.canvas.paste(picture, (x, y))
                    y += picture.height + 3
                tall = max(tall, y - self.y)
                self._text((x, y + 12), names[place], 15, bold=True, most=TILE)
                self._text((x, y + 32), notes[place], 15, MUTED, most=TILE)
            self.y += tall + 54


def _both(maps: Sequence[ShownMap]) -> list[Column]:
    return [(one.paper.overlay, one.sharp.overlay) for one in maps]


def _fit(pixels: UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    """A tile's picture."""
    image = Image.fromarray(pixels)
    scale = TILE / max(image.size)
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )


def _shorten(text: str, font: Font, most: int) -> str:
    """The text, or as much of it as fits."""
    if font.getlength(text) <= most:
        return text
    while text and font.getlength(text + "…") > most:
        text = text[:-1]
    return text + "…"
