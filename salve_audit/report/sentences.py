"""Sentences made from numbers. None is more certain than its interval, and a null result reads as one."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from salve_audit.report.conclusions import (
    ACCEPTED,
    HALF,
    SHORTCUT,
    Conclusion,
    Conclusions,
    Doubt,
    Group,
    images_to_decide,
)
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, name, names, percent, percent_interval, strength, strength_interval
from salve_audit.results import AuditResult, ImageReliance

REGION = "region"
THIN_BELOW = 30  # images of a class
MOST_IMAGES = 5000  # beyond which "more images" is no advice
GROUP_TITLES = {
    Group.DEPENDS: "Depends on one thing",
    Group.UNDECIDED: "Undecided",
    Group.ACCEPTED: "Depends on one thing, accepted in review",
    Group.NOT_FOUND: "Not found",
    Group.NOT_EXAMINED: "Not examined",
    Group.TOO_FEW: "Too few images",
}


def headline(conclusions: Conclusions) -> str:
    """The first sentence of the report: how many classes depend on one thing, as surely as the images allow."""
    if not conclusions.is_measured:
        return _headline_at_head(conclusions.result)
    fragile, open_ = len(conclusions.dependent), len(conclusions.of(Group.UNDECIDED))
    total = conclusions.n_judged
    if not total:
        return say("No class has enough images for a judgement on what it depends on.")
    if fragile:
        text = " {n} more is undecided." if open_ == 1 else " {n} more are undecided."
        rest = say(text, n=count(open_)) if open_ else ""
        return _fragile(fragile, total, conclusions.threshold) + rest
    if open_:
        return say(
            "No class was shown to depend on one thing, but the images do not decide {n} of {total}.",
            n=count(open_),
            total=plural(total, "class", "classes"),
        )
    return say(
        "Nothing fragile was found: none of {total} loses {share} of its images when any one thing is removed.",
        total=plural(total, "class", "classes"),
        share=more_than(conclusions.threshold),
    )


def reviewed_words(conclusions: Conclusions) -> str:
    """What people have said of the things that classes depend on; "" where no class depends on one."""
    said = [each.review for each in conclusions.dependent]
    if not said:
        return ""
    accepted, shortcuts = said.count(ACCEPTED), said.count(SHORTCUT)
    if not accepted and not shortcuts:
        return say("Whether that thing is the object itself or a shortcut has not been reviewed.")
    return say(
        "Reviewed: {accepted} accepted as the object itself, {shortcuts} judged a shortcut, {n} not reviewed.",
        accepted=count(accepted),
        shortcuts=count(shortcuts),
        n=count(len(said) - accepted - shortcuts),
    )


def _fragile(n: int, total: int, threshold: float) -> str:
    if total == n == 1:
        return say("The class loses {share} of its images when one thing is removed.", share=more_than(threshold))
    text = "{n} of {total} classes lose {share} of their images when one thing is removed."
    if n == 1:
        text = "1 of {total} classes loses {share} of its images when one thing is removed."
    return say(text, n=count(n), total=count(total), share=more_than(threshold))


def _headline_at_head(result: AuditResult) -> str:
    return say("What the classes depend on in their images was not measured; edit sensitivity at the head was.")


def more_than(threshold: float) -> str:
    """The threshold as a phrase."""
    return say("more than half") if threshold == HALF else say("more than {share}", share=percent(threshold, 100))


def would_have_found(conclusions: Conclusions) -> str:
    """What would have been found, after a null result; "" where the numbers do not say."""
    share = conclusions.detectable
    if share is None:
        return ""
    return say(
        "A thing that costs {share} of a class's images or more would have been told from chance. Only regions and the "
        "factors that were tried (border, colour and others) can be found.",
        share=percent(share, 100),
    )


def missing_measure(result: AuditResult) -> str:
    """Why image reliance was not measured; "" where it was, or nothing is known."""
    why = result.evidence.why_absent if result.evidence is not None else ""
    return say("Image reliance was not measured: {why}.", why=why.rstrip(".")) if why else ""


def why_no_image(conclusions: Conclusions) -> str:
    """Why nothing that classes depend on is shown; "" where something is, or nothing was found or is known."""
    result = conclusions.result
    why = result.seeing.why_absent if result.seeing is not None else ""
    is_found = bool(conclusions.of(Group.DEPENDS, Group.UNDECIDED, Group.ACCEPTED))
    if not why or not is_found or any(concept.images for concept in result.concepts):
        return ""
    return say("What it looks like is not shown: {why}.", why=say(why))


def thing(conclusion: Conclusion) -> str:
    """What the class depends on most, as the object of "without"."""
    reliance = conclusion.reliance
    if reliance is None or reliance.kind is None:
        return say("any one thing")
    if reliance.kind == REGION and reliance.concept is not None:
        return say("concept {index}", index=reliance.concept)
    return say("its {factor}", factor=say(factor_name(conclusion)))


def factor_name(conclusion: Conclusion) -> str:
    """The global factor that the class depends on most: its own name where there is one, else its kind."""
    named = conclusion.concept.factor if conclusion.concept is not None else ""
    return named or (conclusion.reliance.kind or "" if conclusion.reliance is not None else "")


def class_sentence(conclusion: Conclusion, threshold: float) -> str:
    """What was found on one class."""
    reliance, group = conclusion.reliance, conclusion.group
    if reliance is None:
        return _sentence_at_head(conclusion)
    if group is Group.TOO_FEW:
        return say("Too few images for a judgement: {n} were examined.", n=count(reliance.n))
    if not conclusion.is_beyond_chance and group is Group.NOT_FOUND:
        text = "No one thing was found to matter: the most that removing anything costs is {loss}{chance}."
    else:
        text = "Without {thing}, {class_name} loses {loss}{chance}."
    share = percent(reliance.reliance, reliance.n)
    said = say(
        text,
        thing=thing(conclusion),
        class_name=name(conclusion.name),
        loss=say("{share} of its images ({interval} %)", share=share, interval=_range(reliance)),
        chance=_chance(reliance),
    )
    return " ".join(filter(None, (said, _doubt(conclusion, threshold), _sufficient(conclusion), _in_vain(conclusion))))


def is_shown_by_removal_alone(conclusion: Conclusion) -> bool:
    """True where the class depends on a factor that, put into other classes' images, does no more than chance."""
    reliance = conclusion.reliance
    if reliance is None or reliance.kind in (None, REGION) or not conclusion.is_beyond_chance:
        return False
    named = factor_name(conclusion)
    return any(factor.name == named and factor.is_inserted_in_vain for factor in reliance.factors)


