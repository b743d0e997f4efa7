"""What reliance at depth is set beside: the same by chance, and another way of taking the same places out."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.numbers import count, names, percent, percent_interval, plural
from salve_audit.report.tables import Missing, Value
from salve_audit.results import ClassDepth, ClassReliance, Concept, OcclusionCheck

HALF = 0.5
LISTED = 5  # classes of which it is said on how many pictures occlusion disagrees
NO_NULL = "nothing was taken out at random"
NO_CHECK = "the places were not covered as a check"


def is_contradicted(found: ClassDepth, concepts: Sequence[Concept]) -> bool:
    """Whether occlusion of the same places says otherwise.

    It does where most pictures do not agree, where less is lost under occlusion, intervals apart, and where only
    occlusion makes the class rest on these places, intervals on either side of one half. Losing somewhat more
    under it is no contradiction: a box is a thing of its own in the picture, and classes that are known to rest on
    nothing lose up to 0.4 of their accuracy with it. Of a class that rests on a whole (frame, overall colour) its
    places do not decide.
    """
    check = found.check
    if check is None or found.concept not in (None, check.concept):
        return False
    own = next(iter(concepts[check.concept].effect), None)
    less = own is not None and check.occluded_high < own.low
    rests = found.high <= HALF < check.occluded_low
    return check.agreement <= HALF or less or rests


def null_cell(found: ClassDepth) -> Value:
    """What is lost by chance, with its interval."""
    if found.null is None:
        return Missing(NO_NULL)
    if found.null_low is None or found.null_high is None:
        return percent(found.null)
    return f"{percent(found.null)} ({percent_interval(found.null_low, found.null_high)})"


def check_cell(found: ClassDepth) -> Value:
    """The drop with the places covered, and its interval."""
    check = found.check
    if check is None:
        return Missing(NO_CHECK)
    return f"{percent(check.occluded)} ({percent_interval(check.occluded_low, check.occluded_high)})"


def alike_cell(found: ClassDepth) -> Value:
    """On how many pictures both ways agree."""
    check = found.check
    return Missing(NO_CHECK) if check is None else f"{count(_agreeing(check))} of {count(check.n)}"


def say_checks(classes: Sequence[ClassReliance], concepts: Sequence[Concept]) -> str:
    """One line on all classes, and where occlusion disagrees; empty where nothing was covered."""
    checks = [one.depth.check for one in classes if one.depth is not None and one.depth.check is not None]
    n = sum(check.n for check in checks)
    if not n:
        return ""
    same = sum(map(_agreeing, checks))
    said = (
        "As an independent check, the places of each class's strongest concept were covered instead, with boxes of the "
        f"pictures' mean colour: that agrees with filling them in on {count(same)} of {plural(n, 'picture')} "
        f"({percent(same / n)})."
    )
    against = contradictions(classes, concepts)
    listed = "; ".join(f"{names([name])}: {said_of}" for name, said_of in list(against.items())[:LISTED])
    more = f"; and {count(len(against) - LISTED)} more" if len(against) > LISTED else ""
    return f"{said} It does not bear out what was found of {listed}{more}." if against else said


def contradictions(classes: Sequence[ClassReliance], concepts: Sequence[Concept]) -> dict[str, str]:
    """By name of the class, in words, how much occlusion disagrees where it contradicts what was found."""
    found = {}
    for one in classes:
        if one.depth is not None and one.depth.check is not None and is_contradicted(one.depth, concepts):
            check = one.depth.check
            n = count(check.n - _agreeing(check))
            found[one.name] = f"occlusion of the same places disagrees on {n} of {plural(check.n, 'picture')}"
    return found


def _agreeing(check: OcclusionCheck) -> int:
    return round(check.agreement * check.n)
