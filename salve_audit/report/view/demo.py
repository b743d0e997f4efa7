"""The demo world: what was planted, what was found, and how well each statistic ranks the truth."""

from __future__ import annotations

from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, p_value, percent
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.cells import feature_redundancy_cell, interval_cell, median_cell, reliance_cell
from salve_audit.report.view.page import Medium, Section
from salve_audit.results import AuditResult, DemoTruth, PlantedClass

STATISTICS = {
    "alpha_hat_flip": "α̂ flip median",
    "alpha_hat_numerical": "α̂ numerical median",
    "alpha_hat_analytical": "α̂ analytical median",
    "alpha_hat_empirical": "α̂ empirical",
    "edit_size_at_flip": "edit size at the flip median",
    "feature_redundancy": "feature redundancy (at the head)",
    "accuracy": "accuracy",
    "image_reliance": "image reliance",
    "redundancy": "redundancy in the image",
}


def build_demo(result: AuditResult, truth: DemoTruth, medium: Medium) -> Section:
    """Planted beside found, class by class."""
    audited_classes = {class_info.name: class_info for class_info in result.classes}
    has_image_reliance = any(class_info.image_reliance is not None for class_info in result.classes)
    columns = [
        Column(say("Class"), "name"),
        Column(say("Planted cues: true drop when each is left out"), "wrap"),
        Column(say("Largest true drop")),
        Column(say("α̂ flip median")),
        Column(say("95 % interval")),
        Column(say("Feature redundancy")),
        *([Column(say("Image reliance, %"))] if has_image_reliance else []),
        Column(say("Dominant feature")),
        Column(say("AUROC on its class")),
    ]
    unknown = Missing("this class was not audited")
    rows: list[list[Value]] = []
    for planted in truth.classes:
        audited = audited_classes.get(planted.class_name)
        rows.append(
            [
                planted.class_name,
                _cues(planted),
                percent(planted.largest_drop),
                unknown if audited is None else median_cell(audited),
                unknown if audited is None else interval_cell(audited),
                unknown if audited is None else feature_redundancy_cell(audited, result.sae),
                *(
                    [unknown if audited is None else reliance_cell(audited.image_reliance)]
                    if has_image_reliance
                    else []
                ),
                str(planted.dominant_feature),
                f"{planted.dominant_auroc:.3f}",
            ]
        )
    table = make_table(say("What was planted, what was found"), columns, rows, medium.table_rows, "demo.classes")
    parts = {"table": table, "correlations": _correlations(truth, medium), "sentence": _sentence(truth)}
    return Section("demo", say("What was planted, what was found"), "demo.html.j2", parts)


def sentence_on_truth(truth: DemoTruth) -> str:
    """What the known truth of the demo says about the two measures, for readers of the second page."""
    by_statistic = {correlation.statistic: correlation for correlation in truth.correlations}
    image, head = by_statistic.get("image_reliance"), by_statistic.get("alpha_hat_flip")
    if image is None or image.rho is None:
        return ""
    text = say(
        "This is the demo: what each class truly depends on was planted. Image reliance ranks the {n} classes by their "
        "true drop with a rank correlation of {rho}",
        n=count(image.n),
        rho=_rho(image.rho),
    )
    if head is not None and head.rho is not None:
        return text + say("; the α̂ flip median, which answers another question, with {rho}.", rho=_rho(head.rho))
    return text + "."


def _rho(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _cues(planted: PlantedClass) -> str:
    together = sorted(what for what in planted.true_drop if what not in planted.cues)
    known = {what: f": {percent(drop)}" for what, drop in planted.true_drop.items()}
    return "; ".join(what + known.get(what, "") for what in [*planted.cues, *together]) or say("none")


def _correlations(truth: DemoTruth, medium: Medium) -> Table:
    undefined = Missing("not defined: fewer than three values, or all alike")
    columns = [
        Column(say("Statistic"), "name"),
        Column(say("Spearman ρ with the truth")),
        Column("p"),
        Column(say("Classes")),
    ]
    rows: list[list[Value]] = [
        [
            say(STATISTICS.get(correlation.statistic, correlation.statistic)),
            undefined if correlation.rho is None else f"{correlation.rho:+.2f}".replace("-", "−"),
            undefined if correlation.p is None else p_value(correlation.p),
            count(correlation.n),
        ]
        for correlation in truth.correlations
    ]
    caption = say("Rank correlation of each statistic with the largest true drop")
    return make_table(caption, columns, rows, medium.table_rows, "demo.correlations")


def _sentence(truth: DemoTruth) -> str:
    """A sentence on the correlations, in both directions."""
    known = [
        correlation for correlation in truth.correlations if correlation.rho is not None and correlation.p is not None
    ]
    if not known:
        return say("No rank correlation could be computed.")
    clear = [correlation for correlation in known if correlation.p is not None and correlation.p < 0.05]
    if not clear:
        return say(
            "None of the {known} ranks the classes by what they depend on in the image beyond chance (p < 0.05).",
            known=plural(len(known), "statistic"),
        )
    texts = [
        f"{say(STATISTICS.get(correlation.statistic, correlation.statistic))} (ρ = {correlation.rho:+.2f})".replace(
            "-", "−"
        )
        for correlation in clear
    ]
    return say(
        "Beyond chance (p < 0.05, not corrected for several tests): {texts}; the others are not.",
        texts=", ".join(texts),
    )
