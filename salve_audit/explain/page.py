"""Findings as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from salve_audit import __version__
from salve_audit.explain.findings import (
    ClassScore,
    Decomposition,
    EditFinding,
    Explanation,
    FeaturePart,
    Pieces,
    ShownMap,
)
from salve_audit.explain.words import (
    SUM,
    conclude,
    conclude_edit,
    conclude_pieces,
    describe_flip,
    describe_piece,
    list_parts,
    name_feature,
    name_piece,
    show_share,
    signed,
)
from salve_audit.report.html import make_environment
from salve_audit.report.numbers import percent
from salve_audit.report.tables import Shown
from salve_audit.report.view.pictures import show
from salve_audit.saliency.thumbnails import encode_picture


@dataclass(frozen=True)
class Bar:
    """A part of the sum as a bar from zero: start and length in percent of the axis."""

    name: str
    note: str
    value: str
    share: str
    lead: str
    flip: str
    start: float
    length: float
    negative: bool


@dataclass(frozen=True)
class Tile:
    """Pictures, one above the other, with words."""

    images: tuple[Shown, ...]
    first: str
    second: str


def render_page(found: Sequence[Explanation]) -> str:
    """The page of all findings.

    Raises:
        OutputError: the installation lacks its templates.
    """
    template = make_environment().get_template("explain.html.j2")
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return template.render(
        tool=f"salve-audit {__version__}", date=today, findings=[_View(one, place) for place, one in enumerate(found)]
    )


class _View:
    """One finding as the template prints it."""

    def __init__(self, found: Explanation, place: int) -> None:
        one, edit, maps = found.decomposition, found.edit, found.maps
        self.place, self.found = place, found
        self.title = found.image.replace("\\", "/").rsplit("/", 1)[-1]
        self.conclusion = conclude(found)
        alt = f"The picture {self.title} as the network sees it, predicted as {found.predicted.name}"
        self.picture = _show(found.pixels, alt)
        self.scores = _score_rows(found.scores)
        self.logit, self.why_sum = f"{one.logit:.2f}", SUM
        self.bars, self.zero = draw_bars(one)
        self.features = self._tiles_of_features(found)
        self.edit = None if edit is None else edit.steps
        self.edit_conclusion = "" if edit is None else conclude_edit(edit)
        self.changes = [] if edit is None else _change_rows(edit)
        self.before = [] if maps is None else [_cam(each, "before", found.scores) for each in maps.before]
        own = found.predicted.name
        self.pieces = [] if found.pieces is None else _piece_tiles(found.pieces, own)
        self.pieces_conclusion = "" if found.pieces is None else conclude_pieces(found.pieces, own)
        after = () if edit is None or maps is None else maps.after
        self.after = [_cam(each, "after", () if edit is None else edit.after) for each in after]

    def _tiles_of_features(self, found: Explanation) -> list[Tile]:
        if found.maps is None:
            return []
        parts = zip(found.maps.features, found.decomposition.features, strict=True)
        return [_tile(shown, name_feature(part), f"adds {signed(part.part)}") for shown, part in parts]


def _score_rows(scores: Sequence[ClassScore]) -> list[tuple[str, str, str, float]]:
    return [(one.name, percent(one.probability), f"{one.logit:.2f}", 100 * one.probability) for one in scores]


def _change_rows(edit: EditFinding) -> list[tuple[str, str, str, float, float]]:
    return [
        (one.name, percent(was.probability), percent(one.probability), 100 * was.probability, 100 * one.probability)
        for was, one in zip(edit.before, edit.after, strict=True)
    ]


def _cam(shown: ShownMap, when: str, scores: Sequence[ClassScore]) -> Tile:
    name = shown.of.removesuffix(" after the edit")
    chance = next((percent(one.probability) for one in scores if one.name == name), "")
    return _tile(shown, name, f"{chance} {when}".strip())


def _tile(shown: ShownMap, first: str, second: str) -> Tile:
    heats = zip((shown.paper, shown.sharp), shown.alts, strict=True)
    return Tile(tuple(_show(one.overlay, alt) for one, alt in heats), first, second)


def _piece_tiles(pieces: Pieces, own: str) -> list[Tile]:
    tiles = []
    for number, one in enumerate(pieces.found, 1):
        name = name_piece(one, number)
        outlined = _show(one.outlined, f"The picture with {name} outlined, {percent(one.area)} of its area")
        without = _show(one.without, f"The picture with {name} taken out")
        tiles.append(Tile((outlined, without), name, describe_piece(one, own)))
    return tiles


def _show(pixels: UInt8[np.ndarray, "h w 3"], alt: str) -> Shown:
    return show(encode_picture(pixels), alt)


def draw_bars(one: Decomposition) -> tuple[list[Bar], float]:
    """Bars of all parts on one axis, and where its zero lies in percent."""
    rows = [(name_feature(each), each.part, each) for each in one.features]
    others: list[tuple[str, float, FeaturePart | None]] = [(name, value, None) for name, value in list_parts(one)]
    values = [value for _, value, _ in rows] + [value for _, value, _ in others]
    low, high = min(0.0, *values), max(0.0, *values)
    span = (high - low) or 1.0
    bars = [_bar(one, name, value, part, (low, span)) for name, value, part in [*rows, *others]]
    return bars, 100 * -low / span


def _bar(one: Decomposition, name: str, value: float, part: FeaturePart | None, axis: tuple[float, float]) -> Bar:
    start, end = sorted(100 * (edge - axis[0]) / axis[1] for edge in (0.0, value))
    return Bar(
        name=name,
        note=_note(part),
        value=signed(value),
        share=show_share(one, value),
        lead="" if part is None else signed(part.lead),
        flip="" if part is None else describe_flip(part.flip),
        start=start,
        length=end - start,
        negative=value < 0,
    )


def _note(part: FeaturePart | None) -> str:
    if part is None or not part.dominant_for:
        return ""
    more = "" if len(part.dominant_for) <= 2 else ", …"
    return f"dominant for {', '.join(part.dominant_for[:2])}{more}"
