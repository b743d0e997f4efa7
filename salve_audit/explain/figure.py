"""Findings as one image, drawn with Pillow: for slides and messages, where no page can be opened."""

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
    conclude_regions,
    describe_flip,
    list_parts,
    name_feature,
    name_region,
    show_share,
    signed,
)
from salve_audit.report.numbers import NBSP, clean, percent

WIDTH, MARGIN, GAP = 1240, 40, 16
TILE = 176
INK, MUTED, RULE, ACCENT, AGAINST, SOFT = "#1a1a1a", "#595959", "#d4d4d4", "#0b4f7d", "#c96a1b", "#eef0f3"
FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")
BOLD = ("DejaVuSans-Bold.ttf", "LiberationSans-Bold.ttf", "Arial Bold.ttf")
Column = tuple[UInt8[np.ndarray, "h w 3"], ...]  # images one below the other
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def render_figure(explanations: Sequence[Explanation]) -> bytes:
    """A PNG with all findings, one below the other."""
    parts = [_Sheet(explanation).image for explanation in explanations]
    sheet = Image.new("RGB", (WIDTH, sum(part.height for part in parts)), "white")
    y = 0
    for part in parts:
        sheet.paste(part, (0, y))
        y += part.height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _font(size: int, bold: bool) -> Font:
    """A font that the system has, else the one that comes with Pillow, which knows fewer scripts."""
    for name in BOLD if bold else FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


