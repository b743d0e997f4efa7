"""Class cards: what one class depends on, what it looks like, how it is edited away, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from salve_audit.report.charts.axes import alpha_scale
from salve_audit.report.charts.curves import Panel, draw_curve_legend, draw_panel
from salve_audit.report.charts.lanes import Lane, draw_lane
from salve_audit.report.charts.svg import Drawing
from salve_audit.report.conclusions import Conclusion, Conclusions, Group, own_drop
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, name, percent, percent_interval
from salve_audit.report.recommend import Advice, advise_class
from salve_audit.report.sentences import GROUP_TITLES, REGION, class_sentence
from salve_audit.report.tables import Chips, Column, Missing, Table, Value, make_table
from salve_audit.report.view.card_images import Pictures, picture_concept
from salve_audit.report.view.cells import NO_CORRECT, accuracy_cell, interval_cell, median_cell, reliance_cell
from salve_audit.report.view.front import chips
from salve_audit.report.view.page import INDEX, ClassName, Medium, Section
from salve_audit.report.view.review import say_properties
from salve_audit.report.view.thresholds import censored_cells, threshold_cells
from salve_audit.results import ClassReliance, Concept, FactorEffect

ROWS_OF_IMAGES = {"html": 3, "pdf": 2}
FACTORS = 4  # global factors in a card, the largest first
_GONE = 0.02


@dataclass(frozen=True)
class Part:
    """One thing that was removed: its words, its effect, the lane that shows it, and what inserting it does."""

    label: str
    value: str
    lane: Markup
    inserted: str = ""


@dataclass(frozen=True)
class Card:
    """One class."""

    name: ClassName
    group: str
    group_title: str
    tone: str
    chips: tuple[str, ...]
    accuracy: str
    sentence: str
    parts: tuple[Part, ...]
    becomes: str
    pictures: Pictures
    unseen: str  # the concept in words, where no image of it is shown
    curve: Drawing | None
    curve_key: int  # index of the class, for the page's slider
    thresholds: Table
    advice: Advice | None
    flags: tuple[str, ...]

    @property
    def has_inserted(self) -> bool:
        """True where anything was put into other classes' images."""
        return any(part.inserted for part in self.parts)


def build_cards(conclusions: Conclusions, names: Mapping[str, ClassName], medium: Medium) -> Section:
    """Cards of the classes that need a look, worst first, and one table of the others."""
    carded = choose_carded(conclusions, medium)
    scale = _curve_scale(carded)
    cards = tuple(_card(each, conclusions, (names, medium), scale) for each in carded)
    rest = [each for each in conclusions.ranked if each not in carded]
    parts = {
        "cards": cards,
        "legend": draw_curve_legend() if any(card.curve for card in cards) else None,
        "rest": _rest_table(rest, say("Other classes" if carded else "All classes"), medium.table_rows)
        if rest
        else None,
        "anchors": [INDEX, *(names[each.name].anchor for each in rest)]
        if is_indexed_by_cards(conclusions, medium)
        else [],
        "measured": conclusions.is_measured,
    }
    return Section("classes", say("Classes"), "cards.html.j2", parts)


def is_indexed_by_cards(conclusions: Conclusions, medium: Medium) -> bool:
    """Whether cards and the table of other classes show all classes of a printed report: an index adds nothing."""
    return medium.name == "pdf" and len(conclusions.ranked) <= medium.cards


def choose_carded(conclusions: Conclusions, medium: Medium) -> tuple[Conclusion, ...]:
    """The classes that get a card: all of a short list, else those that depend on something or break the policy."""
    if medium.all_cards:
        return conclusions.ranked[: medium.cards]
    telling = (Group.DEPENDS, Group.UNDECIDED) if conclusions.is_measured else (Group.NOT_EXAMINED,)
    wanted = [each for each in conclusions.ranked if each.group in telling or each.outcome == "fail"]
    return tuple(wanted[: medium.cards])


def _card(
    conclusion: Conclusion,
    conclusions: Conclusions,
    context: tuple[Mapping[str, ClassName], Medium],
    scale: tuple[float, str],
) -> Card:
    names, medium = context
    info = conclusion.info
    limit, with_heat = ROWS_OF_IMAGES[medium.name], medium.name == "html"
    title = GROUP_TITLES[conclusion.group] if conclusions.is_measured else ""
    return Card(
        name=names[conclusion.name],
        group=conclusion.group.value,
        group_title=say(title) if title else "",
        tone={Group.DEPENDS: "alarm", Group.UNDECIDED: "open"}.get(conclusion.group, "calm"),
        chips=chips(conclusion),
        accuracy=_accuracy(info),
        sentence=class_sentence(conclusion, conclusions.threshold),
        parts=_parts(conclusion, conclusions.threshold),
        becomes=_becomes(conclusion),
        pictures=picture_concept(conclusion, conclusions.result, limit, with_heat),
        unseen=_unseen(conclusion),
        curve=draw_panel(_panel(info), *scale) if info.curve.alpha_hat else None,
        curve_key=info.index,
        thresholds=_thresholds(info),
        advice=advise_class(conclusion, conclusions),
        flags=info.flags,
    )  # fmt: skip


def _accuracy(info: ClassReliance) -> str:
    if not info.n:
        return say("no images")
    return say("{share} of {n} right", share=percent(info.accuracy, info.n), n=plural(info.n, "image"))


def _becomes(conclusion: Conclusion) -> str:
    """What the images that are shown become without the thing; "" where it was not recorded."""
    concept = conclusion.concept
    if concept is None:
        return ""
    predicted = Counter(image.predicted for image in concept.images if image.flipped and image.predicted)
    predicted.pop(concept.class_name, None)
    if not predicted:
        return ""
    named = [f"{name(other)} ({count(n)})" for other, n in predicted.most_common(3)]
    return say("Without it, images shown here become {others}.", others=", ".join(named))


