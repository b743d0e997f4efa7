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
    return (*_about_suppression(occupied, interventions), *_about_bound(occupied), *_about_sae(sae))


def _about_suppression(classes: Sequence[ClassReliance], interventions: Sequence[InterventionResult]) -> Iterator[str]:
    edits = {one.class_name: one for one in interventions if one.method == "salve" and one.target_accuracy == NEAR_ZERO}
    driven = [one for one in classes if one.name in edits and edits[one.name].reached]
    if edits:
        yield (
            f"Suppressing its dominant feature takes {len(driven)} of {len(edits)} classes to 5 % accuracy or below"
            f"{_except([one for one in classes if one.name in edits], driven)}."
        )
    changes = [edits[one.name].others_accuracy - _mean_of_others(classes, one) for one in driven if len(classes) > 1]
    if changes:
        yield (
            f"Where a class first falls to 5 % or below, the other classes' mean accuracy has changed by "
            f"{_points(sum(changes) / len(changes))} on average (worst {_points(min(changes))})."
        )
    shared = _shared_dominants(classes)
    if shared:
        yield f"Classes with the same dominant feature: {'; '.join(shared[:MAX_NAMED])}."


def _mean_of_others(classes: Sequence[ClassReliance], but: ClassReliance) -> float:
    others = [one.accuracy for one in classes if one is not but]
    return sum(others) / len(others)


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
            f"{100 * sum(shares) / len(shares):.1f} % of a class's samples on average over classes (where both exist); "
            "it is not a bound in general."
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
            f"No autoencoder trained in full kept 99 % of the accuracy at R² of at least 0.9; the one used has R² "
            f"{sae.r2:.3f} and accuracy {sae.accuracy_reconstructed:.3f} against {sae.accuracy_original:.3f}. "
            "Findings about its features are weaker for it."
        )
    if sae.stability is not None and sae.stability.share_matched < 0.7:
        yield (
            f"Only {100 * sae.stability.share_matched:.0f} % of the features reappear under another seed "
            "(|cosine| above 0.7): single features other than the stable ones should not be over-read."
        )
