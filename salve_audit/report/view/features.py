"""The sections on features: the map of mean codes, and what shared features do to every class."""

from __future__ import annotations

import math
from collections.abc import Sequence

from salve_audit.report.charts.effects import MOST_CLASSES, EffectLine, draw_effects
from salve_audit.report.charts.grid import GridRow, draw_grid
from salve_audit.report.charts.svg import Drawing
from salve_audit.report.language import say
from salve_audit.report.numbers import count, names, points, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.order import ranked
from salve_audit.report.view.page import Figure, Medium, Section
from salve_audit.report.view.seeing import why_unseen
from salve_audit.report.view.sweeps import (
    entangled_lines,
    images_table,
    sweep_figure,
    sweep_order,
    sweep_sentence,
    sweep_table,
)
from salve_audit.results import AuditResult, FeatureInfo

MAP_FEATURES, MAP_CLASSES = 40, 40
EFFECT_FEATURES = 12
_FAINT = 0.05  # mean codes below this share of the largest would be invisible in the map
_TESTED_AT = 1.0  # α̂ at which `affected` and `entangled` are judged
_NO_IMAGES = "no images of this class"


def build_map(result: AuditResult, medium: Medium) -> Section:
    """Mean code of the features on the classes, dominant features first in the order of the classes."""
    order = ranked(result)[:MAP_CLASSES]
    features = _mapped(result)
    rows = [
        GridRow(
            str(feature.index),
            tuple(_code(feature, c.index) for c in order),
            frozenset(j for j, c in enumerate(order) if c.dominant_feature == feature.index),
        )
        for feature in features
    ]
    said = []
    if len(result.classes) > len(order):
        said.append(
            say(
                "Shown are the first {order} of {classes} classes.",
                order=len(order),
                classes=count(len(result.classes)),
            )
        )
    if len(result.features) > len(features):
        said.append(
            say(
                "Shown are {features} of {features2} features: dominant ones, then larger codes.",
                features=len(features),
                features2=count(len(result.features)),
            )
        )
    columns = [class_info.name for class_info in order]
    title = say("Mean code of {rows} features on {columns} classes", rows=count(len(rows)), columns=count(len(columns)))
    figure = Figure(
        "figure-map",
        say("Mean code of each feature on each class (fit split)"),
        (draw_grid(rows, columns, title),) if rows else (),
        "features[].mean_code",
        note=" ".join(said),
        numbers=_map_numbers(features, result, [class_info.index for class_info in order]) if medium.numbers else None,
    )
    parts = {"figure": figure if rows else None, "unseen": why_unseen(result)}
    return Section("map", say("Features by class"), "map.html.j2", parts)


def _mapped(result: AuditResult) -> list[FeatureInfo]:
    """Dominant features in the order of the classes, then shared ones, then the others."""
    by_index = {feature.index: feature for feature in result.features}
    order = [c.dominant_feature for c in ranked(result)]
    shared = [feature.index for feature in result.features if feature.cross_class]
    chosen = list(dict.fromkeys([*order, *shared, *by_index]))
    largest = {
        index: max((abs(v) for v in feature.mean_code if v is not None), default=0.0)
        for index, feature in by_index.items()
    }
    visible = _FAINT * max(largest.values(), default=0.0)
    return [by_index[i] for i in chosen if i in by_index and (i in order or largest[i] >= visible)][:MAP_FEATURES]


def _map_numbers(features: Sequence[FeatureInfo], result: AuditResult, columns: Sequence[int]) -> Table:
    by_index = {class_info.index: class_info.name for class_info in result.classes}
    heads = [Column(say("Feature"), "name"), Column(say("Norm")), Column(say("Largest coupling"))]
    heads += [Column(by_index[j]) for j in columns]
    rows: list[list[Value]] = []
    for feature in features:
        codes: list[Value] = [
            Missing(_NO_IMAGES) if v is None else _signed(v) for v in (_code(feature, j) for j in columns)
        ]
        rows.append([str(feature.index), strength(feature.norm), strength(feature.coupling_max), *codes])
    return make_table(say("Mean codes"), heads, rows, len(rows), "features[].mean_code")


def _code(feature: FeatureInfo, index: int) -> float | None:
    return feature.mean_code[index] if index < len(feature.mean_code) else None


def _signed(value: float) -> str:
    return f"−{strength(-value)}" if value < 0 else strength(value)


