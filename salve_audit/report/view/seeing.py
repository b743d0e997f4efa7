"""The section that shows what features look at: strongest images with heat maps, and images that flip first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from salve_audit.report.language import plural, say
from salve_audit.report.numbers import NBSP, count, names, percent, strength
from salve_audit.report.view.page import Medium, Section
from salve_audit.report.view.thumbnails import Strip, Tile, show
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
CHANCE_OVERLAP = 1 / 9  # intersection over union of two random fifths
FEW_CELLS = 16  # of a grid, below which a map hardly distinguishes one corner of the image from another
METHOD_NAMES = {"grad-fam": "Grad-FAM", "grad-cam": "Grad-CAM", "integrated": "integrated gradients"}


def build_seeing(result: AuditResult, medium: Medium) -> Section | None:
    """The section; None where an earlier version wrote the audit, or there were no images to show."""
    seeing = result.seeing
    if seeing is None or seeing.why_absent:
        return None
    galleries = seeing.features[: medium.strips]
    strips = [_feature_strip(gallery, result, seeing, medium) for gallery in galleries]
    parts: dict[str, Any] = {
        "kinds": _describe_maps(seeing),
        "sharp": bool(seeing.sharp_layer),
        "coarse": _coarse_sentence(seeing),
        "strips": strips[:OPEN_STRIPS],
        "folded": strips[OPEN_STRIPS:],
        "focus": _focus_sentence(seeing),
        "belief": _belief_sentence(seeing),
        "left_out": _left_out(seeing, medium),
        "visualised": any(gallery.synthetic is not None for gallery in galleries),
        "why_not_visualised": seeing.why_no_synthetic,
        "fragile": [_class_strip(fragile, seeing, medium) for fragile in seeing.fragile[: medium.strips]],
        "fragile_left_out": _classes_left_out(seeing, medium),
        "lost": _lost_sentence(seeing),
    }
    return Section("seeing", say("What the features look at"), "seeing.html.j2", parts)


def why_unseen(result: AuditResult) -> str:
    """The reason why the section is missing; "" where it is there or nothing is known."""
    return result.seeing.why_absent if result.seeing is not None else ""


def _describe_maps(seeing: Seeing) -> str:
    """The heat maps below each image, in order: name in words, grid and layer of each."""
    text = "{name} ({grid} cells, {layer})"
    maps = [say(text, name=say("the paper's map, Grad-FAM"), grid=_grid(seeing.grid), layer=seeing.layer)]
    if seeing.sharp_layer:
        name = say("a sharper one, integrated gradients")
        maps.append(say(text, name=name, grid=_grid(seeing.sharp_grid), layer=seeing.sharp_layer))
    return say(", then ").join(maps)


def _grid(sides: Sequence[int]) -> str:
    return " × ".join(map(str, sides))


def _coarse_sentence(seeing: Seeing) -> str:
    """A warning where a map has too few cells to be informative; "" elsewhere."""
    n = math.prod(seeing.grid)
    if n >= FEW_CELLS:
        return ""
    warning = say("With {n} Grad-FAM hardly distinguishes one corner of the image from another.", n=plural(n, "cell"))
    return warning + (say(" Read the sharper map.") if math.prod(seeing.sharp_grid) > n else "")


def _name(heat: HeatMap) -> str:
    return METHOD_NAMES.get(heat.method, heat.method)


def _feature_strip(gallery: FeatureGallery, result: AuditResult, seeing: Seeing, medium: Medium) -> Strip:
    index = gallery.feature
    info = next((feature for feature in result.features if feature.index == index), None)
    said = []
    if info is not None and info.dominant_for:
        said.append(say("dominant for {dominant_for}", dominant_for=names(info.dominant_for, min(medium.listed, 6))))
    elif any(class_info.dominant_feature == index for class_info in result.classes):
        said.append(
            say("dominant for {x}", x=names([c.name for c in result.classes if c.dominant_feature == index], 6))
        )
    if info is not None and info.cross_class:
        said.append(_shared(info, min(medium.listed, 6)))
    tiles = [_feature_tile(image, index, seeing) for image in gallery.images[: medium.tiles]]
    if gallery.synthetic is not None:
        tiles = [_visualisation_tile(gallery.synthetic, index), *tiles][: medium.tiles]
    empty = "" if gallery.images else say("It fires on no audit image.")
    return Strip(say("Feature {index}", index=index), "; ".join(said), tuple(tiles), empty, f"feature-{index}")


def _shared(info: FeatureInfo, limit: int) -> str:
    """The reason why a feature concerns several classes: it is strong on them, or suppressing it moves them."""
    if len(info.classes) > 1:
        return say("shared: strong on {classes}", classes=names(info.classes, limit))
    return (
        say("shared: suppressing it moves {affected}", affected=names(info.affected, limit))
        if info.affected
        else say("shared")
    )


def _feature_tile(feature_image: FeatureImage, index: int, seeing: Seeing) -> Tile:
    image, code = seeing.images.get(feature_image.path), show_code(feature_image.code)
    what = say("Feature {index} at strength {code}", index=index, code=code)
    images = (
        []
        if image is None
        else [
            show(
                image, say("{what}: an image of the class {class_name}", what=what, class_name=feature_image.class_name)
            )
        ]
    )
    images += [
        show(
            each.overlay, _alt(each, say("feature {index} ({code})", index=index, code=code), feature_image.class_name)
        )
        for each in feature_image.maps
    ]
    lines = [feature_image.class_name, say("code {code}", code=code), *_focus(feature_image.maps)]
    if feature_image.predicted != feature_image.class_name:
        lines.insert(1, say("predicted as {predicted}", predicted=feature_image.predicted))
    return Tile(tuple(images), tuple(lines))


def _alt(heat: HeatMap, of: str, class_name: str) -> str:
    share = (
        say("there is no evidence in it")
        if heat.in_top_fifth is None
        else say("{in_top_fifth} of the heat outlined", in_top_fifth=percent(heat.in_top_fifth))
    )
    return say(
        "{heat} of {of} in that image of the class {class_name}: {share}",
        heat=_name(heat),
        of=of,
        class_name=class_name,
        share=share,
    )


def _focus(maps: Sequence[HeatMap]) -> list[str]:
    """One line for all maps of an image; none where it has none."""
    shares = ["flat" if shown_map.in_top_fifth is None else f"{100 * shown_map.in_top_fifth:.0f}" for shown_map in maps]
    if set(shares) <= {"flat"}:
        return [say("no evidence")] if shares else []
    return [say("{shares}{NBSP}% outlined", shares=" / ".join(shares), NBSP=NBSP), *_belief(maps)]


def _belief(maps: Sequence[HeatMap]) -> list[str]:
    """How far to believe the maps of an image: faithfulness beside chance, and whether they point at one place."""
    tried = [each for each in maps if each.faithful is not None and each.faithful_random is not None]
    said = []
    if tried:
        scores = " / ".join(f"{each.faithful or 0.0:.2f}" for each in tried)
        chance = f"{tried[0].faithful_random or 0.0:.2f}"
        said.append(say("faithful {scores} (random {chance})", scores=scores, chance=chance))
    if tried and all((each.faithful or 0.0) <= (each.faithful_random or 0.0) for each in tried):
        said.append(say("no better than random places"))
    if any(each.overlap is not None and each.overlap <= CHANCE_OVERLAP for each in maps):
        said.append(say("the maps disagree"))
    return said


def _belief_sentence(seeing: Seeing) -> str:
    """How many of the maps that were tried say nothing, and how many pairs disagree; "" where none were tried."""
    images: list[Sequence[HeatMap]] = [image.maps for gallery in seeing.features for image in gallery.images]
    images += [image.maps for fragile in seeing.fragile for image in fragile.images]
    tried = [each for maps in images for each in maps if each.faithful is not None and each.faithful_random is not None]
    if not tried:
        return ""
    empty = sum((each.faithful or 0.0) <= (each.faithful_random or 0.0) for each in tried)
    pairs = [each.overlap for maps in images for each in maps if each.overlap is not None]
    apart = sum(overlap <= CHANCE_OVERLAP for overlap in pairs)
    return say(
        "Faithful: the mean share of the score that blurring the outlined fifth takes away, and that it alone brings "
        "back; random: of other fifths. Of {tried} that were tried, {empty} are no better than random places; of "
        "{pairs}, {apart} point at different places (overlap no more than by chance): there neither tells object from "
        "background.",
        tried=plural(len(tried), "map"),
        empty=count(empty),
        pairs=plural(len(pairs), "pair"),
        apart=count(apart),
    )


def _visualisation_tile(synthetic: SyntheticImage, index: int) -> Tile:
    times = "" if synthetic.ratio is None else say("{ratio} × the strongest", ratio=strength(synthetic.ratio))
    alt = say(
        "Visualisation of feature {index}, optimised from noise: strength {code}",
        index=index,
        code=show_code(synthetic.code),
    )
    lines = (say("feature visualisation"), say("code {code}", code=show_code(synthetic.code)), times)
    return Tile((show(synthetic.image, alt),), tuple(line for line in lines if line), visualisation=True)


def show_code(code: float) -> str:
    """A code with its sign."""
    return f"−{strength(-code)}" if code < 0 else f"+{strength(code)}"


def _focus_sentence(seeing: Seeing) -> str:
    """A sentence on how well the maps are localised in the median."""
    maps = [each for gallery in seeing.features for image in gallery.images for each in image.maps]
    shares: dict[str, list[float]] = {}
    for shown_map in maps:
        if shown_map.in_top_fifth is not None:
            shares.setdefault(_name(shown_map), []).append(shown_map.in_top_fifth)
    if not shares:
        return ""
    flat = sum(shown_map.in_top_fifth is None for shown_map in maps)
    medians = say(" and ").join(f"{percent(statistics.median(own))} ({name})" for name, own in shares.items())
    said = say("In the median map {medians} of the heat lies inside the line.", medians=medians)
    return said + (
        say(" {flat} of {maps} {flat2} flat.", flat=plural(flat, "map"), maps=count(len(maps)), flat2=_are(flat))
        if flat
        else ""
    )


def _left_out(seeing: Seeing, medium: Medium) -> str:
    hidden = max(0, len(seeing.features) - medium.strips)
    said = []
    if hidden:
        more = plural(hidden, "more feature")
        said.append(
            say(
                "Shown are the dominant features of the most fragile classes; {more} are in the HTML report.", more=more
            )
        )
    if seeing.n_features_left_out:
        n = seeing.n_features_left_out
        said.append(
            say("{n} of less fragile classes {n2} left out.", n=plural(n, "dominant or shared feature"), n2=_are(n))
        )
    return " ".join(said)


def _classes_left_out(seeing: Seeing, medium: Medium) -> str:
    n = seeing.n_classes_left_out + max(0, len(seeing.fragile) - medium.strips)
    return say("{n} {n2} left out.", n=plural(n, "less fragile class", "less fragile classes"), n2=_are(n)) if n else ""


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _class_strip(fragile: ClassFragile, seeing: Seeing, medium: Medium) -> Strip:
    tiles = tuple(_fragile_tile(image, fragile.class_name, seeing) for image in fragile.images[: medium.tiles])
    empty = "" if fragile.images else say("No image of it flips at any strength.")
    return Strip(fragile.class_name, say("feature {feature} suppressed", feature=fragile.feature), tiles, empty)


def _fragile_tile(fragile_image: FragileImage, class_name: str, seeing: Seeing) -> Tile:
    image, at = seeing.images.get(fragile_image.path), f"α̂ = {strength(fragile_image.alpha_hat)}"
    alt = say(
        "An image of the class {class_name} that flips to {flips_to} at {at}",
        class_name=class_name,
        flips_to=fragile_image.flips_to,
        at=at,
    )
    images = [] if image is None else [show(image, alt)]
    images += [
        show(each.overlay, _alt(each, say("the class {class_name}", class_name=class_name), class_name))
        for each in fragile_image.maps
    ]
    lines = (say("to {flips_to}", flips_to=fragile_image.flips_to), at, *_belief(fragile_image.maps))
    return Tile(tuple(images), lines)


def _lost_sentence(seeing: Seeing) -> str:
    lost = seeing.unreadable
    if not lost:
        return ""
    which = names([f"{skipped.path} ({skipped.reason})" for skipped in lost], 3)
    return say(
        "{lost} could not be read again and {lost2} not shown: {which}.",
        lost=plural(len(lost), "image"),
        lost2=_are(len(lost)),
        which=which,
    )
