"""Critical suppression thresholds: α and α̂, analytical, numerical, flip and empirical, with what is censored."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.charts.boxes import BoxGroup, Spread, draw_boxes
from salve_audit.report.charts.thresholds import ThresholdRow, draw_thresholds
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import NOT_REACHED, count, names, p_value, percent, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.cells import NO_CORRECT, NO_IMAGES, feature_redundancy_cell, interval_cell
from salve_audit.report.view.front import flip_limit
from salve_audit.report.view.order import charted, order_words, ranked
from salve_audit.report.view.page import CHART_ROWS, Figure, Medium, Section
from salve_audit.results import AlphaSummary, AuditResult, ClassReliance, Distribution

_SHOWN_QUANTILES = (1, 5, 10, 15, 19)  # of 0, 5, ..., 100 %: 5, 25, 50, 75, 95 %


def build_thresholds(result: AuditResult, medium: Medium) -> Section:
    """One table and one figure of all classes."""
    order = ranked(result)
    rising = [info.name for info in result.classes if info.curve.non_monotone]
    parts = {
        "figure": _figure(result, medium),
        "table": thresholds_table(order, medium.table_rows),
        "rising": names(rising, 8) if rising else "",
        "order": order_words(result.classes),
    }
    return Section("thresholds", say("Critical suppression thresholds"), "thresholds.html.j2", parts)


def _figure(result: AuditResult, medium: Medium) -> Figure | None:
    classes, note = charted(result, medium.chart_classes)
    drawn = [info for info in classes if info.n_correct]
    if not drawn:
        return None
    limit = flip_limit(result.verdict)
    rows = [
        ThresholdRow(info.name, info.alpha_hat.analytical, info.alpha_hat.numerical, info.alpha_hat.flip.median,
                     *info.judged_interval, info.alpha_hat.empirical)
        for info in drawn
    ]  # fmt: skip
    parts = [rows[i : i + CHART_ROWS] for i in range(0, len(rows), CHART_ROWS)]
    title = say("Critical strengths of {n}", n=plural(len(rows), "class", "classes"))
    values = [v for row in rows for v in (row.analytical, row.flip, row.low, row.high, row.empirical)]
    return Figure(
        "figure-thresholds",
        say("Strength α̂ at which each class is lost, by four definitions; line: 95 % interval of the flip median"),
        tuple(draw_thresholds(part, values, limit, title) for part in parts),
        "classes[].alpha_hat",
        note=note,
        narrow=draw_thresholds(rows[:CHART_ROWS], values, limit, title, narrow=True) if len(parts) == 1 else None,
    )


def thresholds_table(order: Sequence[ClassReliance], limit: int) -> Table:
    """The four thresholds in units of α̂ and of α, and the shares of images that never get there."""
    columns = [
        Column(say("Class"), "name"),
        Column(say("Analytical α̂")), Column("α"),
        Column(say("Numerical α̂")), Column("α"), Column(say("never, %")),
        Column(say("Flip α̂")), Column("α"), Column(say("95 % interval, α̂")), Column(say("never, %")),
        Column(say("Empirical α̂")), Column("α"),
    ]  # fmt: skip
    rows: list[list[Value]] = []
    for info in order:
        hat = threshold_cells(info, info.alpha_hat)
        raw = ["" if cell == say(NOT_REACHED) else cell for cell in threshold_cells(info, info.alpha)]
        numerical, flip = censored_cells(info)
        cells = [hat[0], raw[0], hat[1], raw[1], numerical, hat[2], raw[2], interval_cell(info), flip, hat[3], raw[3]]
        rows.append([info.name, *cells])
    caption = say("Critical strengths: medians over images; empirical is one value per class")
    return make_table(caption, columns, rows, limit, "classes[].alpha_hat")


def threshold_cells(info: ClassReliance, alpha: AlphaSummary) -> list[Value]:
    """Analytical, numerical, flip and empirical."""
    if info.n == 0:
        return [Missing(NO_IMAGES)] * 4
    undefined = Missing("defined for no image of this class")
    analytical: Value = undefined if alpha.analytical is None else strength(alpha.analytical)
    flip: Value = strength(alpha.flip.median) if info.n_correct else Missing(NO_CORRECT)
    return [analytical, strength(alpha.numerical), flip, strength(alpha.empirical)]


def censored_cells(info: ClassReliance) -> list[Value]:
    """Shares of images whose numerical and whose flip threshold is never reached (or only with every weight gone)."""
    status = info.status
    applicable = status.crossed + status.erased + status.never
    numerical: Value = Missing("defined for no image of this class")
    if applicable:
        numerical = percent((status.erased + status.never) / applicable, applicable)
    flip: Value = Missing(NO_CORRECT)
    if info.n_correct:
        flip = percent(1 - info.alpha_hat.flip.share, info.n_correct)
    return [numerical, flip]


def build_checks(result: AuditResult, medium: Medium) -> Section:
    """Appendix: null controls, checks of the linear approximation, and the spread of single images' thresholds."""
    order = ranked(result)
    parts = {
        "table": trust_table(result, order, medium),
        "rankings": ranking_table(order, medium.table_rows),
        "figure": _distributions(result, medium),
    }
    return Section("checks", say("Controls and spread of the thresholds"), "checks.html.j2", parts)


