"""The first page: verdict, what the classes depend on, what to do next, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from salve_audit.report.charts.axes import Scale, alpha_scale, tick_label
from salve_audit.report.charts.bars import draw_histogram
from salve_audit.report.charts.lanes import Lane, draw_lane, draw_lane_axis, draw_percent_axis
from salve_audit.report.conclusions import Conclusion, Conclusions, Group
from salve_audit.report.crops import crop_thing
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, moment, percent, percent_interval, strength, strength_interval
from salve_audit.report.recommend import group_alike, recommend
from salve_audit.report.sentences import (
    GROUP_TITLES,
    REGION,
    factor_name,
    headline,
    missing_measure,
    more_than,
    reviewed_words,
    trust_ticks,
    why_no_image,
    would_have_found,
)
from salve_audit.report.tables import Shown
from salve_audit.report.view.page import FRONT_ROWS, ClassName, Figure, Front, FrontGroup, FrontRow, NextStep
from salve_audit.report.view.thumbnails import show
from salve_audit.report.view.verdict import build_banner
from salve_audit.results import AuditResult, Verdict

ALL_UP_TO = 12  # classes, all of which fit on the first page
ROOMY_UP_TO, DENSE_FROM = 8, 10  # classes, whose rows may be taller, or have to be lower
STEPS, NAMED = 3, 4  # lines of "do next", and classes in one of them
CROP = 40  # CSS pixels
_TONES = {Group.DEPENDS: "alarm", Group.UNDECIDED: "open", Group.ACCEPTED: "calm", Group.NOT_FOUND: "calm"}


@dataclass(frozen=True)
class Reading:
    """What the page's rows need beside the conclusions: names, the axis of flip medians, whether there is a review."""

    names: Mapping[str, ClassName]
    is_measured: bool
    is_reviewed: bool
    limit: float | None
    scale: Scale


def build_front(conclusions: Conclusions, names: Mapping[str, ClassName], changed: str = "") -> Front:
    """The first page; `changed` says what did since another audit."""
    result = conclusions.result
    usable = conclusions.ranked if len(conclusions.ranked) <= ALL_UP_TO else conclusions.ranked[:FRONT_ROWS]
    scale, is_reviewed = _flip_scale(conclusions.ranked), bool(conclusions.reviewed)
    reading = Reading(names, conclusions.is_measured, is_reviewed, _limit(conclusions), scale)
    return Front(
        kicker=_kicker(result),
        facts=_facts(result),
        headline=headline(conclusions),
        also=tuple(filter(None, (changed, *_also(conclusions)))),
        banner=build_banner(result.verdict),
        caption=_caption(conclusions),
        heads=_heads(conclusions),
        axis=_axis(conclusions, reading.scale),
        groups=_groups(conclusions, usable, reading),
        histogram=_histogram(conclusions) if len(usable) < len(conclusions.ranked) else None,
        note=_note(conclusions),
        next_steps=_next_steps(conclusions, names),
        is_roomy=len(conclusions.ranked) <= ROOMY_UP_TO,
        is_dense=len(conclusions.ranked) > DENSE_FROM,
        ticks=trust_ticks(conclusions),
    )


def date(result: AuditResult) -> str:
    """The date of the audit in words."""
    at = moment(result.created)
    return f"{at.day} {say(f'{at:%B}')} {at:%Y, %H:%M} {at.tzname()}"


def _kicker(result: AuditResult) -> str:
    return say("Audit report") + f" · {date(result)} · salve-audit {result.tool_version}"


def _facts(result: AuditResult) -> tuple[str, ...]:
    model = result.model
    n = sum(info.n for info in result.classes)
    correct = sum(info.n_correct for info in result.classes)
    accuracy = (
        say("{share} of {n} right", share=percent(correct / n), n=plural(n, "audit image"))
        if n
        else say("no audit images")
    )
    return (
        model.architecture,
        f"sha256 {result.provenance.model_sha256[:12]}",
        plural(model.n_classes, "class", "classes"),
        accuracy,
    )


def _also(conclusions: Conclusions) -> tuple[str, ...]:
    """Sentences below the headline: what a null result means, what is missing."""
    said = []
    if conclusions.is_measured and not conclusions.dependent and conclusions.n_judged:
        said.append(would_have_found(conclusions))
    said.append(reviewed_words(conclusions))
    said += [why_no_image(conclusions), missing_measure(conclusions.result)]
    if conclusions.result.provenance.trusted_code:
        said.append(
            say("Code named by the user was run to build the model: the results are as trustworthy as that code.")
        )
    return tuple(filter(None, said))


