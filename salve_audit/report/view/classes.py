"""The sections on single classes: all thresholds, suppression curves, distributions."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.charts.axes import alpha_scale
from salve_audit.report.charts.boxes import BoxGroup, Spread, draw_boxes
from salve_audit.report.charts.curves import Panel, draw_curve_legend, draw_panel
from salve_audit.report.numbers import (
    count,
    names,
    p_value,
    percent,
    percent_interval,
    strength,
)
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.front import (
    NO_CORRECT,
    NO_PICTURES,
    dot_figure,
    interval_cell,
    redundancy_cell,
    verdict_table,
)
from salve_audit.report.view.order import charted, fragile_first
from salve_audit.report.view.page import CHART_ROWS, FRONT_ROWS, Figure, Medium, Section
from salve_audit.results import AlphaSummary, AuditResult, ClassReliance, Distribution

_GONE = 0.02
_SHOWN_QUANTILES = (1, 5, 10, 15, 19)  # of 0, 5, ..., 100 %: 5, 25, 50, 75, 95 %


def build_classes(result: AuditResult, medium: Medium) -> Section:
    """All classes with every threshold and what speaks for or against trusting it."""
    order = fragile_first(result.classes)
    limit = medium.table_rows
    repeated = len(order) > FRONT_ROWS
    return Section(
        "classes",
        "Classes in detail",
        "classes.html.j2",
        {
            "verdict": verdict_table(result, order, limit) if repeated else None,
            "figure": dot_figure(result, order[: medium.chart_classes], "figure-classes") if repeated else None,
            "figure_note": charted(result, medium.chart_classes)[1],
            "thresholds": thresholds_table(order, limit),
            "raw": raw_table(order, limit),
            "trust": trust_table(result, order, medium),
            "statuses": status_table(order, limit),
            "rankings": ranking_table(order, limit),
        },
    )


def thresholds_table(order: Sequence[ClassReliance], limit: int) -> Table:
    """The four thresholds in units of α̂."""
    columns = [
        Column("Class", "name"),
        Column("Correct"),
        Column("n"),
        Column("Accuracy (95 % interval)"),
        Column("Analytical"),
        Column("Numerical"),
        Column("Flip"),
        Column("95 % interval, pictures and seeds"),
        Column("Share that flips"),
        Column("Empirical"),
        Column("Enhanced into it"),
    ]
    rows: list[list[Value]] = []
    for one in order:
        hat = one.alpha_hat
        accuracy = f"{percent(one.accuracy)} ({percent_interval(one.accuracy_low, one.accuracy_high)})"
        share: Value = percent(hat.flip.share) if one.n_correct else Missing(NO_CORRECT)
        rows.append(
            [
                one.name,
                count(one.n_correct),
                count(one.n),
                accuracy if one.n else Missing(NO_PICTURES),
                *_medians(one, hat),
                interval_cell(one),
                share,
                _empirical(one, hat),
                percent(one.enhance.share) if one.n else Missing(NO_PICTURES),
            ]
        )
    caption = "Thresholds in units of α̂: medians over pictures; empirical is one value per class"
    return make_table(caption, columns, rows, limit, "classes[].alpha_hat")


def _medians(one: ClassReliance, alpha: AlphaSummary) -> list[Value]:
    if one.n == 0:
        return [Missing(NO_PICTURES)] * 3
    undefined = Missing("defined for no picture of this class")
    analytical: Value = undefined if alpha.analytical is None else strength(alpha.analytical)
    flip: Value = strength(alpha.flip.median) if one.n_correct else Missing(NO_CORRECT)
    return [analytical, strength(alpha.numerical), flip]


def _empirical(one: ClassReliance, alpha: AlphaSummary) -> Value:
    return strength(alpha.empirical) if one.n else Missing(NO_PICTURES)


def raw_table(order: Sequence[ClassReliance], limit: int) -> Table:
    """The same as strengths α of the unit-norm directions that every variant is brought to."""
    heads = ("Analytical", "Numerical", "Flip", "Empirical")
    columns = [Column("Class", "name"), *(Column(head) for head in heads)]
    rows = [[one.name, *_medians(one, one.alpha), _empirical(one, one.alpha)] for one in order]
    return make_table("The same thresholds as α for unit-norm directions", columns, rows, limit, "classes[].alpha")


def trust_table(result: AuditResult, order: Sequence[ClassReliance], medium: Medium) -> Table:
    """Null controls, stability and the checks of the linear approximation."""
    columns = [
        Column("Class", "name"),
        Column("Flip median"),
        Column("Permuted coupling (draws)"),
        Column("Other feature (how many)"),
        Column("Null p"),
        Column("Stable over seeds", "text"),
        Column("Edit size at flip"),
        Column("Weights clamped"),
        Column("Analytical ≤ numerical"),
        Column("Redundancy"),
        Column("Differs from", "wrap"),
    ]
    rows: list[list[Value]] = []
    for one in order:
        stable: Value = Missing("not checked for this feature") if one.stable is None else "yes" if one.stable else "no"
        clamped, below = one.clamped_share, one.analytical_below_numerical
        cells: list[Value] = [
            one.name,
            strength(one.alpha_hat.flip.median) if one.n_correct else Missing(NO_CORRECT),
            *_null_cells(one),
            Missing("no null control could be drawn") if one.null_p is None else p_value(one.null_p),
            stable,
            Missing("no flip median") if one.edit_size_at_flip is None else percent(one.edit_size_at_flip),
            Missing("no picture flips") if clamped is None else percent(clamped),
            Missing("no picture has both thresholds") if below is None else percent(below),
            redundancy_cell(one, result.sae),
            names(one.differs_from, medium.listed) if one.differs_from else "none",
        ]
        rows.append(cells)
    return make_table("Checks and controls", columns, rows, medium.table_rows, "classes[]")


def _null_cells(one: ClassReliance) -> list[Value]:
    """The flip median under each null, and how many draws it comes from."""
    if one.n_correct == 0:
        return [Missing(NO_CORRECT)] * 2
    null = one.null
    permuted: Value = Missing("no null control could be drawn")
    if null.n_draws:
        permuted = f"{strength(null.permuted_median)} ({count(null.n_draws)})"
    if null.n_random:
        return [permuted, f"{strength(null.random_median)} ({count(null.n_random)})"]
    if null.random_p is not None:  # written before the number was kept
        return [permuted, strength(null.random_median)]
    return [permuted, Missing("no other living feature to compare with")]


def status_table(order: Sequence[ClassReliance], limit: int) -> Table:
    """How many pictures cross, are erased, never cross, or have no threshold."""
    heads = ("Crossed", "Erased", "Never", "Not applicable")
    columns = [Column("Class", "name"), *(Column(head) for head in heads)]
    rows = [
        [
            one.name,
            count(one.status.crossed),
            count(one.status.erased),
            count(one.status.never),
            count(one.status.not_applicable),
        ]
        for one in order
    ]
    return make_table("Pictures by status of the numerical threshold", columns, rows, limit, "classes[].status")


def ranking_table(order: Sequence[ClassReliance], limit: int) -> Table:
    """The strongest features of each class by the two rankings."""
    columns = [Column("Class", "name"), Column("By mean code × norm", "wrap"), Column("By attribution", "wrap")]
    rows = [
        [one.name, ", ".join(map(str, one.top_features)), ", ".join(map(str, one.top_attribution))] for one in order
    ]
    return make_table(
        "Strongest features of each class, the strongest first", columns, rows, limit, "classes[].top_features"
    )


def build_curves(result: AuditResult, medium: Medium) -> Section:
    """One panel per class, all on one strength axis."""
    classes, note = charted(result, medium.chart_classes)
    drawn = [one for one in classes if one.curve.alpha_hat]
    scale = alpha_scale([a for one in drawn for a in _telling(one)], 0, 1)
    figure = Figure(
        "figure-curves",
        "Accuracy of each class, and mean accuracy of the others, while its dominant feature is suppressed",
        tuple(draw_panel(_panel(one), scale.high, scale.kind) for one in drawn),
        "classes[].curve",
        panels=True,
        legend=draw_curve_legend(),
        note=note,
        numbers=_curve_numbers(drawn) if medium.numbers else None,
    )
    rising = [one.name for one in result.classes if one.curve.non_monotone]
    parts = {"figure": figure if drawn else None, "rising": names(rising, 8) if rising else ""}
    return Section("curves", "Suppression curves", "curves.html.j2", parts)


def _telling(one: ClassReliance) -> list[float | None]:
    """Strengths that a curve must show: its thresholds, and where next to nothing is left of the class."""
    curve, hat = one.curve, one.alpha_hat
    gone = next((a for a, accuracy in zip(curve.alpha_hat, curve.accuracy, strict=False) if accuracy <= _GONE), None)
    return [gone, hat.flip.median, hat.empirical, hat.analytical]


def _panel(one: ClassReliance) -> Panel:
    hat = one.alpha_hat
    marks = (("analytical", hat.analytical), ("numerical", hat.numerical), ("flip", hat.flip.median))
    return Panel(one.name, one.curve.alpha_hat, one.curve.accuracy, one.curve.others, marks, hat.empirical)


def _curve_numbers(classes: Sequence[ClassReliance]) -> Table:
    length = max((len(one.curve.alpha_hat) for one in classes), default=0)
    columns = [Column("Class", "name"), Column("Quantity", "text"), *(Column(str(i + 1)) for i in range(length))]
    rows: list[list[Value]] = []
    for one in classes:
        curve = one.curve
        named = {
            "α̂": map(strength, curve.alpha_hat),
            "accuracy, class": map(percent, curve.accuracy),
            "accuracy, others": map(percent, curve.others),
        }
        for name, texts in named.items():
            row: list[Value] = [one.name, name, *texts]
            rows.append(row + [""] * (length + 2 - len(row)))
    return make_table("Points of the suppression curves", columns, rows, len(rows), "classes[].curve")


def build_distributions(result: AuditResult, medium: Medium) -> Section:
    """How the thresholds of single pictures are spread within each class."""
    classes, note = charted(result, medium.chart_classes)
    drawn = [one for one in classes if any(_drawable(d) for d in one.distributions)]
    groups = [
        BoxGroup(one.name, tuple(Spread(d.threshold, _quantiles(d)) for d in one.distributions if _drawable(d)))
        for one in drawn
    ]
    seen = [value for group in groups for spread in group.spreads for value in spread.quantiles]
    parts = [groups[i : i + CHART_ROWS] for i in range(0, len(groups), CHART_ROWS)]
    title = "Thresholds of single pictures by class"
    charts = tuple(
        draw_boxes(part, seen, title if len(parts) == 1 else f"{title}, part {i + 1} of {len(parts)}")
        for i, part in enumerate(parts)
    )
    figure = Figure(
        "figure-distributions",
        "Thresholds of single pictures: box 25 to 75 %, whiskers 5 to 95 %, line at the median, arrow further or never",
        charts,
        "classes[].distributions",
        note=note,
        numbers=_quantile_numbers(drawn) if medium.numbers else None,
    )
    return Section(
        "distributions", "Threshold distributions", "distributions.html.j2", {"figure": figure if groups else None}
    )


def _drawable(distribution: Distribution) -> bool:
    return distribution.n > 0 and distribution.threshold in ("analytical", "numerical", "flip")


def _quantiles(
    distribution: Distribution,
) -> tuple[float | None, float | None, float | None, float | None, float | None]:
    a, b, c, d, e = (distribution.quantiles[i] for i in _SHOWN_QUANTILES)
    return a, b, c, d, e


def _quantile_numbers(classes: Sequence[ClassReliance]) -> Table:
    heads = ("n", "5 %", "25 %", "50 %", "75 %", "95 %")
    columns = [Column("Class", "name"), Column("Threshold", "text"), *(Column(head) for head in heads)]
    rows: list[list[Value]] = [
        [one.name, d.threshold, count(d.n), *map(strength, _quantiles(d))]
        for one in classes
        for d in one.distributions
        if _drawable(d)
    ]
    return make_table("Quantiles of the thresholds in units of α̂", columns, rows, len(rows), "classes[].distributions")
