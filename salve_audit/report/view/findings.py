"""What a reader must know before trusting a number, in order of weight, unflattering findings included."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from salve_audit.report.numbers import count, names, percent, plural
from salve_audit.report.view.depth import rests_on_one
from salve_audit.report.view.depth_controls import contradictions
from salve_audit.results import AuditResult, ClassReliance, SaeFidelity, SaeInfo

FLAG_MEANINGS = {
    "thin": "fewer than 30 usable pictures or 20 flips: the interval is wide or missing; the gate does not judge it",
    "unstable": "the dominant feature was not found again in most autoencoders trained from other seeds",
    "erased": "for many pictures the class's logit reaches zero only when every weight is gone",
    "non-monotone": "the accuracy rises again somewhere while the feature is suppressed further",
    "wrong from the start": "at most half of the class's pictures are right before any edit",
    "not beyond null": "the result is no stronger than that of a permuted coupling or of another latent",
}


_GOAL_KEPT, _GOAL_R2 = 0.99, 0.9
_DENSE = 0.5  # beyond this share of the living latents per picture, features are not sparse among themselves


def findings(result: AuditResult) -> tuple[str, ...]:
    """Warnings in plain words."""
    return (
        *_trust(result),
        *_depth(result),
        *_autoencoder(result.sae),
        *_redundancy(result),
        *_flags(result),
        *_stability(result),
        *_data(result),
    )


def _depth(result: AuditResult) -> Iterator[str]:
    against = contradictions(result.classes, result.concepts)
    resting = rests_on_one(result.classes)
    who = [name for name in resting if name not in against]
    if who:
        verb = "rests" if len(who) == 1 else "rest"
        yield f"{names(who)} {verb} on one thing in the picture: without it more than half of the pictures turn wrong."
    for name in resting:
        if name in against:
            yield f"{names([name])} seems to rest on one thing in the picture, but {against[name]}."


def living(sae: SaeInfo) -> int:
    """Latents that fire on any picture."""
    return sae.n_latents - sae.n_dead


def active(sae: SaeInfo) -> str:
    """How many of the living latents a picture uses."""
    return f"{sae.l0:.1f} of {plural(living(sae), 'living latent')} active per picture"


def kept(one: SaeInfo | SaeFidelity) -> float:
    """Share of the accuracy that reconstructed activations keep."""
    return one.accuracy_reconstructed / one.accuracy_original if one.accuracy_original else 0.0


def _trust(result: AuditResult) -> list[str]:
    if not result.provenance.trusted_code:
        return []
    return ["Code named by the user was run to build the model. The results are only as trustworthy as that code."]


def _autoencoder(sae: SaeInfo) -> list[str]:
    said = []
    audit = sae.on_audit
    if not sae.satisfied:
        said.append(
            f"The autoencoder misses its goal: it keeps {percent(kept(sae))} of the accuracy (goal 99 %) at R² "
            f"{sae.r2:.3f} (goal 0.9) on held-out fit pictures. Statements about features hold only as far as it "
            "represents the activations."
        )
    elif audit is not None and (kept(audit) < _GOAL_KEPT or audit.r2 < _GOAL_R2):
        said.append(
            f"The autoencoder meets its goal on held-out fit pictures, but not on the audit pictures: there it keeps "
            f"{percent(kept(audit))} of the accuracy (goal 99 %) at R² {audit.r2:.3f} (goal 0.9)."
        )
    if living(sae) > 0 and sae.l0 / living(sae) > _DENSE:
        said.append(
            f"The features are not sparse among themselves: {active(sae)}. One feature should not be read as "
            "one concept, and suppressing one touches most pictures."
        )
    return said


def _redundancy(result: AuditResult) -> list[str]:
    """Said where the number exists for no class at all: a column of open ends is no finding on any class."""
    usable = [one for one in result.classes if one.n > 0]
    n = living(result.sae)
    if not usable or any(one.redundancy is not None or one.redundancy_limit < n for one in usable):
        return []
    return [
        f"Redundancy could not be measured here: removing all {plural(n, 'living feature')} at α̂ = 1 brings no class "
        "to 50 %."
    ]


def _stability(result: AuditResult) -> list[str]:
    if any(one.stable is not None for one in result.classes):
        return []
    if result.sae.stability is None:
        return ["Whether features are found again from other seeds was not measured."]
    share = percent(result.sae.stability.share_matched)
    return [f"{share} of all features are found again from other seeds; the dominant ones were not checked singly."]


def _flags(result: AuditResult) -> list[str]:
    total = plural(len(result.classes), "class", "classes")

    def flagged(text: str, test: Callable[[ClassReliance], bool]) -> list[str]:
        hit = [one.name for one in result.classes if test(one)]
        return [f"{text} in {count(len(hit))} of {total}: {names(hit)}."] if hit else []

    return [
        *flagged("No reliance beyond the null controls", lambda one: "not beyond null" in one.flags),
        *flagged("Dominant feature not stable over seeds", lambda one: one.stable is False),
        *flagged("At most half right before any edit", lambda one: "wrong from the start" in one.flags),
        *flagged("Too few pictures for a judgement (thin)", lambda one: one.thin and one.n > 0),
        *flagged("No audit pictures", lambda one: one.n == 0),
        *flagged("Accuracy that rises again under more suppression", lambda one: "non-monotone" in one.flags),
        *flagged("Numerical threshold often reached only with all weights gone", lambda one: "erased" in one.flags),
    ]


def _data(result: AuditResult) -> list[str]:
    skipped = result.data.n_skipped
    return (
        [f"{plural(skipped, 'picture')} could not be read and {'was' if skipped == 1 else 'were'} skipped."]
        if skipped
        else []
    )
