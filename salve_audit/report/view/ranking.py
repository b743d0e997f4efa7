"""How the interventions rank, in sentences: by the joint intervals, against the trivial edit, and ROME by steering."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.numbers import names, percent, percent_interval, plural, points
from salve_audit.results import InterventionResult, MethodSummary

LABELS = {
    "salve": "SALVE",
    "steering": "activation steering",
    "rome": "ROME",
    "rome-paper": "ROME, paper's code",
    "rome-cov": "ROME, covariance",
    "ablation": "directional ablation",
    "leace": "LEACE",
    "inlp": "INLP",
    "mean-difference": "mean-difference steering",
    "last-layer-retraining": "last-layer retraining",
    "row-scaling": "row scaling (trivial)",
    "null-permuted": "null: permuted",
    "null-random": "null: random feature",
    "deep-last-block": "deep, last block",
    "deep-all-writers": "deep, all writers",
}
SIGNIFICANT = 0.05  # of a p-value after Holm's correction
_ALIKE = 0.01  # others' accuracy less far apart than this, on average, at every target


def label(method: str) -> str:
    """A method's name for readers."""
    return LABELS.get(method, method)


def is_null(method: str) -> bool:
    """Is it a control rather than a method that anybody would use?"""
    return method.startswith("null")


def by_target(summaries: Sequence[MethodSummary]) -> dict[float, list[MethodSummary]]:
    """The summaries of each target, the higher target first, methods in the order in which they were measured."""
    targets = sorted({one.target_accuracy for one in summaries}, reverse=True)
    return {target: [one for one in summaries if one.target_accuracy == target] for target in targets}


def headline(summaries: Sequence[MethodSummary]) -> str:
    """The ranking in one sentence: SALVE's place at every target, who keeps most, and the trivial edit beside it."""
    places: list[str] = []
    verdicts: dict[str, list[str]] = {}
    for target, own in by_target(summaries).items():
        salve = next((one for one in own if one.method == "salve"), None)
        at = f"{100 * target:g} %"
        if salve is None or not salve.n_reached:
            places.append(f"reaches {at} in no class")
            continue
        places.append(_place(salve, _ranked(own), at))
        if salve.difference is not None and any(one.method == "row-scaling" for one in own):
            verdicts.setdefault(_trivial_verdict(salve), []).append(at)
    if not places:
        return ""
    trivial = [f"{verdict} at {' and '.join(ats)}" for verdict, ats in verdicts.items()]
    beside = f"; row scaling, which is trivial and needs no autoencoder, {', and '.join(trivial)}" if trivial else ""
    return f"By the accuracy that the other classes keep, SALVE {' and '.join(places)}{beside}."


def _place(salve: MethodSummary, order: Sequence[MethodSummary], at: str) -> str:
    best = order[0]
    most = "" if best is salve else f"; {label(best.method)} keeps most, {_kept(best)}"
    return (
        f"is number {order.index(salve) + 1} of {len(order)} methods where the class is at {at} ({_kept(salve)}{most})"
    )


def _kept(one: MethodSummary) -> str:
    """What the others keep, and where the method misses the target: a class that it spares costs the others little."""
    some = "" if one.n_reached == one.n_classes else f", with {one.n_reached} of {one.n_classes} classes brought there"
    return f"{percent(one.others_accuracy)}{some}"


def _trivial_verdict(salve: MethodSummary) -> str:
    if is_chance(salve) or difference_interval(salve) is None:
        return "is not told apart from it"
    return "keeps more than SALVE" if (salve.difference or 0.0) < 0 else "keeps less than SALVE"


def _ranked(summaries: Sequence[MethodSummary]) -> list[MethodSummary]:
    """The methods that reach the target in any class, nulls left out, the one that keeps most first.

    Those that reach it in every class come before the others: a class that a method spares costs the others little.
    """
    reached = [one for one in summaries if one.n_reached and not is_null(one.method)]
    return sorted(reached, key=lambda one: (one.n_reached < one.n_classes, -one.others_accuracy))


def rank(summaries: Sequence[MethodSummary]) -> tuple[tuple[str, str], ...]:
    """Per target the order by others' accuracy, and SALVE beside the trivial edit."""
    return tuple(_rank_one(target, own) for target, own in by_target(summaries).items())


def _rank_one(target: float, summaries: Sequence[MethodSummary]) -> tuple[str, str]:
    at = f"At {100 * target:g} % accuracy of the class"
    salve = next((one for one in summaries if one.method == "salve"), None)
    if salve is None or not salve.n_reached:
        return f"{at}:", "SALVE brought no class to the target, so there is nothing to rank."
    rivals = [one for one in summaries if not is_null(one.method)]
    order = _ranked(summaries)
    failed = [label(one.method) for one in rivals if not one.n_reached]
    listed = ", ".join(map(_standing, order))
    text = f"{at}, the others keep on average over all classes (95 % interval, %): {listed}."
    if failed:
        text += f" In no class brought there: {names(failed, len(failed))}."
    place = f"SALVE is number {order.index(salve) + 1} of {len(order)} by this mean."
    compared = any(one.method == "row-scaling" for one in summaries)
    said = [place, _against_trivial(salve) if compared else "", beside_salve(summaries)]
    return text, " ".join(filter(None, said))


