"""The first page: what was audited, the verdict, the table of classes."""

from __future__ import annotations

from salve_audit.report.charts.dots import DotRow, draw_dots
from salve_audit.report.numbers import count, moment, names, percent, plural, strength, strength_interval
from salve_audit.report.tables import Chips, Column, Missing, Noted, Table, Value, make_table
from salve_audit.report.view import evidence
from salve_audit.report.view.findings import active, findings, living
from salve_audit.report.view.order import flip_limit, fragile_first
from salve_audit.report.view.page import FRONT_ROWS, FRONT_WARNINGS, Banner, Figure, Front
from salve_audit.results import AuditResult, ClassReliance, Rule, SaeInfo
from salve_audit.results.verdict import UNTRUSTED

_LISTED = 5  # failing classes named in the verdict
NO_IMAGES = "no audit images of this class"
NO_CORRECT = "no correctly classified audit image of this class"


def build_front(result: AuditResult) -> Front:
    """The first page of `result`."""
    order = fragile_first(result.classes)
    shown = order[:FRONT_ROWS]
    warnings = findings(result)
    more = len(warnings) - FRONT_WARNINGS
    note = ""
    if len(order) > len(shown):
        note = f"The {len(shown)} most fragile of {count(len(order))} classes; all are in the section on classes."
    return Front(
        facts=_facts(result),
        banner=build_banner(result),
        warnings=warnings[:FRONT_WARNINGS],
        more_warnings=f"{count(more)} more under findings and warnings." if more > 0 else "",
        table=verdict_table(result, shown, FRONT_ROWS),
        table_note=note,
        figure=dot_figure(result, shown, "figure-front"),
        has_image_reliance=any(class_info.image_reliance is not None for class_info in result.classes),
    )


def _facts(result: AuditResult) -> tuple[tuple[str, str], ...]:
    model, data = result.model, result.data
    n = sum(class_info.n for class_info in result.classes)
    correct = sum(class_info.n_correct for class_info in result.classes)
    accuracy = f"{percent(correct / n)} of {count(n)} audit images right" if n else "no audit images"
    return (
        ("Model", f"{model.name}: {model.architecture}, {count(model.n_parameters)} parameters"),
        ("Head", f"{model.head}: {count(model.d)} activations to {plural(model.n_classes, 'class', 'classes')}"),
        ("Data", f"{data.root}, {data.layout}"),
        (
            "Images",
            f"{count(data.n_fit)} to fit features, {count(data.n_audit)} to audit, {count(data.n_skipped)} skipped",
        ),
        ("Accuracy", accuracy),
        ("Autoencoder", _autoencoder(result)),
        ("Date", f"{date(result)}, salve-audit {result.tool_version}, seed {result.seed}"),
    )


def _autoencoder(result: AuditResult) -> str:
    """The variant, how sparse it is, and its R² with the images on which it was measured."""
    sae = result.sae
    r2 = f"R² {sae.r2:.3f} (held-out fit images)"
    if sae.on_audit is not None:
        r2 = f"R² {sae.on_audit.r2:.3f} (audit images)"
    return f"{sae.variant}, {active(sae)}, {r2}"


def date(result: AuditResult) -> str:
    """The date of the audit in words."""
    at = moment(result.created)
    return f"{at.day} {at:%B %Y, %H:%M} {at.tzname()}"


def build_banner(result: AuditResult) -> Banner:
    """The verdict in words, from the result's own verdict alone."""
    verdict = result.verdict
    if verdict.word == "no policy":
        return Banner(
            "none", "No policy", "No policy was given, so nothing passes or fails. The numbers stand for themselves."
        )
    groups = {
        "fail": list(verdict.by_effect("fail")),
        "undecided": [rule for rule in verdict.rules if rule.outcome == "undecided"],
        "thin": [rule for rule in verdict.rules if rule.outcome == "thin"],
    }
    details = []
    if groups["undecided"]:
        who = names([r.class_name for r in groups["undecided"]])
        details.append(f"Undecided, since the interval contains the limit or chance explains the value: {who}.")
    if groups["thin"]:
        who = names([r.class_name for r in groups["thin"]])
        details.append(f"Not judged (not measured, or too few images or flips): {who}.")
    policy = f"Policy “{verdict.policy}”"
    details += [f"Warning: {_measured(rule)}." for rule in verdict.by_effect("warn") if rule.outcome == "fail"][
        :_LISTED
    ]
    details += [f"Exempt: {_measured(rule)}, {rule.why}." for rule in verdict.by_effect("exempt")][:_LISTED]
    details += verdict.notes[:_LISTED]
    if verdict.exit_code == UNTRUSTED:
        reasons = [sentence_of(problem) for problem in verdict.problems] or ["No class could be judged."]
        said = f"{policy}: the audit cannot be trusted, so nothing passes or fails. {reasons[0]}"
        return Banner("none", "Not judged", said, (*reasons[1:], *details))
    if verdict.passed:
        judged = sum(r.outcome in ("pass", "undecided") for r in verdict.rules)
        of = plural(judged, "judged class", "judged classes")
        text = f"{policy}: none of {of} has its whole 95 % interval on the wrong side of the limit."
        return Banner("pass", "Pass", text, tuple(details))
    failed = sorted(groups["fail"], key=lambda rule: (rule.value is None, rule.value))
    listed = "; ".join(_measured(rule) for rule in failed[:_LISTED])
    rest = f"; and {count(len(failed) - _LISTED)} more" if len(failed) > _LISTED else ""
    verb = "violates" if len(failed) == 1 else "violate"
    text = f"{policy}: {plural(len(failed), 'class', 'classes')} {verb} it. {listed}{rest}."
    return Banner("fail", "Fail", text, tuple(details))