def _limit(conclusions: Conclusions) -> float | None:
    if conclusions.is_measured:
        return conclusions.threshold
    return flip_limit(conclusions.result.verdict)


def flip_limit(verdict: Verdict) -> float | None:
    """The limit on the α̂ flip median where the policy has exactly one."""
    limits = {rule.limit for rule in verdict.rules if rule.rule.startswith("alpha_hat flip")}
    return limits.pop() if len(limits) == 1 else None


def _caption(conclusions: Conclusions) -> str:
    if conclusions.is_measured:
        return say("Images lost when the one thing that each class depends on most is removed")
    return say("Strength at which half of a class's correct predictions flip (not what it depends on in the image)")


def _heads(conclusions: Conclusions) -> tuple[str, ...]:
    if conclusions.is_measured:
        return (say("Class"), say("Image reliance"), say("Images lost"), say("The thing"), say("α̂ flip"))
    return (say("Class"), say("α̂ flip median"), say("95 % interval"), "", say("Accuracy"))


def _flip_scale(ranked: Sequence[Conclusion]) -> Scale:
    values = [v for each in ranked for v in (each.info.alpha_hat.flip.median, *each.info.judged_interval)]
    return alpha_scale(values, 0.0, 1.0)


def _axis(conclusions: Conclusions, scale: Scale) -> Markup:
    if conclusions.is_measured:
        return draw_percent_axis()
    return draw_lane_axis([(scale(v), tick_label(v)) for v in scale.ticks(0.12)])


def _groups(conclusions: Conclusions, shown: Sequence[Conclusion], reading: Reading) -> tuple[FrontGroup, ...]:
    groups = []
    for group, title in GROUP_TITLES.items():
        every = conclusions.of(group)
        if not every:
            continue
        rows = tuple(_row(each, reading) for each in every if each in shown)
        hidden = len(every) - len(rows)
        more = say("{n} more in the index", n=plural(hidden, "class", "classes")) if hidden and rows else ""
        named = title if conclusions.is_measured or group is not Group.NOT_EXAMINED else "Edit sensitivity at the head"
        note = _group_note(group, conclusions)
        groups.append(FrontGroup(group.value, say(named), count(len(every)), note, rows, more))
    return tuple(groups)


def _group_note(group: Group, conclusions: Conclusions) -> str:
    share = more_than(conclusions.threshold)
    notes = {
        Group.DEPENDS: say("{share} lost without it, interval included, and beyond chance", share=share),
        Group.UNDECIDED: say("the images, chance or the check leave it open"),
        Group.ACCEPTED: say("a person has said that it is the object itself"),
        Group.NOT_FOUND: say("no one thing costs {share}", share=share),
    }
    return notes.get(group, "")


def _row(conclusion: Conclusion, reading: Reading) -> FrontRow:
    name = reading.names[conclusion.name]
    reliance = conclusion.reliance
    flip = strength(conclusion.info.alpha_hat.flip.median) if conclusion.info.n_correct else "–"
    if reliance is None and reading.is_measured:
        return _unmeasured_row(conclusion, reading, name, flip)
    if reliance is None:
        return _head_row(conclusion, reading, name)
    interval = percent_interval(reliance.low, reliance.high, reliance.n)
    value = percent(reliance.reliance, reliance.n)
    tone = _TONES.get(conclusion.group, "faint")
    chance = "" if reliance.chance is None else say(", chance {share}", share=percent(reliance.chance, reliance.n))
    lane = Lane(
        reliance.reliance,
        reliance.low,
        reliance.high,
        tone,
        f"{conclusion.name}: {value} ({interval} %){chance}",
        reliance.chance,
        reading.limit,
    )
    crop, note = _thing(conclusion)
    marks = chips(conclusion, reading.is_reviewed)
    return FrontRow(name, draw_lane(lane), value, interval, crop, note, flip, tone, marks)