def beside_salve(summaries: Sequence[MethodSummary]) -> str:
    """Which methods keep more than SALVE, which less, by the corrected tests; "" where none was tested."""
    tested = [one for one in summaries if one.p_salve_holm is not None and one.to_salve is not None]
    if not tested:
        return ""
    told = [one for one in tested if is_told_apart(one)]
    parts = [
        ("more than SALVE keep", [_gap(one) for one in told if (one.to_salve or 0.0) > 0]),
        ("less keep", [_gap(one) for one in told if (one.to_salve or 0.0) <= 0]),
        ("not told apart from SALVE", [label(one.method) for one in tested if not is_told_apart(one)]),
    ]
    listed = "; ".join(f"{name}: {', '.join(values)}" for name, values in parts if values)
    return f"In paired tests on common classes, corrected by Holm, points over SALVE with 95 % interval: {listed}."


def is_told_apart(one: MethodSummary) -> bool:
    """Does the corrected test find a difference to SALVE?"""
    return one.p_salve_holm is not None and one.p_salve_holm < SIGNIFICANT


def salve_interval(one: MethodSummary) -> str | None:
    """The interval of the difference to SALVE in points."""
    if one.to_salve_low is None or one.to_salve_high is None:
        return None
    return f"{points(one.to_salve_low)} to {points(one.to_salve_high)}"


def _gap(one: MethodSummary) -> str:
    assert one.to_salve is not None, f"{one.method} was not compared with SALVE"
    interval = salve_interval(one)
    return f"{label(one.method)} {points(one.to_salve)}{f' ({interval})' if interval else ''}"


def _standing(one: MethodSummary) -> str:
    some = "" if one.n_reached == one.n_classes else f"; reached in {one.n_reached} of {one.n_classes} classes"
    return f"{label(one.method)} {percent(one.others_accuracy)} ({percent_interval(one.low, one.high)}{some})"


def _against_trivial(salve: MethodSummary) -> str:
    """SALVE beside plain row scaling on the classes that both brought to the target."""
    if salve.difference is None or not salve.n_common:
        return "SALVE and plain row scaling reached the target on no common class."
    where = f"over the {plural(salve.n_common, 'class', 'classes')} that both bring to the target"
    interval = difference_interval(salve)
    if interval is None:
        return f"SALVE less plain row scaling: {points(salve.difference)} points {where}, without an interval."
    found = f"{points(salve.difference)} points, 95 % interval {interval}"
    if is_chance(salve):
        return f"SALVE and plain row scaling show no difference beyond chance {where} ({found})."
    if salve.difference < 0:
        return f"Plain row scaling, which needs no autoencoder, keeps more than SALVE {where} ({found})."
    return f"SALVE keeps more than plain row scaling {where} ({found})."


def difference_interval(one: MethodSummary) -> str | None:
    """The interval of the difference to row scaling in points."""
    if one.difference_low is None or one.difference_high is None:
        return None
    return f"{points(one.difference_low)} to {points(one.difference_high)}"


def is_chance(one: MethodSummary) -> bool:
    """Does the interval of the difference hold 0?"""
    low, high = one.difference_low, one.difference_high
    return low is not None and high is not None and low <= 0 <= high


def compare_rome(rows: Sequence[InterventionResult]) -> str:
    """Whether ROME and steering cost the others the same, paired over classes; "" where they share none."""
    others = {(r.method, r.target_accuracy, r.class_name): r.others_accuracy for r in rows if r.reached}
    targets = sorted({row.target_accuracy for row in rows}, reverse=True)
    said, means = [], []
    for target in targets:
        own = [name for method, at, name in others if (method, at) == ("rome", target)]
        both = [name for name in own if ("steering", target, name) in others]
        if both:
            gaps = [others["rome", target, name] - others["steering", target, name] for name in both]
            means.append(sum(gaps) / len(gaps))
            said.append(f"{points(means[-1])} points at {100 * target:g} % ({plural(len(both), 'class', 'classes')})")
    if not said:
        return ""
    alike = all(abs(mean) < _ALIKE for mean in means)
    verdict = "act alike" if alike else "do not act alike"
    return (
        f"ROME and activation steering {verdict} here: on the classes that both bring to the target, the others' "
        f"accuracy under ROME less that under steering is {' and '.join(said)}; alike means less than "
        f"{100 * _ALIKE:g} point apart at every target."
    )