def sentence_of(text: str) -> str:
    """A reason as a sentence of its own."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _measured(rule: Rule) -> str:
    interval = strength_interval(rule.low, rule.high)
    within = f" ({interval})" if interval else ""
    return f"{rule.class_name or 'the audit'}: {strength(rule.value)}{within}, limit {strength(rule.limit)}"


def median_cell(class_info: ClassReliance) -> Value:
    """The α̂ flip median of a class."""
    return Missing(NO_CORRECT) if class_info.n_correct == 0 else strength(class_info.alpha_hat.flip.median)


def interval_cell(class_info: ClassReliance) -> Value:
    """The 95 % interval of the α̂ flip median that the verdict judges: over images and seeds."""
    if class_info.n_correct == 0:
        return Missing(NO_CORRECT)
    low, high = class_info.judged_interval
    return strength_interval(low, high) or Missing("too few flips for an interval")


def accuracy_cell(class_info: ClassReliance) -> Value:
    """Accuracy of a class with its number of images."""
    return f"{percent(class_info.accuracy)} (n = {count(class_info.n)})" if class_info.n else Missing(NO_IMAGES)


def feature_redundancy_cell(class_info: ClassReliance, sae: SaeInfo) -> Value:
    """Number of features to remove, or that the limit, or all living features together, were not enough."""
    if class_info.n == 0:
        return Missing(NO_IMAGES)
    if class_info.feature_redundancy is not None:
        return str(class_info.feature_redundancy)
    n = living(sae)
    if class_info.feature_redundancy_limit < n:
        return f"> {class_info.feature_redundancy_limit}"
    note = f"removing all {plural(n, 'living feature')} at α̂ = 1 does not bring the class to 50 %"
    return Noted(f"none of {count(n)}", note)


def verdict_table(result: AuditResult, classes: tuple[ClassReliance, ...], limit: int) -> Table:
    """One row per class with what decides the verdict."""
    judged = result.verdict.outcomes
    has_image_reliance = any(class_info.image_reliance is not None for class_info in classes)
    columns = [
        Column("Class", "name"),
        Column("α̂ flip median"),
        Column("95 % interval"),
        *([Column("Outcome", "text")] if judged else []),
        Column("Flags", "text"),
        Column("Accuracy"),
        Column("Feature redundancy"),
        Column("Dominant feature"),
        *([Column("Image reliance, %"), Column("Redundancy in the image")] if has_image_reliance else []),
    ]
    rows: list[list[Value]] = []
    for class_info in classes:
        row: list[Value] = [
            class_info.name,
            median_cell(class_info),
            interval_cell(class_info),
            *([judged.get(class_info.name, Missing("no rule of the policy concerns this class"))] if judged else []),
            Chips(class_info.flags),
            accuracy_cell(class_info),
            feature_redundancy_cell(class_info, result.sae),
            str(class_info.dominant_feature),
            *(
                [evidence.reliance_cell(class_info.image_reliance), evidence.redundancy_cell(class_info.image_reliance)]
                if has_image_reliance
                else []
            ),
        ]
        rows.append(row)
    return make_table("Edit sensitivity by class, most fragile first", columns, rows, limit, "classes[]")


def dot_figure(result: AuditResult, classes: tuple[ClassReliance, ...], anchor: str) -> Figure | None:
    """Medians and intervals of the classes that have any."""
    judged, limit = result.verdict.outcomes, flip_limit(result.verdict)
    rows = []
    for class_info in classes:
        flip = class_info.alpha_hat.flip
        if class_info.n_correct:
            outcome = judged.get(class_info.name, "thin" if class_info.thin else "")
            rows.append(DotRow(class_info.name, flip.median, *class_info.judged_interval, outcome))
    if not rows:
        return None
    title = f"α̂ flip median with 95 % interval of {plural(len(rows), 'class', 'classes')}, most fragile first"
    left = len(classes) - len(rows)
    note = f"{plural(left, 'class', 'classes')} without a correctly classified image left out." if left else ""
    caption = "Strength at which half of a class's correct predictions flip (median, 95 % interval)"
    chart, narrow = draw_dots(rows, limit, title), draw_dots(rows, limit, title, narrow=True)
    return Figure(anchor, caption, (chart,), "classes[].alpha_hat.flip", note=note, narrow=narrow)
