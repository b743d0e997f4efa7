"""The sections on single classes: all thresholds, suppression curves, distributions."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.charts.axes import alpha_scale
from salve_audit.report.charts.boxes import BoxGroup, Spread, draw_boxes
from salve_audit.report.charts.curves import Panel, draw_curve_legend, draw_panel
from salve_audit.report.numbers import count, names, p_value, percent, percent_interval, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.front import (
    NO_CORRECT,
    NO_IMAGES,
    dot_figure,
    feature_redundancy_cell,
    interval_cell,
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
        Column("95 % interval, images and seeds"),
        Column("Share that flips"),
        Column("Empirical"),
        Column("Enhanced into it"),
    ]
    rows: list[list[Value]] = []
    for class_info in order:
        hat = class_info.alpha_hat
        accuracy = (
            f"{percent(class_info.accuracy)} ({percent_interval(class_info.accuracy_low, class_info.accuracy_high)})"
        )
        share: Value = percent(hat.flip.share) if class_info.n_correct else Missing(NO_CORRECT)
        rows.append(
            [
                class_info.name,
                count(class_info.n_correct),
                count(class_info.n),
                accuracy if class_info.n else Missing(NO_IMAGES),
                *_medians(class_info, hat),
                interval_cell(class_info),
                share,
                _empirical(class_info, hat),
                percent(class_info.enhance.share) if class_info.n else Missing(NO_IMAGES),
            ]
        )
    caption = "Thresholds in units of α̂: medians over images; empirical is one value per class"
    return make_table(caption, columns, rows, limit, "classes[].alpha_hat")


def _medians(class_info: ClassReliance, alpha: AlphaSummary) -> list[Value]:
    if class_info.n == 0:
        return [Missing(NO_IMAGES)] * 3
    undefined = Missing("defined for no image of this class")
    analytical: Value = undefined if alpha.analytical is None else strength(alpha.analytical)
    flip: Value = strength(alpha.flip.median) if class_info.n_correct else Missing(NO_CORRECT)
    return [analytical, strength(alpha.numerical), flip]


def _empirical(class_info: ClassReliance, alpha: AlphaSummary) -> Value:
    return strength(alpha.empirical) if class_info.n else Missing(NO_IMAGES)


def raw_table(order: Sequence[ClassReliance], limit: int) -> Table:
    """Table of thresholds as strengths α of unit-norm directions, to which every variant is brought."""
    heads = ("Analytical", "Numerical", "Flip", "Empirical")
    columns = [Column("Class", "name"), *(Column(head) for head in heads)]
    rows = [
        [class_info.name, *_medians(class_info, class_info.alpha), _empirical(class_info, class_info.alpha)]
        for class_info in order
    ]
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
        Column("Feature redundancy"),
        Column("Differs from", "wrap"),
    ]
    rows = [_trust_row(class_info, result, medium) for class_info in order]
    return make_table("Checks and controls", columns, rows, medium.table_rows, "classes[]")


def _trust_row(class_info: ClassReliance, result: AuditResult, medium: Medium) -> list[Value]:
    clamped, below = class_info.clamped_share, class_info.analytical_below_numerical
    size, p, stable = class_info.edit_size_at_flip, class_info.null_p, class_info.stable
    return [
        class_info.name,
        strength(class_info.alpha_hat.flip.median) if class_info.n_correct else Missing(NO_CORRECT),
        *_null_cells(class_info),
        Missing("no null control could be drawn") if p is None else p_value(p),
        Missing("not checked for this feature") if stable is None else "yes" if stable else "no",
        Missing("no flip median") if size is None else percent(size),
        Missing("no image flips") if clamped is None else percent(clamped),
        Missing("no image has both thresholds") if below is None else percent(below),
        feature_redundancy_cell(class_info, result.sae),
        names(class_info.differs_from, medium.listed) if class_info.differs_from else "none",
    ]


def _null_cells(class_info: ClassReliance) -> list[Value]:
    """The flip median under each null control, and how many draws it comes from."""
    if class_info.n_correct == 0:
        return [Missing(NO_CORRECT)] * 2
    control = class_info.null
    permuted: Value = Missing("no null control could be drawn")
    if control.n_draws:
        permuted = f"{strength(control.permuted_median)} ({count(control.n_draws)})"
    if control.n_random:
        return [permuted, f"{strength(control.random_median)} ({count(control.n_random)})"]
    if control.random_p is not None:  # written before the number was kept
        return [permuted, strength(control.random_median)]
    return [permuted, Missing("no other living feature to compare with")]


def status_table(order: Sequence[ClassReliance], limit: int) -> Table:
    """Table of the number of images that cross, are erased, never cross, or have no threshold."""
    heads = ("Crossed", "Erased", "Never", "Not applicable")
    columns = [Column("Class", "name"), *(Column(head) for head in heads)]
    rows = [
        [
            class_info.name,
            count(class_info.status.crossed),
            count(class_info.status.erased),
            count(class_info.status.never),
            count(class_info.status.not_applicable),
        ]
        for class_info in order
    ]
    return make_table("Images by status of the numerical threshold", columns, rows, limit, "classes[].status")


def ranking_table(order: Sequence[ClassReliance], limit: int) -> Table:
    """The strongest features of each class by the two rankings."""
    columns = [Column("Class", "name"), Column("By mean code × norm", "wrap"), Column("By attribution", "wrap")]
    rows = [
        [class_info.name, ", ".join(map(str, class_info.top_features)), ", ".join(map(str, class_info.top_attribution))]
        for class_info in order
    ]
    return make_table(
        "Strongest features of each class, the strongest first", columns, rows, limit, "classes[].top_features"
    )


def build_curves(result: AuditResult, medium: Medium) -> Section:
    """One panel per class, all on one strength axis."""
    classes, note = charted(result, medium.chart_classes)
    drawn = [class_info for class_info in classes if class_info.curve.alpha_hat]
    scale = alpha_scale([a for class_info in drawn for a in _telling(class_info)], 0, 1)
    figure = Figure(
        "figure-curves",
        "Accuracy of each class, and mean accuracy of the others, while its dominant feature is suppressed",
        tuple(draw_panel(_panel(class_info), scale.high, scale.kind) for class_info in drawn),
        "classes[].curve",
        panels=True,
        legend=draw_curve_legend(),
        note=note,
        numbers=_curve_numbers(drawn) if medium.numbers else None,
    )
    rising = [class_info.name for class_info in result.classes if class_info.curve.non_monotone]
    parts = {"figure": figure if drawn else None, "rising": names(rising, 8) if rising else ""}
    return Section("curves", "Suppression curves", "curves.html.j2", parts)


def _telling(class_info: ClassReliance) -> list[float | None]:
    """Strengths that a curve must show: its thresholds, and where next to nothing is left of the class."""
    curve, hat = class_info.curve, class_info.alpha_hat
    gone = next((a for a, accuracy in zip(curve.alpha_hat, curve.accuracy, strict=False) if accuracy <= _GONE), None)
    return [gone, hat.flip.median, hat.empirical, hat.analytical]


def _panel(class_info: ClassReliance) -> Panel:
    hat = class_info.alpha_hat
    marks = (("analytical", hat.analytical), ("numerical", hat.numerical), ("flip", hat.flip.median))
    return Panel(
        class_info.name,
        class_info.curve.alpha_hat,
        class_info.curve.accuracy,
        class_info.curve.others,
        marks,
        hat.empirical,
    )


def _curve_numbers(classes: Sequence[ClassReliance]) -> Table:
    length = max((len(class_info.curve.alpha_hat) for class_info in classes), default=0)
    columns = [Column("Class", "name"), Column("Quantity", "text"), *(Column(str(i + 1)) for i in range(length))]
    rows: list[list[Value]] = []
    for class_info in classes:
        curve = class_info.curve
        named = {
            "α̂": map(strength, curve.alpha_hat),
            "accuracy, class": map(percent, curve.accuracy),
            "accuracy, others": map(percent, curve.others),
        }
        for name, texts in named.items():
            row: list[Value] = [class_info.name, name, *texts]
            rows.append(row + [""] * (length + 2 - len(row)))
    return make_table("Points of the suppression curves", columns, rows, len(rows), "classes[].curve")


def build_distributions(result: AuditResult, medium: Medium) -> Section:
    """Section on the spread of single images' thresholds within each class."""
    classes, note = charted(result, medium.chart_classes)
    drawn = [class_info for class_info in classes if any(_drawable(d) for d in class_info.distributions)]
    groups = [
        BoxGroup(
            class_info.name, tuple(Spread(d.threshold, _quantiles(d)) for d in class_info.distributions if _drawable(d))
        )
        for class_info in drawn
    ]
    quantiles = [value for group in groups for spread in group.spreads for value in spread.quantiles]
    parts = [groups[i : i + CHART_ROWS] for i in range(0, len(groups), CHART_ROWS)]
    title = "Thresholds of single images by class"
    charts = tuple(
        draw_boxes(part, quantiles, title if len(parts) == 1 else f"{title}, part {i + 1} of {len(parts)}")
        for i, part in enumerate(parts)
    )
    figure = Figure(
        "figure-distributions",
        "Thresholds of single images: box 25 to 75 %, whiskers 5 to 95 %, line at the median, arrow further or never",
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
        [class_info.name, d.threshold, count(d.n), *map(strength, _quantiles(d))]
        for class_info in classes
        for d in class_info.distributions
        if _drawable(d)
    ]
    return make_table("Quantiles of the thresholds in units of α̂", columns, rows, len(rows), "classes[].distributions")
