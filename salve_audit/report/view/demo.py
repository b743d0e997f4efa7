"""The demo world: what was planted, what was found, and how well each statistic ranks the truth."""

from __future__ import annotations

from salve_audit.report.numbers import count, p_value, percent, plural
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.depth import reliance_cell
from salve_audit.report.view.front import interval_cell, median_cell, redundancy_cell
from salve_audit.report.view.page import Medium, Section
from salve_audit.results import AuditResult, DemoTruth, PlantedClass

STATISTICS = {
    "alpha_hat_flip": "α̂ flip median",
    "alpha_hat_numerical": "α̂ numerical median",
    "alpha_hat_analytical": "α̂ analytical median",
    "alpha_hat_empirical": "α̂ empirical",
    "edit_size_at_flip": "edit size at the flip median",
    "redundancy": "redundancy at the head",
    "accuracy": "accuracy",
    "reliance_at_depth": "reliance at depth",
    "redundancy_at_depth": "redundancy at depth",
}


def build_demo(result: AuditResult, truth: DemoTruth, medium: Medium) -> Section:
    """Planted beside found, class by class."""
    found = {one.name: one for one in result.classes}
    deep = any(one.depth is not None for one in result.classes)
    columns = [
        Column("Class", "name"),
        Column("Planted cues: true drop when each is left out", "wrap"),
        Column("Largest true drop"),
        Column("α̂ flip median"),
        Column("95 % interval"),
        Column("Redundancy"),
        *([Column("Reliance at depth, %")] if deep else []),
        Column("Dominant feature"),
        Column("AUROC on its class"),
    ]
    unknown = Missing("this class was not audited")
    rows: list[list[Value]] = []
    for one in truth.classes:
        audited = found.get(one.class_name)
        rows.append(
            [
                one.class_name,
                _cues(one),
                percent(one.largest_drop),
                unknown if audited is None else median_cell(audited),
                unknown if audited is None else interval_cell(audited),
                unknown if audited is None else redundancy_cell(audited, result.sae),
                *([unknown if audited is None else reliance_cell(audited.depth)] if deep else []),
                str(one.dominant_feature),
                f"{one.dominant_auroc:.3f}",
            ]
        )
    table = make_table("What was planted, what was found", columns, rows, medium.table_rows, "demo.classes")
    parts = {"table": table, "correlations": _correlations(truth, medium), "sentence": _sentence(truth)}
    return Section("demo", "What was planted, what was found", "demo.html.j2", parts)


def _cues(one: PlantedClass) -> str:
    together = sorted(what for what in one.true_drop if what not in one.cues)
    known = {what: f": {percent(drop)}" for what, drop in one.true_drop.items()}
    return "; ".join(what + known.get(what, "") for what in [*one.cues, *together]) or "none"


def _correlations(truth: DemoTruth, medium: Medium) -> Table:
    undefined = Missing("not defined: fewer than three values, or all alike")
    columns = [Column("Statistic", "name"), Column("Spearman ρ with the truth"), Column("p"), Column("Classes")]
    rows: list[list[Value]] = [
        [
            STATISTICS.get(one.statistic, one.statistic),
            undefined if one.rho is None else f"{one.rho:+.2f}".replace("-", "−"),
            undefined if one.p is None else p_value(one.p),
            count(one.n),
        ]
        for one in truth.correlations
    ]
    caption = "Rank correlation of each statistic with the largest true drop"
    return make_table(caption, columns, rows, medium.table_rows, "demo.correlations")


def _sentence(truth: DemoTruth) -> str:
    """What the correlations say, in both directions."""
    known = [one for one in truth.correlations if one.rho is not None and one.p is not None]
    if not known:
        return "No rank correlation could be computed."
    clear = [one for one in known if one.p is not None and one.p < 0.05]
    if not clear:
        return (
            f"None of the {plural(len(known), 'statistic')} ranks the classes by what they depend on in the picture "
            "beyond chance (p < 0.05)."
        )
    texts = [f"{STATISTICS.get(one.statistic, one.statistic)} (ρ = {one.rho:+.2f})".replace("-", "−") for one in clear]
    return f"Beyond chance (p < 0.05, not corrected for several tests): {', '.join(texts)}; the others are not."
