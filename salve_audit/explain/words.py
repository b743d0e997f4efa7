"""Sentences and labels that text, page and figure share."""

from __future__ import annotations

from salve_audit.explain.findings import (
    Decomposition,
    EditFinding,
    ExplainedFactor,
    ExplainedFactors,
    ExplainedRegion,
    ExplainedRegions,
    Explanation,
    FeaturePart,
    Flip,
)
from salve_audit.report.language import plural
from salve_audit.report.numbers import percent, strength

NEAREST = 3  # factors that are named where none is decisive
SUM = (
    "The logit is exactly the sum of these parts: what each feature writes along the class's row of the final layer, "
    "the decoder's bias, what the autoencoder does not reproduce, and the layer's own bias."
)


def name_feature(part: FeaturePart) -> str:
    """``feature 7 (fur)``."""
    return f"feature {part.feature}" + (f" ({part.concept})" if part.concept else "")


def signed(value: float) -> str:
    """Two decimals, always with its sign."""
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def show_share(decomposition: Decomposition, part: float) -> str:
    """A part as a share of the logit; empty where that makes no sense."""
    value = decomposition.share(part)
    return "" if value is None else percent(value).replace("-", "−")


def describe_flip(flip: Flip) -> str:
    """``1.24 → ship``; ``never``."""
    return "never" if flip.alpha_hat is None else f"{strength(flip.alpha_hat)} → {flip.to}"


def list_parts(decomposition: Decomposition) -> list[tuple[str, float]]:
    """The parts besides the listed features, which complete the sum."""
    return [
        (plural(decomposition.n_rest, "other feature"), decomposition.rest),
        ("decoder's bias", decomposition.decoder_bias),
        ("not reproduced by the autoencoder", decomposition.error),
        ("bias of the final layer", decomposition.head_bias),
    ]


def conclude(explanation: Explanation) -> str:
    """The finding in one sentence."""
    first, second = explanation.scores[0], explanation.scores[1]
    lead = f"{first.name} ({percent(first.probability)}), then {second.name} ({percent(second.probability)})"
    features = explanation.decomposition.features
    carried = [part for part in features if part.flip.alpha_hat is not None]
    if not carried:
        return f"{lead}. Suppressing any single one of the listed features does not change that."
    weakest = min(carried, key=lambda part: part.flip.alpha_hat or 0.0)
    return (
        f"{lead}. What changes that with the least is {name_feature(weakest)}: suppressed at "
        f"α̂ {strength(weakest.flip.alpha_hat)}, the model says {weakest.flip.to}."
    )


def name_region(region: ExplainedRegion, number: int) -> str:
    """``region 1 (concept 4)``."""
    return f"region {number}" + (f" (concept {region.concept})" if region.concept is not None else "")


def describe_region(region: ExplainedRegion, own: str) -> str:
    """A phrase on the prediction without the region."""
    own_share = f"{own} {percent(region.own_probability)}"
    if region.predicted == own:
        return f"without it still {own_share}"
    return f"without it {region.predicted} {percent(region.probability)}, {own_share}"


def conclude_regions(evidence: ExplainedRegions, own: str) -> str:
    """A sentence on how much the prediction depends on single regions."""
    n = len(evidence.regions)
    if not n:
        return f"No evidence region for {own} was found in the image."
    decisive = [region for region in evidence.regions if region.predicted != own]
    if decisive:
        return f"One region is enough: without it the prediction is no longer {own}."
    if evidence.redundancy is not None:
        return f"No single region decides it; {evidence.redundancy} together do."
    return f"{own} is still predicted with {plural(n, 'region')} removed."


def list_telling(factors: ExplainedFactors, own: str) -> tuple[ExplainedFactor, ...]:
    """Removed factors that change the prediction, or else the few that come nearest to it."""
    decisive = tuple(factor for factor in factors.removed if factor.predicted != own)
    return decisive or factors.removed[:NEAREST]


def conclude_factors(factors: ExplainedFactors, own: str) -> str:
    """A sentence on how much the prediction depends on single global factors."""
    n, decisive = len(factors.removed), [factor for factor in factors.removed if factor.predicted != own]
    missing = "" if factors.is_complete else " The audit kept no statistics of the others; a new audit does."
    if not n:
        return f"No global factor could be removed.{missing}"
    if not decisive:
        return f"{own} is still predicted with any one of {plural(n, 'global factor')} removed.{missing}"
    beyond = [factor for factor in decisive if (factor.of_class or 0.0) > (factor.chance or 0.0)]
    names = ", ".join(factor.name for factor in decisive)
    known = "" if beyond else " In the audit the class does not depend on any of these beyond chance."
    return f"Without one of these global factors the prediction is no longer {own}: {names}.{known}{missing}"


def conclude_insertion(factors: ExplainedFactors) -> str:
    """A sentence on what becomes of the image with another class's factors."""
    turned = [factor.name for factor in factors.inserted if factor.predicted == factors.into]
    if not factors.inserted:
        return f"No global factor of {factors.into} could be inserted."
    if not turned:
        return f"None of {plural(len(factors.inserted), 'global factor')} of {factors.into} turns the image into it."
    return f"With its {', '.join(turned)} alone the image becomes {factors.into}."


def describe_factor(factor: ExplainedFactor, own: str) -> str:
    """A phrase on the prediction then, and on the whole class in the audit."""
    own_share = f"{own} {percent(factor.own_probability)}"
    same = factor.predicted == own
    said = f"still {own_share}" if same else f"{factor.predicted} {percent(factor.probability)}, {own_share}"
    if factor.of_class is None:
        return said
    chance = "" if factor.chance is None else f", by chance {percent(factor.chance)}"
    return f"{said} (in the audit {percent(factor.of_class)} of images{chance})"


def conclude_edit(edit: EditFinding) -> str:
    """A sentence on the prediction before and after the edit."""
    now, was = edit.after[0], edit.predicted
    left = next(score for score in edit.after if score.index == was.index)
    if edit.flipped:
        return (
            f"The prediction becomes {now.name} ({percent(now.probability)}); "
            f"{was.name} goes from {percent(was.probability)} to {percent(left.probability)}."
        )
    return f"Still {now.name}: {percent(was.probability)} before, {percent(now.probability)} after."
