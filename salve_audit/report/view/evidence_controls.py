"""Controls of image reliance: the drop by chance, and the drop under another way of removing the same regions."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.report.conclusions import is_contradicted
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, names, percent, percent_interval
from salve_audit.report.tables import Missing, Value
from salve_audit.results import ClassReliance, Concept, ImageReliance, OcclusionCheck

LISTED = 5  # classes listed with the number of images on which occlusion disagrees
NO_CHANCE = "nothing was removed at random"
NO_CHECK = "the evidence regions were not occluded as a check"


def chance_cell(reliance: ImageReliance) -> Value:
    """The drop of accuracy by chance, with its interval."""
    if reliance.chance is None:
        return Missing(NO_CHANCE)
    if reliance.chance_low is None or reliance.chance_high is None:
        return percent(reliance.chance, reliance.n)
    interval = percent_interval(reliance.chance_low, reliance.chance_high, reliance.n)
    return f"{percent(reliance.chance, reliance.n)} ({interval})"


def check_cell(reliance: ImageReliance) -> Value:
    """The drop with the places covered, and its interval."""
    check = reliance.check
    if check is None:
        return Missing(NO_CHECK)
    interval = percent_interval(check.occluded_low, check.occluded_high, reliance.n)
    return f"{percent(check.occluded, reliance.n)} ({interval})"


def alike_cell(reliance: ImageReliance) -> Value:
    """The number of images on which inpainting and occlusion agree."""
    check = reliance.check
    return (
        Missing(NO_CHECK) if check is None else say("{check} of {n}", check=count(_agreeing(check)), n=count(check.n))
    )


def say_checks(classes: Sequence[ClassReliance], concepts: Sequence[Concept]) -> str:
    """One line on all classes, and where occlusion disagrees; empty where nothing was covered."""
    checks = [
        class_info.image_reliance.check
        for class_info in classes
        if class_info.image_reliance is not None and class_info.image_reliance.check is not None
    ]
    n = sum(check.n for check in checks)
    if not n:
        return ""
    same = sum(map(_agreeing, checks))
    said = say(
        "As an independent check, the regions of each class's strongest concept were occluded instead, with boxes "
        "of the images' mean colour: this agrees with inpainting them on {same} of {n} ({x}).",
        same=count(same),
        n=plural(n, "image"),
        x=percent(same / n),
    )
    against = contradictions(classes, concepts)
    listed = "; ".join(f"{names([name])}: {said_of}" for name, said_of in list(against.items())[:LISTED])
    more = say("; and {x} more", x=count(len(against) - LISTED)) if len(against) > LISTED else ""
    return (
        say("{said} It does not confirm what was found for {listed}{more}.", said=said, listed=listed, more=more)
        if against
        else said
    )


def contradictions(classes: Sequence[ClassReliance], concepts: Sequence[Concept]) -> dict[str, str]:
    """Maps names of classes whose finding occlusion contradicts to a phrase on the size of the disagreement."""
    disagreements = {}
    for class_info in classes:
        if (
            class_info.image_reliance is not None
            and class_info.image_reliance.check is not None
            and is_contradicted(class_info.image_reliance, concepts)
        ):
            check = class_info.image_reliance.check
            n = count(check.n - _agreeing(check))
            disagreements[class_info.name] = say(
                "occlusion of the same regions disagrees on {n} of {n2}", n=n, n2=plural(check.n, "image")
            )
    return disagreements


def _agreeing(check: OcclusionCheck) -> int:
    return round(check.agreement * check.n)
