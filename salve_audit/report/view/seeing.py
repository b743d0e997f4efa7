"""The section that shows what features look at: strongest pictures with heat maps, and pictures that flip first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from salve_audit.report.numbers import NBSP, count, names, percent, plural, strength
from salve_audit.report.view.page import Medium, Section
from salve_audit.report.view.pictures import Strip, Tile, show
from salve_audit.results import (
    AuditResult,
    ClassFragile,
    FeatureGallery,
    FeatureImage,
    FeatureInfo,
    FragileImage,
    HeatMap,
    Seeing,
    SyntheticImage,
)

OPEN_STRIPS = 16  # galleries in plain sight; the others are folded away
FEW_CELLS = 16  # of a grid, below which a map hardly tells one corner of the picture from another
METHOD_NAMES = {"grad-fam": "Grad-FAM", "grad-cam": "Grad-CAM", "integrated": "integrated gradients"}


def build_seeing(result: AuditResult, medium: Medium) -> Section | None:
    """None where an earlier version wrote the audit, or there was nothing to look at."""
    seeing = result.seeing
    if seeing is None or seeing.why_absent:
        return None
    galleries = seeing.features[: medium.strips]
    strips = [_feature_strip(one, result, seeing, medium) for one in galleries]
    parts: dict[str, Any] = {
        "kinds": _kinds(seeing),
        "coarse": _coarse_sentence(seeing),
        "strips": strips[:OPEN_STRIPS],
        "folded": strips[OPEN_STRIPS:],
        "focus": _focus_sentence(seeing),
        "left_out": _left_out(seeing, medium),
        "made": any(one.synthetic is not None for one in galleries),
        "why_not_made": seeing.why_no_synthetic,
        "fragile": [_class_strip(one, seeing, medium) for one in seeing.fragile[: medium.strips]],
        "fragile_left_out": _classes_left_out(seeing, medium),
        "lost": _lost_sentence(seeing),
    }
    return Section("seeing", "What the features look at", "seeing.html.j2", parts)


def why_unseen(result: AuditResult) -> str:
    """Why there is no such section; "" where there is, or where nothing is known."""
    return result.seeing.why_absent if result.seeing is not None else ""


def _kinds(seeing: Seeing) -> list[tuple[str, str, str]]:
    """What lies below each picture, in order: the map in words, its grid, and the layer that it comes from."""
    kinds = [("the paper's map, Grad-FAM", _grid(seeing.grid), seeing.layer)]
    if seeing.sharp_layer:
        kinds.append(("a sharper one, integrated gradients", _grid(seeing.sharp_grid), seeing.sharp_layer))
    return kinds


def _grid(sides: Sequence[int]) -> str:
    return " × ".join(map(str, sides))


def _coarse_sentence(seeing: Seeing) -> str:
    """Said where a map has too few cells to tell much."""
    n = math.prod(seeing.grid)
    if n >= FEW_CELLS:
        return ""
    told = f"With {plural(n, 'cell')} Grad-FAM hardly tells one corner of the picture from another."
    return told + (" Read the sharper map." if math.prod(seeing.sharp_grid) > n else "")


def _name(heat: HeatMap) -> str:
    return METHOD_NAMES.get(heat.method, heat.method)


def _feature_strip(gallery: FeatureGallery, result: AuditResult, seeing: Seeing, medium: Medium) -> Strip:
    index = gallery.feature
    info = next((one for one in result.features if one.index == index), None)
    said = []
    if info is not None and info.dominant_for:
        said.append(f"dominant for {names(info.dominant_for, min(medium.listed, 6))}")
    elif any(one.dominant_feature == index for one in result.classes):
        said.append(f"dominant for {names([c.name for c in result.classes if c.dominant_feature == index], 6)}")
    if info is not None and info.cross_class:
        said.append(_shared(info, min(medium.listed, 6)))
    tiles = [_feature_tile(one, index, seeing) for one in gallery.images[: medium.tiles]]
    if gallery.synthetic is not None:
        tiles.insert(0, _made_tile(gallery.synthetic, index))
    empty = "" if gallery.images else "It fires on no audit picture."
    return Strip(f"Feature {index}", "; ".join(said), tuple(tiles), empty, f"feature-{index}")


def _shared(info: FeatureInfo, limit: int) -> str:
    """Why a feature concerns several classes: it is strong on them, or suppressing it moves them."""
    if len(info.classes) > 1:
        return f"shared: strong on {names(info.classes, limit)}"
    return f"shared: suppressing it moves {names(info.affected, limit)}" if info.affected else "shared"


def _feature_tile(one: FeatureImage, index: int, seeing: Seeing) -> Tile:
    picture, code = seeing.pictures.get(one.path), signed(one.code)
    what = f"Feature {index} at strength {code}"
    images = [] if picture is None else [show(picture, f"{what}: a picture of the class {one.class_name}")]
    images += [show(each.overlay, _alt(each, f"feature {index} ({code})", one.class_name)) for each in one.maps]
    lines = [one.class_name, f"code {code}", *_focus(one.maps)]
    if one.predicted != one.class_name:
        lines.insert(1, f"taken for {one.predicted}")
    return Tile(tuple(images), tuple(lines))


def _alt(heat: HeatMap, of: str, class_name: str) -> str:
    share = "the map is flat" if heat.in_top_fifth is None else f"{percent(heat.in_top_fifth)} of the heat outlined"
    return f"{_name(heat)} of {of} in that picture of the class {class_name}: {share}"


def _focus(maps: Sequence[HeatMap]) -> list[str]:
    """One line for all maps of a picture; none where it has none."""
    shares = ["flat" if one.in_top_fifth is None else f"{100 * one.in_top_fifth:.0f}" for one in maps]
    if set(shares) <= {"flat"}:
        return ["a flat map"] if shares else []
    return [f"{' / '.join(shares)}{NBSP}% outlined"]


def _made_tile(made: SyntheticImage, index: int) -> Tile:
    times = "" if made.ratio is None else f"{strength(made.ratio)} × the strongest"
    alt = f"A picture made so that feature {index} fires: strength {signed(made.code)}"
    lines = ("made from noise", f"code {signed(made.code)}", times)
    return Tile((show(made.picture, alt),), tuple(line for line in lines if line), made=True)


def signed(code: float) -> str:
    """A code with its sign."""
    return f"−{strength(-code)}" if code < 0 else f"+{strength(code)}"


def _focus_sentence(seeing: Seeing) -> str:
    """How well the maps are localised, in the middle."""
    maps = [each for one in seeing.features for image in one.images for each in image.maps]
    shares: dict[str, list[float]] = {}
    for one in maps:
        if one.in_top_fifth is not None:
            shares.setdefault(_name(one), []).append(one.in_top_fifth)
    if not shares:
        return ""
    flat = sum(one.in_top_fifth is None for one in maps)
    medians = " and ".join(f"{percent(statistics.median(own))} ({name})" for name, own in shares.items())
    said = f"In the median map {medians} of the heat lies inside the line."
    return said + (f" {plural(flat, 'map')} of {count(len(maps))} {_are(flat)} flat." if flat else "")


def _left_out(seeing: Seeing, medium: Medium) -> str:
    hidden = max(0, len(seeing.features) - medium.strips)
    said = []
    if hidden:
        more = plural(hidden, "more feature")
        said.append(f"Shown are the dominant features of the most fragile classes; {more} are in the HTML report.")
    if seeing.n_features_left_out:
        n = seeing.n_features_left_out
        said.append(f"{plural(n, 'dominant or shared feature')} of less fragile classes {_are(n)} left out.")
    return " ".join(said)


def _classes_left_out(seeing: Seeing, medium: Medium) -> str:
    n = seeing.n_classes_left_out + max(0, len(seeing.fragile) - medium.strips)
    return f"{plural(n, 'less fragile class', 'less fragile classes')} {_are(n)} left out." if n else ""


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _class_strip(one: ClassFragile, seeing: Seeing, medium: Medium) -> Strip:
    tiles = tuple(_fragile_tile(image, one.class_name, seeing) for image in one.images[: medium.tiles])
    empty = "" if one.images else "No picture of it flips at any strength."
    return Strip(one.class_name, f"feature {one.feature} suppressed", tiles, empty)


def _fragile_tile(one: FragileImage, class_name: str, seeing: Seeing) -> Tile:
    picture, at = seeing.pictures.get(one.path), f"α̂ = {strength(one.alpha_hat)}"
    alt = f"A picture of the class {class_name} that flips to {one.flips_to} at {at}"
    images = [] if picture is None else [show(picture, alt)]
    images += [show(each.overlay, _alt(each, f"the class {class_name}", class_name)) for each in one.maps]
    lines = (f"to {one.flips_to}", at)
    return Tile(tuple(images), lines)


def _lost_sentence(seeing: Seeing) -> str:
    lost = seeing.unreadable
    if not lost:
        return ""
    which = names([f"{one.path} ({one.reason})" for one in lost], 3)
    return f"{plural(len(lost), 'picture')} could not be read again and {_are(len(lost))} not shown: {which}."
