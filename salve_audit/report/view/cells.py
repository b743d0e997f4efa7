"""Cells that several tables share: thresholds, intervals and accuracies of a class, or why there are none."""

from __future__ import annotations

from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, percent, percent_interval, strength, strength_interval
from salve_audit.report.tables import Missing, Noted, Value
from salve_audit.results import ClassReliance, ImageReliance, SaeInfo

NO_IMAGES = "no audit images of this class"
NO_CORRECT = "no correctly classified audit image of this class"
NO_INTERVAL = "too few flips for an interval"
NOT_MEASURED = "image reliance was not measured for this class"


def living(sae: SaeInfo) -> int:
    """Latents that fire on any image."""
    return sae.n_latents - sae.n_dead


def median_cell(class_info: ClassReliance) -> Value:
    """The α̂ flip median of a class."""
    return Missing(NO_CORRECT) if class_info.n_correct == 0 else strength(class_info.alpha_hat.flip.median)


def interval_cell(class_info: ClassReliance) -> Value:
    """The 95 % interval of the α̂ flip median that the verdict judges: over images and seeds."""
    if class_info.n_correct == 0:
        return Missing(NO_CORRECT)
    low, high = class_info.judged_interval
    return strength_interval(low, high) or Missing(NO_INTERVAL)


def accuracy_cell(class_info: ClassReliance) -> Value:
    """Accuracy of a class with its number of images."""
    if not class_info.n:
        return Missing(NO_IMAGES)
    return f"{percent(class_info.accuracy, class_info.n)} (n = {count(class_info.n)})"


def reliance_cell(reliance: ImageReliance | None) -> Value:
    """The drop of accuracy as a percentage with its interval."""
    if reliance is None:
        return Missing(NOT_MEASURED)
    interval = percent_interval(reliance.low, reliance.high, reliance.n)
    return f"{percent(reliance.reliance, reliance.n)} ({interval})"


def feature_redundancy_cell(class_info: ClassReliance, sae: SaeInfo) -> Value:
    """Number of features to remove, or that the limit, or all living features together, were not enough."""
    if class_info.n == 0:
        return Missing(NO_IMAGES)
    if class_info.feature_redundancy is not None:
        return str(class_info.feature_redundancy)
    n = living(sae)
    if class_info.feature_redundancy_limit < n:
        return f"> {class_info.feature_redundancy_limit}"
    note = say("removing all {n} at α̂ = 1 does not bring the class to 50 %", n=plural(n, "living feature"))
    return Noted(say("none of {n}", n=count(n)), note)
