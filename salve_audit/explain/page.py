"""Findings as one HTML file that needs nothing else: no script, no font, no image from elsewhere."""

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
    ExplainedFactor,
    ExplainedRegions,
    Explanation,
    FeaturePart,
    ShownMap,
)
from salve_audit.explain.words import (
    SUM,
    conclude,
    conclude_edit,
    conclude_factors,
    conclude_insertion,
    conclude_regions,
    describe_factor,
    describe_flip,
    describe_region,
    list_parts,
    list_telling,
    name_feature,
    name_region,
    show_share,
    signed,
)
from salve_audit.report.html import make_environment
from salve_audit.report.numbers import percent
from salve_audit.report.tables import Shown
from salve_audit.report.view.thumbnails import show
from salve_audit.saliency.thumbnails import encode_image


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
class CaptionedTile:
    """Images, one above the other, with words."""

    images: tuple[Shown, ...]
    first: str
    second: str


def render_page(explanations: Sequence[Explanation]) -> str:
    """The page of all findings.

    Raises:
        OutputError: the installation lacks its templates.
    """
    template = make_environment().get_template("explain.html.j2")
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return template.render(
        tool=f"salve-audit {__version__}",
        date=today,
        findings=[_View(explanation, place) for place, explanation in enumerate(explanations)],
    )


class _View:
    """One finding as the template prints it."""

    def __init__(self, explanation: Explanation, place: int) -> None:
        decomposition, edit, maps = explanation.decomposition, explanation.edit, explanation.maps
        self.place, self.explanation = place, explanation
        self.title = explanation.image.replace("\\", "/").rsplit("/", 1)[-1]
        self.conclusion = conclude(explanation)
        alt = f"The image {self.title} as the network sees it, predicted as {explanation.predicted.name}"
        self.image = _show(explanation.pixels, alt)
        self.scores = _score_rows(explanation.scores)
        self.logit, self.why_sum = f"{decomposition.logit:.2f}", SUM
        self.bars, self.zero = draw_bars(decomposition)
        self.features = self._tiles_of_features(explanation)
        self.edit = None if edit is None else edit.steps
        self.edit_conclusion = "" if edit is None else conclude_edit(edit)
        self.changes = [] if edit is None else _change_rows(edit)
        self.before = [] if maps is None else [_cam(each, "before", explanation.scores) for each in maps.before]
        own = explanation.predicted.name
        self.regions = [] if explanation.regions is None else _region_tiles(explanation.regions, own)
        self.regions_conclusion = "" if explanation.regions is None else conclude_regions(explanation.regions, own)
        factors = explanation.factors
        self.factors_conclusion = "" if factors is None else conclude_factors(factors, own)
        self.factors = [] if factors is None else [_factor_row(each, own) for each in list_telling(factors, own)]
        has_insertion = factors is not None and factors.into is not None
        self.insertion_conclusion = conclude_insertion(factors) if factors is not None and has_insertion else ""
        self.insertions = [] if factors is None else [_factor_row(each, own) for each in factors.inserted]
        after = () if edit is None or maps is None else maps.after
        self.after = [_cam(each, "after", () if edit is None else edit.after) for each in after]

    def _tiles_of_features(self, explanation: Explanation) -> list[CaptionedTile]:
        if explanation.maps is None:
            return []
        parts = zip(explanation.maps.features, explanation.decomposition.features, strict=True)
        return [_tile(shown, name_feature(part), f"adds {signed(part.part)}") for shown, part in parts]


def _score_rows(scores: Sequence[ClassScore]) -> list[tuple[str, str, str, float]]:
    return [(score.name, percent(score.probability), f"{score.logit:.2f}", 100 * score.probability) for score in scores]


def _change_rows(edit: EditFinding) -> list[tuple[str, str, str, float, float]]:
    return [
        (now.name, percent(was.probability), percent(now.probability), 100 * was.probability, 100 * now.probability)
        for was, now in zip(edit.before, edit.after, strict=True)
    ]


def _cam(shown: ShownMap, when: str, scores: Sequence[ClassScore]) -> CaptionedTile:
    name = shown.of.removesuffix(" after the edit")
    chance = next((percent(score.probability) for score in scores if score.name == name), "")
    return _tile(shown, name, f"{chance} {when}".strip())


def _tile(shown: ShownMap, first: str, second: str) -> CaptionedTile:
    heats = zip((shown.paper, shown.sharp), shown.alts, strict=True)
    return CaptionedTile(tuple(_show(heat.overlay, alt) for heat, alt in heats), first, second)


def _region_tiles(evidence: ExplainedRegions, own: str) -> list[CaptionedTile]:
    tiles = []
    for number, region in enumerate(evidence.regions, 1):
        name = name_region(region, number)
        outlined = _show(region.outlined, f"The image with {name} outlined, {percent(region.area)} of its area")
        without = _show(region.without, f"The image with {name} removed")
        tiles.append(CaptionedTile((outlined, without), name, describe_region(region, own)))
    return tiles


def _factor_row(factor: ExplainedFactor, own: str) -> tuple[str, str]:
    return factor.name, describe_factor(factor, own)


def _show(pixels: UInt8[np.ndarray, "h w 3"], alt: str) -> Shown:
    return show(encode_image(pixels), alt)


def draw_bars(decomposition: Decomposition) -> tuple[list[Bar], float]:
    """Bars of all parts on one axis, and where its zero lies in percent."""
    rows = [(name_feature(each), each.part, each) for each in decomposition.features]
    other_parts: list[tuple[str, float, FeaturePart | None]] = [
        (name, value, None) for name, value in list_parts(decomposition)
    ]
    values = [value for _, value, _ in rows] + [value for _, value, _ in other_parts]
    low, high = min(0.0, *values), max(0.0, *values)
    span = (high - low) or 1.0
    bars = [_bar(decomposition, name, value, part, (low, span)) for name, value, part in [*rows, *other_parts]]
    return bars, 100 * -low / span


def _bar(
    decomposition: Decomposition, name: str, value: float, part: FeaturePart | None, axis: tuple[float, float]
) -> Bar:
    start, end = sorted(100 * (edge - axis[0]) / axis[1] for edge in (0.0, value))
    return Bar(
        name=name,
        note=_note(part),
        value=signed(value),
        share=show_share(decomposition, value),
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