def _in_vain(conclusion: Conclusion) -> str:
    if not is_shown_by_removal_alone(conclusion):
        return ""
    text = (
        "Putting its {factor} into images of other classes does no more than chance: it may be known by what it lacks."
    )
    return say(text, factor=say(factor_name(conclusion)))


def _sufficient(conclusion: Conclusion) -> str:
    reliance = conclusion.reliance
    if reliance is None or not reliance.sufficient:
        return ""
    inserted = next(factor for factor in reliance.factors if factor.name == reliance.sufficient)
    return say(
        "Putting its {factor} into images of other classes turns {share} of them into it.",
        factor=say(reliance.sufficient),
        share=percent(inserted.inserted or 0.0, inserted.n_inserted or None),
    )


def _range(reliance: ImageReliance) -> str:
    return percent_interval(reliance.low, reliance.high, reliance.n)


def _chance(reliance: ImageReliance) -> str:
    if reliance.chance is None:
        return ""
    return say("; by chance {share}", share=percent(reliance.chance, reliance.n))


def _doubt(conclusion: Conclusion, threshold: float) -> str:
    reliance = conclusion.reliance
    if conclusion.doubt is None or reliance is None:
        return ""
    if conclusion.doubt is Doubt.CHANCE:
        return say("Undecided: removing other places of the same size costs about as much.")
    if conclusion.doubt is Doubt.OCCLUSION:
        return say("Undecided: covering the same regions instead of filling them in says otherwise.")
    n = images_to_decide(reliance, threshold)
    said = say("Undecided: the interval contains {limit}.", limit=percent(threshold, 100))
    if n is None or n > MOST_IMAGES:
        return said
    return f"{said} " + say("About {n} images would decide it.", n=count(max(n, reliance.n + 1)))


def _sentence_at_head(conclusion: Conclusion) -> str:
    info = conclusion.info
    if info.n_correct == 0:
        return (
            say("No audit image of it is classified correctly.") if info.n else say("There are no audit images of it.")
        )
    flip, (low, high) = info.alpha_hat.flip, info.judged_interval
    if flip.median is None:
        text = "Fewer than half of its correct predictions flip at any strength when feature {feature} is suppressed."
        return say(text, feature=info.dominant_feature)
    interval = strength_interval(low, high)
    return say(
        "Half of its correct predictions flip when feature {feature} is suppressed by α̂ = {median}{interval}.",
        feature=info.dominant_feature,
        median=strength(flip.median),
        interval=f" ({interval})" if interval else "",
    )