def _unmeasured_row(conclusion: Conclusion, reading: Reading, name: ClassName, flip: str) -> FrontRow:
    """A class that time left out, among others whose reliance was measured."""
    words = say("not measured")
    lane = draw_lane(Lane(None, None, None, "faint", f"{conclusion.name}: {words}", None, reading.limit))
    return FrontRow(name, lane, "–", "", None, words, flip, "faint", chips(conclusion, reading.is_reviewed))


def _head_row(conclusion: Conclusion, reading: Reading, name: ClassName) -> FrontRow:
    info = conclusion.info
    flip, (low, high) = info.alpha_hat.flip, info.judged_interval
    tone = {"fail": "alarm", "undecided": "open"}.get(conclusion.outcome, "faint" if info.thin else "calm")
    value = strength(flip.median) if info.n_correct else "–"
    interval = (strength_interval(low, high) or "") if info.n_correct else ""
    scale = reading.scale

    def at(strength_: float | None) -> float | None:
        return None if strength_ is None or strength_ > scale.high else scale(strength_)

    lane = Lane(at(flip.median), at(low), at(high), tone, f"{info.name}: {value} ({interval})", None,
                at(reading.limit))  # fmt: skip
    accuracy = percent(info.accuracy, info.n) if info.n else "–"
    return FrontRow(name, draw_lane(lane), value, interval, None, "", accuracy, tone, chips(conclusion))


def chips(conclusion: Conclusion, with_review: bool = True) -> tuple[str, ...]:
    """The policy's outcome where it is no pass, and what a person said of the thing."""
    words = [conclusion.outcome] if conclusion.outcome in ("fail", "undecided") else []
    if conclusion.review and with_review:
        words.append(conclusion.review)
    return tuple(say(word) for word in words)


def _thing(conclusion: Conclusion) -> tuple[Shown | None, str]:
    """A crop of what the class depends on, and how often it is seen; nothing where chance explains as much."""
    reliance, concept = conclusion.reliance, conclusion.concept
    if reliance is None or reliance.kind is None or not conclusion.is_beyond_chance:
        return None, say("nothing beyond chance") if reliance is not None and reliance.kind is not None else ""
    if reliance.kind != REGION:
        note = say("the images' {factor}", factor=say(factor_name(conclusion)))
        return (_crop(conclusion) if concept is not None and concept.images else None), note
    if concept is None:
        return None, ""
    seen = say("in {n} of {total} images", n=count(concept.n_images), total=count(reliance.n))
    if not concept.images:
        share = percent(concept.mask_share, 100)
        seen = say("concept {index}, {share} of the image, {seen}", index=concept.index, share=share, seen=seen)
    return _crop(conclusion), seen


def _crop(conclusion: Conclusion) -> Shown | None:
    concept = conclusion.concept
    if concept is None or not concept.images:
        return None
    alt = say("Concept {index} in an image of {class_name}", index=concept.index, class_name=conclusion.name)
    return show(crop_thing(concept.images[0]), alt, CROP)


def _histogram(conclusions: Conclusions) -> Figure | None:
    measured = [each for each in conclusions.ranked if each.reliance is not None and not each.reliance.thin]
    if not measured:
        return None
    values = [each.reliance.reliance for each in measured if each.reliance is not None]
    title = say("Image reliance of {n}", n=plural(len(values), "class", "classes"))
    chart, narrow = (draw_histogram(values, conclusions.threshold, title, narrow=each) for each in (False, True))
    return Figure("figure-histogram", title, (chart,), "classes[].image_reliance.reliance", narrow=narrow)


def _note(conclusions: Conclusions) -> str:
    if conclusions.is_measured:
        return say(
            "Dot and line: share of the class's images that are lost, with its 95 % interval. Grey tick: lost when "
            "other places of the same size are removed. Dashed: {limit}. α̂ flip: how easily the class is edited "
            "away at the head, which is another question.",
            limit=percent(conclusions.threshold, 100),
        )
    return say("A small α̂ is no proof of a shortcut, and a large one none of robustness.")


def _next_steps(conclusions: Conclusions, names: Mapping[str, ClassName]) -> tuple[NextStep, ...]:
    steps = []
    for group in group_alike(recommend(conclusions))[:STEPS]:
        own = [names[each.class_name] for each in group if each.class_name in names]
        more = say("and {n} more", n=count(len(own) - NAMED)) if len(own) > NAMED else ""
        steps.append(NextStep(tuple(own[:NAMED]), more, group[0].brief, group[0].command))
    return tuple(steps)