def build_effects(result: AuditResult, medium: Medium) -> Section:
    """Features that concern two or more classes, strongest effect on any class first."""
    shared = sorted(
        (feature for feature in result.features if feature.cross_class),
        key=lambda feature: (-_reach(feature), feature.index),
    )
    shown = shared[:EFFECT_FEATURES]
    titles = [
        say("Feature {index}{x}", index=feature.index, x=" (entangled)" if feature.entangled else "")
        for feature in shown
    ]
    note = ""
    if len(shared) > len(shown):
        note = say(
            "Shown are the {shown} with the largest effect of {shared} cross-class features.",
            shown=len(shown),
            shared=count(len(shared)),
        )
    figure = Figure(
        "figure-effects",
        say("Change of accuracy when one cross-class feature is suppressed or enhanced: the classes it moves most"),
        tuple(_effect_chart(feature, result, title) for feature, title in zip(shown, titles, strict=True)),
        "features[].effect",
        panels=True,
        note=note,
        numbers=_effect_numbers(shown, result) if medium.numbers else None,
    )
    swept = sweep_order(result.features)
    parts = {
        "figure": figure if shown and not swept else None,  # an earlier version knew three strengths, without intervals
        "sweep": sweep_sentence(swept, result.stress) if swept else "",
        "sweep_figure": sweep_figure(swept, medium) if swept else None,
        "sweep_table": sweep_table(swept, medium) if swept else None,
        "images": images_table(swept, result.seeing, medium) if swept else None,
        "table": _shared_table(shared, medium),
        "entangled": entangled_lines(swept)
        if swept
        else [_entanglement(feature, result) for feature in shared if feature.entangled][:EFFECT_FEATURES],
        "none": not shared,
    }
    return Section("effects", say("Cross-class features and their effects"), "effects.html.j2", parts)


def _changes(feature: FeatureInfo) -> tuple[list[float], list[tuple[float | None, ...]]]:
    """Strengths (negative: suppressed, 0 added) and the changes of all classes at each."""
    n = len(feature.mean_code)
    left = sorted(feature.effect.suppress, key=lambda e: -e.alpha_hat)
    right = sorted(feature.effect.enhance, key=lambda e: e.alpha_hat)
    strengths = [-e.alpha_hat for e in left] + [0.0] + [e.alpha_hat for e in right]
    return strengths, [e.accuracy_change for e in left] + [(0.0,) * n] + [e.accuracy_change for e in right]


def _reach(feature: FeatureInfo) -> float:
    return max((abs(v) for row in _changes(feature)[1] for v in row if v is not None), default=0.0)


def _most_moved(feature: FeatureInfo, limit: int) -> list[int]:
    moved = [0.0] * len(feature.mean_code)
    for row in _changes(feature)[1]:
        moved = [max(before, abs(change or 0.0)) for before, change in zip(moved, row, strict=True)]
    return sorted(range(len(moved)), key=lambda j: (-moved[j], j))[:limit]


def _effect_chart(feature: FeatureInfo, result: AuditResult, title: str) -> Drawing:
    strengths, rows = _changes(feature)
    lines = [
        EffectLine(result.data.classes[j], tuple(row[j] for row in rows)) for j in _most_moved(feature, MOST_CLASSES)
    ]
    return draw_effects(strengths, lines, title)


def _effect_numbers(features: Sequence[FeatureInfo], result: AuditResult) -> Table:
    strengths = _changes(features[0])[0] if features else []
    columns = [Column(say("Feature"), "name"), Column(say("Class"), "text")]
    columns += [Column(f"{'suppress' if s < 0 else 'enhance'} {abs(s):g}") for s in strengths if s]
    rows: list[list[Value]] = []
    for feature in features:
        own, changes = _changes(feature)
        if own != strengths:
            continue
        for j in _most_moved(feature, 8):
            values: list[Value] = []
            for s, row in zip(own, changes, strict=True):
                change = row[j]
                if s:
                    values.append(Missing(_NO_IMAGES) if change is None else points(change))
            rows.append([str(feature.index), result.data.classes[j], *values])
    return make_table(
        say("Change of accuracy in percentage points, by strength α̂"), columns, rows, len(rows), "features[].effect"
    )


def _shared_table(shared: Sequence[FeatureInfo], medium: Medium) -> Table:
    columns = [
        Column(say("Feature"), "name"),
        Column(say("Strong on"), "wrap"),
        Column(say("Dominant for"), "wrap"),
        Column(say("Moves when suppressed"), "wrap"),
        Column(say("Entangled"), "text"),
    ]
    rows = [
        [
            str(feature.index),
            names(feature.classes, medium.listed) if feature.classes else say("none"),
            names(feature.dominant_for, medium.listed) if feature.dominant_for else say("none"),
            names(feature.affected, medium.listed) if feature.affected else say("none"),
            say("yes") if feature.entangled else say("no"),
        ]
        for feature in shared
    ]
    return make_table(say("Features that concern more than one class"), columns, rows, medium.detail_rows, "features[]")


def _entanglement(feature: FeatureInfo, result: AuditResult) -> str:
    """A phrase on the two classes that suppression lowers and raises most, among those that it moves significantly.

    Significance was tested at α̂ = 1; a class that moves elsewhere, or by chance, is no sign of entanglement.
    """
    tested = next((e.accuracy_change for e in feature.effect.suppress if math.isclose(e.alpha_hat, _TESTED_AT)), ())
    moved = [
        (v, c) for v, c in zip(tested, result.data.classes, strict=False) if v is not None and c in feature.affected
    ]
    if len(moved) < 2:
        return say(
            "Feature {index}: {affected} in opposite directions.", index=feature.index, affected=names(feature.affected)
        )
    low, high = min(moved), max(moved)
    moves = say(
        "{low} changes by {low2} and {high} by {high2} points",
        low=low[1],
        low2=points(low[0]),
        high=high[1],
        high2=points(high[0]),
    )
    return say(
        "Feature {index}: suppressed at α̂ = {TESTED_AT}, {moves}.",
        index=feature.index,
        TESTED_AT=f"{_TESTED_AT:g}",
        moves=moves,
    )
