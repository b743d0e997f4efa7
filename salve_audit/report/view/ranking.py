"""Sentences that rank the interventions by joint intervals, compare SALVE with row scaling, and ROME with steering."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.interventions.registry import ROME, SALVE, STEERING, YARDSTICK, is_null, label_method
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import names, percent, percent_interval, points
from salve_audit.results import InterventionResult, MethodSummary

SIGNIFICANT = 0.05  # of a p-value after Holm's correction
_ALIKE = 0.01  # others' accuracy less far apart than this, on average, at every target


def by_target(summaries: Sequence[MethodSummary]) -> dict[float, list[MethodSummary]]:
    """The summaries of each target, the higher target first, methods in the order in which they were measured."""
    targets = sorted({summary.target_accuracy for summary in summaries}, reverse=True)
    return {target: [summary for summary in summaries if summary.target_accuracy == target] for target in targets}


def headline(summaries: Sequence[MethodSummary]) -> str:
    """The ranking in one sentence: SALVE's place at every target, who keeps most, and the trivial edit beside it."""
    places: list[str] = []
    verdicts: dict[str, list[str]] = {}
    for target, own in by_target(summaries).items():
        salve = next((summary for summary in own if summary.method == SALVE.key), None)
        at = f"{100 * target:g} %"
        if salve is None or not salve.n_reached:
            places.append(say("reaches {at} in no class", at=at))
            continue
        places.append(_place(salve, _ranked(own), at))
        if salve.difference is not None and any(summary.method == YARDSTICK.key for summary in own):
            verdicts.setdefault(_trivial_verdict(salve), []).append(at)
    if not places:
        return ""
    trivial = [say("{verdict} at {ats}", verdict=verdict, ats=" and ".join(ats)) for verdict, ats in verdicts.items()]
    beside = (
        say("; row scaling, which is trivial and needs no autoencoder, {trivial}", trivial=", and ".join(trivial))
        if trivial
        else ""
    )
    return say(
        "By the accuracy that the other classes keep, SALVE {places}{beside}.",
        places=" and ".join(places),
        beside=beside,
    )


def _place(salve: MethodSummary, order: Sequence[MethodSummary], at: str) -> str:
    best = order[0]
    most = (
        ""
        if best is salve
        else say("; {method} keeps most, {best}", method=label_method(best.method), best=_kept(best))
    )
    return say(
        "is number {x} of {order} methods where the class is at {at} ({salve}{most})",
        x=order.index(salve) + 1,
        order=len(order),
        at=at,
        salve=_kept(salve),
        most=most,
    )


def _kept(summary: MethodSummary) -> str:
    """A phrase on what the others keep, or on a missed target: a class that is spared costs the others little."""
    some = (
        ""
        if summary.n_reached == summary.n_classes
        else say(
            ", with {n_reached} of {n_classes} classes brought there",
            n_reached=summary.n_reached,
            n_classes=summary.n_classes,
        )
    )
    return f"{percent(summary.others_accuracy)}{some}"


def _trivial_verdict(salve: MethodSummary) -> str:
    if is_chance(salve) or difference_interval(salve) is None:
        return say("is not distinguished from it")
    return say("keeps more than SALVE") if (salve.difference or 0.0) < 0 else say("keeps less than SALVE")


def _ranked(summaries: Sequence[MethodSummary]) -> list[MethodSummary]:
    """The methods that reach the target in any class, null controls left out, the one that keeps most first.

    Those that reach it in every class come before the others: a class that a method spares costs the others little.
    """
    reached = [summary for summary in summaries if summary.n_reached and not is_null(summary.method)]
    return sorted(reached, key=lambda summary: (summary.n_reached < summary.n_classes, -summary.others_accuracy))


def rank(summaries: Sequence[MethodSummary]) -> tuple[tuple[str, str], ...]:
    """Per target the order by others' accuracy, and SALVE beside the trivial edit."""
    return tuple(_rank_one(target, own) for target, own in by_target(summaries).items())


def _rank_one(target: float, summaries: Sequence[MethodSummary]) -> tuple[str, str]:
    at = say("At {x} % accuracy of the class", x=f"{100 * target:g}")
    salve = next((summary for summary in summaries if summary.method == SALVE.key), None)
    if salve is None or not salve.n_reached:
        return f"{at}:", say("SALVE brought no class to the target, so there is nothing to rank.")
    rivals = [summary for summary in summaries if not is_null(summary.method)]
    order = _ranked(summaries)
    failed = [label_method(summary.method) for summary in rivals if not summary.n_reached]
    listed = ", ".join(map(_standing, order))
    text = say("{at}, the others keep on average over all classes (95 % interval, %): {listed}.", at=at, listed=listed)
    if failed:
        text += say(" In no class brought there: {failed}.", failed=names(failed, len(failed)))
    place = say("SALVE is number {x} of {order} by this mean.", x=order.index(salve) + 1, order=len(order))
    compared = any(summary.method == YARDSTICK.key for summary in summaries)
    said = [place, _against_trivial(salve) if compared else "", beside_salve(summaries)]
    return text, " ".join(filter(None, said))


