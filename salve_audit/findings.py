"""What the numbers say in plain words, unflattering findings included; goes into audit.json and the report.

The first group checks the claims of the SALVE paper (arXiv 2512.15938) on this model: every class driven to near zero
by its dominant feature while others are kept, the analytical threshold a lower bound, ROME and steering alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from salve_audit.results import ClassReliance, InterventionResult, SaeInfo

NEAR_ZERO = 0.05
MAX_NAMED = 5


def find_notes(
    classes: Sequence[ClassReliance], sae: SaeInfo, interventions: Sequence[InterventionResult]
) -> tuple[str, ...]:
    """Sentences, each with the number that it rests on."""
    occupied = [one for one in classes if one.n]
    return (*_about_suppression(occupied), *_about_bound(occupied), *_about_sae(sae), *_about_methods(interventions))


def _about_suppression(classes: Sequence[ClassReliance]) -> Iterator[str]:
    driven = [one for one in classes if min(one.curve.accuracy) <= NEAR_ZERO]
    yield (
        f"Suppressing its dominant feature takes {len(driven)} of {len(classes)} classes to 5 % accuracy or below"
        f"{_except(classes, driven)}."
    )
    kept = [drop for one in driven if (drop := _others_drop(one)) is not None]
    if kept:
        yield (
            f"Where a class first falls to 5 % or below, the other classes' mean accuracy has changed by "
            f"{_points(-sum(kept) / len(kept))} on average (worst {_points(-max(kept))})."
        )
    shared = _shared_dominants(classes)
    if shared:
        yield f"Classes with the same dominant feature: {'; '.join(shared[:MAX_NAMED])}."


def _others_drop(one: ClassReliance) -> float | None:
    """Loss of the others' mean accuracy at the first strength where the class is near zero."""
    if not one.curve.others:
        return None
    at = next(i for i, accuracy in enumerate(one.curve.accuracy) if accuracy <= NEAR_ZERO)
    return one.curve.others[0] - one.curve.others[at]


def _points(change: float) -> str:
    """A change of accuracy in points, with a true minus sign."""
    return f"{100 * change:+.1f} points".replace("-", "\u2212")


def _except(classes: Sequence[ClassReliance], driven: Sequence[ClassReliance]) -> str:
    rest = [one.name for one in classes if one not in driven]
    if not rest:
        return ""
    more = f" and {len(rest) - MAX_NAMED} more" if len(rest) > MAX_NAMED else ""
    return f" (not: {', '.join(rest[:MAX_NAMED])}{more})"


def _shared_dominants(classes: Sequence[ClassReliance]) -> list[str]:
    by_feature: dict[int, list[str]] = {}
    for one in classes:
        by_feature.setdefault(one.dominant_feature, []).append(one.name)
    return [f"{', '.join(names)} (feature {index})" for index, names in by_feature.items() if len(names) > 1]


def _about_bound(classes: Sequence[ClassReliance]) -> Iterator[str]:
    shares = [one.analytical_below_numerical for one in classes if one.analytical_below_numerical is not None]
    if shares:
        yield (
            "The analytical threshold is at most the exact (numerical) one on "
            f"{100 * sum(shares) / len(shares):.1f} % of the samples where both exist; it is not a bound in general."
        )
    erased = [one.name for one in classes if "erased" in one.flags]
    if erased:
        yield (
            f"In {len(erased)} of {len(classes)} classes most logits reach zero only when every weight is gone, so "
            "their numerical threshold is censored; the flip threshold is the one to read."
        )


def _about_sae(sae: SaeInfo) -> Iterator[str]:
    if not sae.satisfied:
        yield (
            f"No autoencoder on the path kept 99 % of the accuracy at R² of at least 0.9; the one used has R² "
            f"{sae.r2:.3f} and accuracy {sae.accuracy_reconstructed:.3f} against {sae.accuracy_original:.3f}. "
            "Findings about its features are weaker for it."
        )
    if sae.stability is not None and sae.stability.share_matched < 0.7:
        yield (
            f"Only {100 * sae.stability.share_matched:.0f} % of the features reappear under another seed "
            "(|cosine| above 0.7): single features other than the stable ones should not be over-read."
        )


def _about_methods(interventions: Sequence[InterventionResult]) -> Iterator[str]:
    """The methods by the others' accuracy; what a method could not suppress is said beside it, not averaged away."""
    target = min((one.target_accuracy for one in interventions), default=None)
    if target is None:
        return
    by_method: dict[str, list[InterventionResult]] = {}
    for one in interventions:
        if one.target_accuracy == target and not one.method.startswith("null"):
            by_method.setdefault(one.method, []).append(one)
    ranked = sorted(by_method.items(), key=lambda item: (-_reached(item[1]), -_mean_others(item[1])))
    if len(ranked) > 1:
        order = ", ".join(
            f"{name} {100 * _mean_others(results):.1f} % ({_reached(results)} of {len(results)} classes reached it)"
            for name, results in ranked
        )
        yield f"Others' accuracy when a class is brought to {100 * target:.0f} %, by method: {order}."


def _reached(results: Sequence[InterventionResult]) -> int:
    return sum(one.reached for one in results)


def _mean_others(results: Sequence[InterventionResult]) -> float:
    """Over all classes, at the best strength where the target is not reached."""
    return sum(one.others_accuracy for one in results) / len(results)
