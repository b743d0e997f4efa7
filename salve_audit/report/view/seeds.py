"""Section on seeds: agreement between autoencoders trained from different seeds, class by class."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.charts.axes import alpha_scale
from salve_audit.report.charts.bands import BandPanel, draw_band, draw_band_legend
from salve_audit.report.language import say
from salve_audit.report.numbers import count, names, percent, strength, strength_interval
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.cells import NO_CORRECT
from salve_audit.report.view.order import ranked
from salve_audit.report.view.page import Figure, Medium, Section
from salve_audit.results import AuditResult, ClassReliance, SeedSpread

_GONE = 0.02
_PANELS = 18  # two thirds of a page
_NO_INTERVAL = "too few flips for an interval"


def build_seeds(result: AuditResult, medium: Medium) -> Section | None:
    """The section; None where a single seed was trained."""
    order = [class_info for class_info in ranked(result) if class_info.seeds is not None]
    if not order:
        return None
    unstable = [class_info.name for class_info in order if class_info.stable is False]
    judged = [class_info for class_info in order if class_info.stable is not None]
    parts = {
        "n_seeds": count(max(class_info.seeds.n_seeds for class_info in order if class_info.seeds is not None)),
        "n_stable": count(sum(class_info.stable is True for class_info in judged)),
        "n_judged": count(len(judged)),
        "unstable": names(unstable, 8) if unstable else "",
        "table": seed_table(order, medium.table_rows),
        "figure": _figure(result, medium),
    }
    return Section("seeds", say("Stability over seeds"), "seeds.html.j2", parts)


def seeds_sentence(result: AuditResult) -> str:
    """How many findings of the head survive other seeds of the autoencoder; "" where one seed was trained."""
    judged = [class_info for class_info in result.classes if class_info.stable is not None]
    spreads = [class_info.seeds for class_info in result.classes if class_info.seeds is not None]
    if not judged or not spreads:
        return ""
    return say(
        "Edit sensitivity was measured with {n} autoencoders from different seeds: the dominant feature and its flip "
        "median are found again for {stable} of {total} classes. Image reliance uses no autoencoder.",
        n=count(max(spread.n_seeds for spread in spreads)),
        stable=count(sum(class_info.stable is True for class_info in judged)),
        total=count(len(judged)),
    )


def seed_table(order: Sequence[ClassReliance], limit: int) -> Table:
    """Flip median of every seed, and the interval without and with the seeds."""
    spreads = [class_info.seeds for class_info in order if class_info.seeds is not None]
    n = max((len(spread.medians) for spread in spreads), default=0)
    columns = [
        Column(say("Class"), "name"),
        *(Column(say("Seed used") if i == 0 else say("Other {i}", i=i)) for i in range(n)),
        Column(say("95 % interval, images")),
        Column(say("95 % interval, images and seeds")),
        Column(say("SD of accuracy at the median")),
        Column(say("Stable"), "text"),
    ]
    rows = [_row(class_info, class_info.seeds, n) for class_info in order if class_info.seeds is not None]
    return make_table(
        say("α̂ flip median under each seed's own dominant feature"), columns, rows, limit, "classes[].seeds"
    )


def _row(class_info: ClassReliance, spread: SeedSpread, n: int) -> list[Value]:
    flip = class_info.alpha_hat.flip
    medians: list[Value] = [strength(v) if class_info.n_correct else Missing(NO_CORRECT) for v in spread.medians]
    return [
        class_info.name,
        *medians,
        *[Missing(NO_CORRECT)] * (n - len(medians)),
        strength_interval(flip.low, flip.high) or Missing(_NO_INTERVAL),
        strength_interval(spread.low, spread.high) or Missing(_NO_INTERVAL),
        _deviation(spread),
        Missing("not checked for this feature")
        if class_info.stable is None
        else say("yes")
        if class_info.stable
        else say("no"),
    ]


def _deviation(spread: SeedSpread) -> Value:
    """Standard deviation over seeds of the class's accuracy, where this seed's median lies."""
    curve, median = spread.curve, spread.medians[0]
    if curve is None or median is None or not curve.alpha_hat:
        return Missing("no curve, or no median on it")
    return percent(min(zip(curve.alpha_hat, curve.deviation, strict=True), key=lambda point: abs(point[0] - median))[1])


def _figure(result: AuditResult, medium: Medium) -> Figure | None:
    every = [panel for panel in map(_panel, ranked(result)) if panel is not None]
    panels = every[: min(_PANELS, medium.chart_classes)]
    if not panels:
        return None
    note = ""
    if len(panels) < len(every):
        note = say(
            "Shown are the first {panels} of {every} classes with such a curve.",
            panels=count(len(panels)),
            every=count(len(every)),
        )
    ends = [next((a for a, m in zip(p.alpha_hat, p.mean, strict=True) if m <= _GONE), None) for p in panels]
    scale = alpha_scale([*ends, *(m for p in panels for m in p.medians)], 0, 1)
    return Figure(
        "figure-seeds",
        say("Accuracy of each class while each seed's own dominant feature is suppressed: mean and standard deviation"),
        tuple(draw_band(panel, scale.high, scale.kind) for panel in panels),
        "classes[].seeds.curve",
        panels=True,
        legend=draw_band_legend(),
        note=note,
    )


def _panel(class_info: ClassReliance) -> BandPanel | None:
    if class_info.seeds is None or class_info.seeds.curve is None or not class_info.n:
        return None
    curve = class_info.seeds.curve
    medians = tuple(m for m in class_info.seeds.medians if m is not None)
    return BandPanel(class_info.name, curve.alpha_hat, curve.mean, curve.deviation, medians)