def beside_salve(summaries: Sequence[MethodSummary]) -> str:
    """Sentences on methods that keep more or less than SALVE by the corrected tests; "" where none was tested."""
    tested = [summary for summary in summaries if summary.p_salve_holm is not None and summary.to_salve is not None]
    if not tested:
        return ""
    distinguished = [summary for summary in tested if is_distinguished(summary)]
    parts = [
        (say("more than SALVE keep"), [_gap(summary) for summary in distinguished if (summary.to_salve or 0.0) > 0]),
        (say("less keep"), [_gap(summary) for summary in distinguished if (summary.to_salve or 0.0) <= 0]),
        (
            say("not distinguished from SALVE"),
            [label_method(summary.method) for summary in tested if not is_distinguished(summary)],
        ),
    ]
    listed = "; ".join(f"{name}: {', '.join(values)}" for name, values in parts if values)
    return say(
        "In paired tests on common classes, corrected by Holm, points over SALVE with 95 % interval: {listed}.",
        listed=listed,
    )


def is_distinguished(summary: MethodSummary) -> bool:
    """True where the corrected test finds a difference from SALVE."""
    return summary.p_salve_holm is not None and summary.p_salve_holm < SIGNIFICANT


def salve_interval(summary: MethodSummary) -> str | None:
    """The interval of the difference to SALVE in points."""
    if summary.to_salve_low is None or summary.to_salve_high is None:
        return None
    return say(
        "{to_salve_low} to {to_salve_high}",
        to_salve_low=points(summary.to_salve_low),
        to_salve_high=points(summary.to_salve_high),
    )


def _gap(summary: MethodSummary) -> str:
    assert summary.to_salve is not None, f"{summary.method} was not compared with SALVE"
    interval = salve_interval(summary)
    return f"{label_method(summary.method)} {points(summary.to_salve)}{f' ({interval})' if interval else ''}"


def _standing(summary: MethodSummary) -> str:
    some = (
        ""
        if summary.n_reached == summary.n_classes
        else say(
            "; reached in {n_reached} of {n_classes} classes", n_reached=summary.n_reached, n_classes=summary.n_classes
        )
    )
    interval = percent_interval(summary.low, summary.high)
    return f"{label_method(summary.method)} {percent(summary.others_accuracy)} ({interval}{some})"


def _against_trivial(salve: MethodSummary) -> str:
    """SALVE beside plain row scaling on the classes that both brought to the target."""
    if salve.difference is None or not salve.n_common:
        return say("SALVE and plain row scaling reached the target on no common class.")
    where = say(
        "over the {n_common} that both bring to the target", n_common=plural(salve.n_common, "class", "classes")
    )
    interval = difference_interval(salve)
    if interval is None:
        return say(
            "SALVE less plain row scaling: {difference} points {where}, without an interval.",
            difference=points(salve.difference),
            where=where,
        )
    difference = say(
        "{difference} points, 95 % interval {interval}", difference=points(salve.difference), interval=interval
    )
    if is_chance(salve):
        return say(
            "SALVE and plain row scaling show no difference beyond chance {where} ({difference}).",
            where=where,
            difference=difference,
        )
    if salve.difference < 0:
        return say(
            "Plain row scaling, which needs no autoencoder, keeps more than SALVE {where} ({difference}).",
            where=where,
            difference=difference,
        )
    return say("SALVE keeps more than plain row scaling {where} ({difference}).", where=where, difference=difference)


def difference_interval(summary: MethodSummary) -> str | None:
    """The interval of the difference to row scaling in points."""
    if summary.difference_low is None or summary.difference_high is None:
        return None
    return say(
        "{difference_low} to {difference_high}",
        difference_low=points(summary.difference_low),
        difference_high=points(summary.difference_high),
    )


def is_chance(summary: MethodSummary) -> bool:
    """True where the interval of the difference contains 0."""
    low, high = summary.difference_low, summary.difference_high
    return low is not None and high is not None and low <= 0 <= high


def compare_rome(rows: Sequence[InterventionResult]) -> str:
    """A sentence that compares the costs of ROME and steering, paired over classes; "" where they share none."""
    others_by_edit = {(r.method, r.target_accuracy, r.class_name): r.others_accuracy for r in rows if r.reached}
    targets = sorted({row.target_accuracy for row in rows}, reverse=True)
    said, means = [], []
    for target in targets:
        own = [name for method, at, name in others_by_edit if (method, at) == (ROME.key, target)]
        both = [name for name in own if (STEERING.key, target, name) in others_by_edit]
        if both:
            gaps = [
                others_by_edit[ROME.key, target, name] - others_by_edit[STEERING.key, target, name] for name in both
            ]
            means.append(sum(gaps) / len(gaps))
            said.append(
                say(
                    "{means} points at {x} % ({both})",
                    means=points(means[-1]),
                    x=f"{100 * target:g}",
                    both=plural(len(both), "class", "classes"),
                )
            )
    if not said:
        return ""
    alike = all(abs(mean) < _ALIKE for mean in means)
    verdict = say("act alike") if alike else say("do not act alike")
    return say(
        "ROME and activation steering {verdict} here: on the classes that both bring to the target, the others' "
        "accuracy under ROME less that under steering is {said}; alike means less than {x} point apart at every "
        "target.",
        verdict=verdict,
        said=" and ".join(said),
        x=f"{100 * _ALIKE:g}",
    )