@dataclass
class _Sheet:
    """Draws one explanation from top to bottom on a canvas that is cut where the drawing ends."""

    explanation: Explanation

    def __post_init__(self) -> None:
        decomposition = self.explanation.decomposition
        height = 2300 + 34 * len(decomposition.features) + 800 * (1 + len(decomposition.features) // 6)
        self.canvas = Image.new("RGB", (WIDTH, height), "white")
        self.draw, self.y = ImageDraw.Draw(self.canvas), MARGIN
        self._head()
        self._sum()
        self._regions()
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
        for text_line in [*lines, line]:
            self._text((x, self.y + size * 0.7), text_line, size, most=width)
            self.y += round(size * 1.5)

    def _heading(self, text: str) -> None:
        self.y += 14
        self._text((MARGIN, self.y + 14), text, 22, ACCENT, bold=True, most=WIDTH - 2 * MARGIN)
        self.y += 40

    def _head(self) -> None:
        explanation, top = self.explanation, 0
        title = explanation.image.replace("\\", "/").rsplit("/", 1)[-1]
        self._text(
            (MARGIN, self.y + 8),
            f"{explanation.model} ({explanation.architecture})",
            15,
            MUTED,
            most=WIDTH - 2 * MARGIN,
        )
        self._text((MARGIN, self.y + 40), title, 28, bold=True, most=WIDTH - 2 * MARGIN)
        self.y += 72
        self._paragraph(conclude(explanation))
        self.y += 8
        top = self.y
        self.canvas.paste(Image.fromarray(explanation.pixels), (MARGIN, top))
        bottom = top + explanation.pixels.shape[0]
        self.y = top
        x = MARGIN + explanation.pixels.shape[1] + 40
        self._scores(x, explanation)
        self.y = max(self.y, bottom) + 10

    def _scores(self, x: int, explanation: Explanation) -> None:
        edit = explanation.edit
        self._text((x, self.y + 12), "what the model says", 16, MUTED)
        if edit is not None:
            self._text((x + 560, self.y + 12), "after the edit", 16, MUTED)
        self.y += 34
        after = {} if edit is None else {score.index: score for score in edit.after}
        for score in explanation.scores:
            self._score(x, score.name, score.probability, ACCENT)
            if score.index in after:
                self._score(x + 560, "", after[score.index].probability, AGAINST)
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
        decomposition = self.explanation.decomposition
        self._heading(f"What makes up the logit of {decomposition.class_name}: {decomposition.logit:.2f}")
        bar, adds, share, flip = (330, 760), 850, 950, 990
        self._text((MARGIN, self.y + 8), "part", 15, MUTED)
        for x, text in ((adds, "adds"), (share, "share")):
            self._text((x, self.y + 8), text, 15, MUTED, right=True)
        self._text((flip, self.y + 8), "flips at α̂, to", 15, MUTED)
        self.y += 28
        rows = [(name_feature(each), each.part, describe_flip(each.flip)) for each in decomposition.features]
        rows += [(name, value, "") for name, value in list_parts(decomposition)]
        values = [value for _, value, _ in rows]
        low, high = min(0.0, *values), max(0.0, *values)
        unit = (bar[1] - bar[0]) / ((high - low) or 1.0)
        zero = bar[0] - low * unit
        for place, (name, value, when) in enumerate(rows):
            if place == len(decomposition.features):
                self.draw.line((MARGIN, self.y, WIDTH - MARGIN, self.y), fill=RULE)
            self._text((MARGIN, self.y + 15), name, 17, INK if place < len(decomposition.features) else MUTED, most=280)
            ends = sorted((zero, zero + value * unit))
            self.draw.rectangle((ends[0], self.y + 6, ends[1], self.y + 23), fill=ACCENT if value > 0 else AGAINST)
            self.draw.line((zero, self.y + 1, zero, self.y + 28), fill=INK)
            self._text((adds, self.y + 15), signed(value), 17, right=True)
            self._text((share, self.y + 15), show_share(decomposition, value), 17, right=True)
            self._text((flip, self.y + 15), when, 17, most=WIDTH - MARGIN - flip)
            self.y += 30
        self._text((MARGIN, self.y + 12), "blue: speaks for the class; orange: against it", 14, MUTED)
        self.y += 26

    def _looks(self) -> None:
        explanation = self.explanation
        if explanation.maps is None:
            self._heading("No heat maps")
            self._paragraph(f"{explanation.why_no_maps}.")
            return
        self._heading("Where the features look: Grad-FAM, below it integrated gradients")
        notes = [f"adds {signed(part.part)}" for part in explanation.decomposition.features]
        names = [name_feature(part) for part in explanation.decomposition.features]
        self._tiles(_both(explanation.maps.features), names, notes)
        self._text((MARGIN, self.y + 6), "dark blue: least, yellow: most; outlined: the hottest fifth", 14, MUTED)
        self.y += 22

    def _classes(self) -> None:
        explanation = self.explanation
        if explanation.edit is not None:
            self._heading(
                "Before and after the edit"
                + (": Grad-CAM, below it integrated gradients" if explanation.maps is not None else "")
            )
            self._paragraph("; ".join(explanation.edit.steps), 16)
            self._paragraph(conclude_edit(explanation.edit))
            self.y += 6
        elif explanation.maps is not None:
            self._heading("Where the class looks: Grad-CAM, below it integrated gradients")
        if explanation.maps is not None:
            maps = [*explanation.maps.before, *explanation.maps.after]
            notes = ["before" if explanation.edit else ""] * len(explanation.maps.before) + ["after"] * len(
                explanation.maps.after
            )
            self._tiles(_both(maps), [shown_map.of.removesuffix(" after the edit") for shown_map in maps], notes)

    def _regions(self) -> None:
        evidence, own = self.explanation.regions, self.explanation.predicted.name
        if evidence is None:
            return
        self._heading("What the prediction depends on in the image")
        self._paragraph(conclude_regions(evidence, own))
        self.y += 6
        names = [name_region(region, number) for number, region in enumerate(evidence.regions, 1)]
        notes = [f"{region.predicted} {percent(region.probability)}" for region in evidence.regions]
        self._tiles([(region.outlined, region.without) for region in evidence.regions], names, notes)
        if notes:
            self._text((MARGIN, self.y + 6), "below: the region inpainted, and the prediction then", 14, MUTED)
            self.y += 22

    def _tiles(self, columns: Sequence[Column], names: Sequence[str], notes: Sequence[str]) -> None:
        in_row = (WIDTH - 2 * MARGIN + GAP) // (TILE + GAP)
        for start in range(0, len(columns), in_row):
            tall = 0
            for place in range(start, min(start + in_row, len(columns))):
                x = MARGIN + (place - start) * (TILE + GAP)
                y = self.y
                for pixels in columns[place]:
                    image = _fit(pixels)
                    self.canvas.paste(image, (x, y))
                    y += image.height + 3
                tall = max(tall, y - self.y)
                self._text((x, y + 12), names[place], 15, bold=True, most=TILE)
                self._text((x, y + 32), notes[place], 15, MUTED, most=TILE)
            self.y += tall + 54


def _both(maps: Sequence[ShownMap]) -> list[Column]:
    return [(shown_map.paper.overlay, shown_map.sharp.overlay) for shown_map in maps]


def _fit(pixels: UInt8[np.ndarray, "h w 3"]) -> Image.Image:
    """A tile's image."""
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