def _unseen(conclusion: Conclusion) -> str:
    concept = conclusion.concept
    if concept is None or concept.images or concept.properties is None or not conclusion.is_beyond_chance:
        return ""
    known_of_it = "; ".join(say_properties(concept.properties, concept.mask_share))
    return f"{say('concept {index}', index=concept.index)}: {known_of_it}."


def _parts(conclusion: Conclusion, threshold: float) -> tuple[Part, ...]:
    """The strongest thing, the second strongest, and every global factor that matters most."""
    reliance = conclusion.reliance
    if reliance is None:
        return ()
    parts = []
    for concept in filter(None, (conclusion.concept, conclusion.second)):
        chance = reliance.chance if concept is conclusion.concept else None
        if concept.kind == REGION:
            parts.append(_concept_part(concept, reliance.n, chance, threshold))
    by_size = sorted(reliance.factors, key=lambda factor: (-factor.strength, -factor.removed, factor.name))
    parts += [_factor_part(factor, factor.n or reliance.n, threshold) for factor in by_size[:FACTORS]]
    return tuple(parts)


def _concept_part(concept: Concept, n: int, chance: float | None, threshold: float) -> Part:
    own = next((e for e in concept.effect if e.class_name == concept.class_name), None)
    low, high = (own.low, own.high) if own is not None else (0.0, 0.0)
    value = f"{percent(own_drop(concept), n)} ({percent_interval(low, high, n)})"
    label = say("concept {index}", index=concept.index)
    tone = "alarm" if low > threshold else "open" if high > threshold else "calm"
    lane = Lane(own_drop(concept), low, high, tone, f"{label}: {value}", chance, threshold)
    return Part(label, value, draw_lane(lane))


def _factor_part(factor: FactorEffect, n: int, threshold: float) -> Part:
    value, drawn = "–", Markup("")
    tone = "alarm" if factor.low > threshold else "open" if factor.high > threshold else "calm"
    label = say(factor.name)
    if factor.is_removed:
        value = f"{percent(factor.removed, n)} ({percent_interval(factor.low, factor.high, n)})"
        lane = Lane(factor.removed, factor.low, factor.high, tone, f"{label}: {value}", factor.chance, threshold)
        drawn = draw_lane(lane)
    inserted = ""
    if factor.inserted is not None:
        tried = factor.n_inserted or None
        inserted = percent(factor.inserted, tried)
        if factor.inserted_chance is not None:
            inserted += f" ({percent(factor.inserted_chance, tried)})"
    return Part(label, value, drawn, inserted)


def _curve_scale(carded: Sequence[Conclusion]) -> tuple[float, str]:
    scale = alpha_scale([a for each in carded for a in _telling(each.info)], 0, 1)
    return scale.high, scale.kind


def _telling(info: ClassReliance) -> list[float | None]:
    """Strengths that a curve must show: its thresholds, and where next to nothing is left of the class."""
    curve, hat = info.curve, info.alpha_hat
    gone = next((a for a, accuracy in zip(curve.alpha_hat, curve.accuracy, strict=False) if accuracy <= _GONE), None)
    return [gone, hat.flip.median, hat.empirical, hat.analytical]


def _panel(info: ClassReliance) -> Panel:
    hat = info.alpha_hat
    marks = (("analytical", hat.analytical), ("numerical", hat.numerical), ("flip", hat.flip.median))
    return Panel(info.name, info.curve.alpha_hat, info.curve.accuracy, info.curve.others, marks, hat.empirical)


def _thresholds(info: ClassReliance) -> Table:
    """The class's critical strengths in both units, and how many images never get there."""
    heads = ("Analytical", "Numerical", "Flip", "Empirical")
    columns = [Column("", "name"), *(Column(say(head)) for head in heads)]
    rows: list[list[Value]] = [
        ["α̂", *threshold_cells(info, info.alpha_hat)],
        ["α", *threshold_cells(info, info.alpha)],
        [say("never"), "–", *censored_cells(info), "–"],
    ]
    return make_table(
        say("Critical suppression, feature {n}", n=info.dominant_feature), columns, rows, 3, "classes[].alpha_hat"
    )


def _rest_table(rest: Sequence[Conclusion], caption: str, limit: int) -> Table:
    """Everything that matters of a class in one row."""
    has_reliance = any(each.reliance is not None for each in rest)
    columns = [
        Column(say("Class"), "name"),
        *([Column(say("Image reliance, %")), Column(say("By chance"))] if has_reliance else []),
        Column(say("Known"), "text"),
        Column(say("Accuracy")),
        Column(say("α̂ flip")),
        Column(say("95 % interval")),
        Column(say("Flags"), "text"),
    ]
    rows: list[list[Value]] = []
    for each in rest:
        reliance = each.reliance
        chance: Value = Missing("nothing was removed at random")
        if reliance is not None and reliance.chance is not None:
            chance = percent(reliance.chance, reliance.n)
        rows.append(
            [
                each.name,
                *([reliance_cell(reliance), chance] if has_reliance else []),
                say(GROUP_TITLES[each.group]),
                accuracy_cell(each.info),
                median_cell(each.info) if each.info.n_correct else Missing(NO_CORRECT),
                interval_cell(each.info),
                Chips(each.info.flags),
            ]
        )
    return make_table(caption, columns, rows, limit, "classes[]")


def known(conclusion: Conclusion) -> str:
    """The group of a class in words, with how many images say so."""
    n = conclusion.reliance.n if conclusion.reliance is not None else 0
    return f"{say(GROUP_TITLES[conclusion.group])} ({count(n)})" if n else say(GROUP_TITLES[conclusion.group])