def trust_table(result: AuditResult, order: Sequence[ClassReliance], medium: Medium) -> Table:
    """Null controls, stability and the checks of the linear approximation."""
    columns = [
        Column(say("Class"), "name"),
        Column(say("Permuted coupling (draws)")),
        Column(say("Other feature (how many)")),
        Column(say("Null p")),
        Column(say("Edit size at flip")),
        Column(say("Weights clamped")),
        Column(say("Analytical ≤ numerical")),
        Column(say("Enhanced into it")),
        Column(say("Feature redundancy")),
        Column(say("Differs from"), "wrap"),
    ]
    rows = [_trust_row(info, result, medium) for info in order]
    return make_table(say("Checks and controls"), columns, rows, medium.table_rows, "classes[]")


def _trust_row(info: ClassReliance, result: AuditResult, medium: Medium) -> list[Value]:
    clamped, below, size, p = (
        info.clamped_share,
        info.analytical_below_numerical,
        info.edit_size_at_flip,
        info.null_p,
    )
    return [
        info.name,
        *_null_cells(info),
        Missing("no null control could be drawn") if p is None else p_value(p),
        Missing("no flip median") if size is None else percent(size),
        Missing("no image flips") if clamped is None else percent(clamped),
        Missing("no image has both thresholds") if below is None else percent(below),
        percent(info.enhance.share) if info.n else Missing(NO_IMAGES),
        feature_redundancy_cell(info, result.sae),
        names(info.differs_from, medium.listed) if info.differs_from else say("none"),
    ]


def _null_cells(info: ClassReliance) -> list[Value]:
    """The flip median under each null control, and how many draws it comes from."""
    if info.n_correct == 0:
        return [Missing(NO_CORRECT)] * 2
    control = info.null
    permuted: Value = Missing("no null control could be drawn")
    if control.n_draws:
        permuted = f"{strength(control.permuted_median)} ({count(control.n_draws)})"
    if control.n_random:
        return [permuted, f"{strength(control.random_median)} ({count(control.n_random)})"]
    if control.random_p is not None:  # written before the number was kept
        return [permuted, strength(control.random_median)]
    return [permuted, Missing("no other living feature to compare with")]


def ranking_table(order: Sequence[ClassReliance], limit: int) -> Table:
    """The strongest features of each class by the two rankings."""
    columns = [
        Column(say("Class"), "name"),
        Column(say("By mean code × norm"), "wrap"),
        Column(say("By attribution"), "wrap"),
    ]
    rows: list[list[Value]] = [
        [info.name, ", ".join(map(str, info.top_features)), ", ".join(map(str, info.top_attribution))] for info in order
    ]
    caption = say("Strongest features of each class, the strongest first")
    return make_table(caption, columns, rows, limit, "classes[].top_features")


def _distributions(result: AuditResult, medium: Medium) -> Figure | None:
    """The spread of single images' thresholds within each class."""
    classes, note = charted(result, medium.chart_classes)
    drawn = [info for info in classes if any(_drawable(d) for d in info.distributions)]
    groups = [
        BoxGroup(info.name, tuple(Spread(d.threshold, _quantiles(d)) for d in info.distributions if _drawable(d)))
        for info in drawn
    ]
    if not groups:
        return None
    quantiles = [value for group in groups for spread in group.spreads for value in spread.quantiles]
    parts = [groups[i : i + CHART_ROWS] for i in range(0, len(groups), CHART_ROWS)]
    title = say("Thresholds of single images by class")
    return Figure(
        "figure-distributions",
        say("Thresholds of single images: box 25 to 75 %, whiskers 5 to 95 %, line: median, arrow: further or never"),
        tuple(draw_boxes(part, quantiles, title) for part in parts),
        "classes[].distributions",
        note=note,
    )


def _drawable(distribution: Distribution) -> bool:
    return distribution.n > 0 and distribution.threshold in ("analytical", "numerical", "flip")


def _quantiles(
    distribution: Distribution,
) -> tuple[float | None, float | None, float | None, float | None, float | None]:
    a, b, c, d, e = (distribution.quantiles[i] for i in _SHOWN_QUANTILES)
    return a, b, c, d, e
