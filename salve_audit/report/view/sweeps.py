"""Cross-class features over a range of strengths: figures, entanglement in words and as a table, strongest images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from salve_audit.report.charts.bundle import MOST_LINES, Axis, Line, draw_bundle
from salve_audit.report.charts.svg import Drawing
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, names, percent_interval, points
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.page import Figure, Medium
from salve_audit.report.view.thumbnails import thumbnails
from salve_audit.results import ClassSweep, FeatureInfo, FeatureSweep, Opposition, Seeing, Stress

PANELS = {"html": 6, "pdf": 2}
IMAGES = 3  # named in the table; more are in audit.json
_NOT_OPPOSED = "no two classes move in opposite directions"


@dataclass(frozen=True)
class Swept:
    """A feature with its sweep; `size`: see `_opposition_size`."""

    info: FeatureInfo
    sweep: FeatureSweep
    size: float


def sweep_order(features: Sequence[FeatureInfo]) -> list[Swept]:
    """Swept features, the most entangled first, then by the number of strengths at which any class moves."""
    swept = [
        Swept(feature, feature.sweep, _opposition_size(feature.sweep))
        for feature in features
        if feature.sweep is not None
    ]
    return sorted(
        swept,
        key=lambda swept_feature: (-swept_feature.size, -len(swept_feature.sweep.moves), swept_feature.info.index),
    )


def _opposition_size(sweep: FeatureSweep) -> float:
    """The largest amount, over strengths, that one class falls by while another rises by at least as much."""
    sizes = (min(_largest(sweep, each, each.falls), _largest(sweep, each, each.rises)) for each in sweep.opposed)
    return max(sizes, default=0.0)


def entangled_lines(swept: Sequence[Swept], limit: int = 12) -> list[str]:
    """Lines on the entangled features: the strength and the two classes that are farthest apart."""
    said = []
    for swept_feature in swept[:limit]:
        opposed = [each for each in swept_feature.sweep.opposed if each.alpha_hat < 0]
        if opposed:
            at = _widest(swept_feature.sweep, opposed)
            by_name = {c.class_name: _change(swept_feature.sweep, c, at.alpha_hat) for c in swept_feature.sweep.classes}
            low, high = min(at.falls, key=by_name.__getitem__), max(at.rises, key=by_name.__getitem__)
            moves = say(
                "{low} changes by {by_name} and {high} by {by_name2} points",
                low=low,
                by_name=points(by_name[low]),
                high=high,
                by_name2=points(by_name[high]),
            )
            said.append(
                say(
                    "Feature {index}: suppressed at α̂ = {x}, {moves}.",
                    index=swept_feature.info.index,
                    x=f"{-at.alpha_hat:g}",
                    moves=moves,
                )
            )
    return said


def _widest(sweep: FeatureSweep, opposed: Sequence[Opposition]) -> Opposition:
    """The strength at which the smaller of the two opposite movements is largest."""
    return max(opposed, key=lambda move: min(_largest(sweep, move, move.falls), _largest(sweep, move, move.rises)))


def _largest(sweep: FeatureSweep, at: Opposition, moved: Sequence[str]) -> float:
    return max(
        abs(_change(sweep, class_sweep, at.alpha_hat))
        for class_sweep in sweep.classes
        if class_sweep.class_name in moved
    )


def _change(sweep: FeatureSweep, class_sweep: ClassSweep, alpha_hat: float) -> float:
    return class_sweep.accuracy[sweep.alpha_hat.index(alpha_hat)] - class_sweep.accuracy[sweep.alpha_hat.index(0.0)]


def sweep_sentence(swept: Sequence[Swept], stress: Stress | None) -> str:
    """A sentence on how many of the features are entangled, suppressed or enhanced."""
    top = max(max(swept_feature.sweep.alpha_hat) for swept_feature in swept)
    down = [swept_feature for swept_feature in swept if any(each.alpha_hat < 0 for each in swept_feature.sweep.opposed)]
    up = [swept_feature for swept_feature in swept if any(each.alpha_hat > 0 for each in swept_feature.sweep.opposed)]
    still = sum(not swept_feature.sweep.moves for swept_feature in swept)
    text = plural(len(swept), "cross-class feature")
    if not down and not up:
        said = say(
            "Up to α̂ = {top} none of {x} moves two classes in opposite directions beyond chance", top=f"{top:g}", x=text
        )
    else:
        said = say(
            "Up to α̂ = {top}, {down} of {x} {x2} classes in ",
            top=f"{top:g}",
            down=count(len(down)),
            x=text,
            x2="moves" if len(down) == 1 else "move",
        )
        said += say(
            "opposite directions beyond chance when suppressed (entangled), {up} when enhanced", up=count(len(up))
        )
    said += (
        say("; {still} {x} no class at all.", still=count(still), x="moves" if still == 1 else "move") if still else "."
    )
    if stress is not None and stress.n_sweeps_left_out:
        said += say(
            " {n_sweeps_left_out} were not swept.", n_sweeps_left_out=plural(stress.n_sweeps_left_out, "more feature")
        )
    if stress is not None and stress.n_classes_left_out:
        said += say(" Classes are the {class_names} most fragile.", class_names=count(len(stress.class_names)))
    return said


def sweep_figure(swept: Sequence[Swept], medium: Medium) -> Figure:
    """The most entangled features, one panel each."""
    shown = swept[: PANELS[medium.name]]
    note = ""
    if len(swept) > len(shown):
        note = say(
            "Shown are the {shown} most entangled of {swept} features; all are in the table.",
            shown=len(shown),
            swept=count(len(swept)),
        )
    return Figure(
        "figure-sweeps",
        say("Accuracy of the classes that a cross-class feature moves most, while it is suppressed or enhanced"),
        tuple(_panel(swept_feature) for swept_feature in shown),
        "features[].sweep",
        panels=True,
        note=note,
        numbers=_numbers(shown) if medium.numbers else None,
    )


def _numbers(shown: Sequence[Swept]) -> Table:
    """Accuracy with its interval of the classes drawn, at every strength."""
    strengths = shown[0].sweep.alpha_hat
    heads = [f"{'suppress' if s < 0 else 'enhance'} {abs(s):g}" if s else "unedited" for s in strengths]
    columns = [Column(say("Feature"), "name"), Column(say("Class"), "text"), *(Column(head) for head in heads)]
    rows: list[list[Value]] = []
    for swept_feature in shown:
        for each in _chosen(swept_feature.sweep):
            bounds = zip(each.accuracy, each.low, each.high, strict=True)
            cells = [f"{100 * value:.1f} ({percent_interval(low, high)})" for value, low, high in bounds]
            rows.append([str(swept_feature.info.index), each.class_name, *cells])
    return make_table(say("Accuracy and 95 % interval, %"), columns, rows, len(rows), "features[].sweep")


def _panel(swept_feature: Swept) -> Drawing:
    lines = [Line(c.class_name, c.accuracy, c.low, c.high) for c in _chosen(swept_feature.sweep)]
    axis = Axis(swept_feature.sweep.alpha_hat, say("strength α̂"), (say("← suppressed"), say("enhanced →")))
    entangled = say(" (entangled)") if swept_feature.size else ""
    return draw_bundle(f"Feature {swept_feature.info.index}{entangled}", axis, lines)


def _chosen(sweep: FeatureSweep) -> list[ClassSweep]:
    """Classes for a panel: two that fall and two that rise where they are most opposed, then others that move."""
    span = {
        class_sweep.class_name: max(class_sweep.accuracy) - min(class_sweep.accuracy) for class_sweep in sweep.classes
    }
    first: list[str] = []
    if sweep.opposed:
        widest = _widest(sweep, sweep.opposed)
        by_name = {
            class_sweep.class_name: abs(_change(sweep, class_sweep, widest.alpha_hat)) for class_sweep in sweep.classes
        }
        for moved in (widest.falls, widest.rises):
            first += sorted(moved, key=lambda name: -by_name[name])[: MOST_LINES // 2]
    order = list(dict.fromkeys([*first, *sorted(span, key=lambda name: -span[name])]))[:MOST_LINES]
    return [next(class_sweep for class_sweep in sweep.classes if class_sweep.class_name == name) for name in order]


def sweep_table(swept: Sequence[Swept], medium: Medium) -> Table:
    """All swept features: which classes move against each other, and how far."""
    columns = [
        Column(say("Feature"), "name"),
        Column(say("Strong on"), "wrap"),
        Column(say("Suppressed: falls / rises"), "wrap"),
        Column(say("Enhanced: falls / rises"), "wrap"),
        Column(say("Opposite by, points")),
    ]
    rows: list[list[Value]] = [
        [
            str(swept_feature.info.index),
            names(swept_feature.info.classes, medium.listed) if swept_feature.info.classes else say("none"),
            _opposed(swept_feature.sweep, -1, medium.listed),
            _opposed(swept_feature.sweep, 1, medium.listed),
            f"{100 * swept_feature.size:.1f}" if swept_feature.size else Missing(_NOT_OPPOSED),
        ]
        for swept_feature in swept
    ]
    return make_table(say("Cross-class features over strengths"), columns, rows, medium.detail_rows, "features[].sweep")


def _opposed(sweep: FeatureSweep, sign: int, limit: int) -> Value:
    """The classes that ever fall and those that ever rise on one side of 0."""
    moves = [move for move in sweep.moves if move.alpha_hat * sign > 0]
    sides = []
    for each in ([name for move in moves for name in move.falls], [name for move in moves for name in move.rises]):
        unique = list(dict.fromkeys(each))
        sides.append(names(unique, limit) if unique else say("none"))
    none = say("none")
    return none if sides == [none, none] else " / ".join(sides)


def images_table(swept: Sequence[Swept], seeing: Seeing | None, medium: Medium) -> Table:
    """The images on which each feature is strongest: those of its gallery, or their paths where there is none."""
    columns = [Column(say("Feature"), "name"), Column(say("Strongest audit images (class)"), "wrap")]
    rows: list[list[Value]] = []
    for swept_feature in swept[: None if medium.numbers else PANELS[medium.name]]:
        strongest = swept_feature.sweep.images[:IMAGES]
        shown = ", ".join(f"{each.path} ({each.class_name})" for each in strongest)
        images: Value = thumbnails(strongest, seeing, swept_feature.info.index) or shown
        rows.append([str(swept_feature.info.index), images if strongest else Missing("it fires on no audit image")])
    return make_table(
        say("Where each feature is strongest"), columns, rows, medium.detail_rows, "features[].sweep.images"
    )