@dataclass(frozen=True)
class Tick:
    """One reason for, or against, trusting the first page: sign is "yes", "no" or "partly"."""

    sign: str
    title: str
    text: str


def trust_ticks(conclusions: Conclusions) -> tuple[Tick, ...]:
    """Three ticks: beyond chance, an independent check, and the number of images."""
    if not conclusions.is_measured:
        return _ticks_at_head(conclusions)
    return (_chance_tick(conclusions), _check_tick(conclusions), _images_tick(conclusions))


def _chance_tick(conclusions: Conclusions) -> Tick:
    title = say("Beyond chance")
    doubted = [each.name for each in conclusions.ranked if each.doubt is Doubt.CHANCE]
    fragile = [each.reliance for each in conclusions.dependent if each.reliance is not None]
    if doubted:
        text = say("Not for {names}: other places of the same size cost about as much.", names=names(doubted, 3))
        return Tick("partly" if fragile else "no", title, text)
    controlled = [each.chance for each in fragile if each.chance is not None]
    if not fragile:
        drawn = any(each.reliance is not None and each.reliance.chance is not None for each in conclusions.ranked)
        return Tick("yes" if drawn else "no", title, say("No class is named that chance explains."))
    if len(controlled) < len(fragile):
        return Tick("no", title, say("No control was drawn for {n} of them.", n=count(len(fragile) - len(controlled))))
    text = say("Removing other places of the same size costs {share} at most.", share=percent(max(controlled), 100))
    return Tick("yes", title, text)


def _check_tick(conclusions: Conclusions) -> Tick:
    title = say("Independent check")
    checks = [c.reliance.check for c in conclusions.ranked if c.reliance is not None and c.reliance.check is not None]
    n = sum(check.n for check in checks)
    if not n:
        return Tick("no", title, say("The regions were not removed in a second way."))
    same = sum(round(check.agreement * check.n) for check in checks)
    against = [each.name for each in conclusions.ranked if each.doubt is Doubt.OCCLUSION]
    text = say("Covering the same regions agrees on {share} of {n} images.", share=percent(same / n), n=count(n))
    if against:
        text += " " + say("Not for {names}.", names=names(against, 3))
    return Tick("partly" if against else "yes", title, text)


def _images_tick(conclusions: Conclusions) -> Tick:
    title = say("Enough images")
    sizes = [each.reliance.n for each in conclusions.ranked if each.reliance is not None]
    few = len(conclusions.of(Group.TOO_FEW))
    low, high = min(sizes), max(sizes)
    text = say("{n} images a class", n=count(low) if low == high else f"{count(low)}–{count(high)}")
    share = conclusions.detectable
    text += say("; losses from {share} are told from chance.", share=percent(share, 100)) if share is not None else "."
    unexamined = len(conclusions.of(Group.NOT_EXAMINED))
    if unexamined:
        text += " " + say("{n} not examined.", n=plural(unexamined, "class", "classes"))
    if few:
        text += " " + say("Too few for {n}.", n=plural(few, "class", "classes"))
    is_blind = conclusions.n_judged > 0 and (share is None or share > conclusions.threshold)
    sign = "no" if statistics.median(sizes) < THIN_BELOW else "partly" if few or unexamined or is_blind else "yes"
    return Tick(sign, title, text)


def _ticks_at_head(conclusions: Conclusions) -> tuple[Tick, ...]:
    usable = [each.info for each in conclusions.ranked if each.info.n_correct]
    total = count(len(usable))
    n_chance = sum("not beyond null" in info.flags for info in usable)
    beyond = say("{n} of {total} classes beyond the null controls.", n=count(len(usable) - n_chance), total=total)
    seeds = say("Whether features are found again from other seeds was not measured.")
    stable = [info.stable for info in usable if info.stable is not None]
    if stable:
        text = "Dominant feature found again from other seeds in {n} of {total} classes."
        seeds = say(text, n=count(sum(stable)), total=count(len(stable)))
    n_thin = sum(info.thin for info in usable)
    images = say(
        "{n} of {total} classes have 30 usable images and 20 flips.", n=count(len(usable) - n_thin), total=total
    )
    return (
        Tick(_sign(len(usable) - n_chance, len(usable)), say("Beyond chance"), beyond),
        Tick(_sign(sum(stable), len(stable)), say("Other seeds"), seeds),
        Tick(_sign(len(usable) - n_thin, len(usable)), say("Enough images"), images),
    )


def _sign(n: int, total: int) -> str:
    return "yes" if n and n == total else "partly" if n else "no"
