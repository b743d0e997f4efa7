"""Warnings that a reader needs before trusting a number, in order of weight, unflattering ones included."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from salve_audit.report.numbers import count, names, percent, plural
from salve_audit.report.view.evidence import depends_on_one_thing
from salve_audit.report.view.evidence_controls import contradictions
from salve_audit.results import AuditResult, ClassReliance, SaeFidelity, SaeInfo

FLAG_MEANINGS = {
    "thin": "fewer than 30 usable images or 20 flips: the interval is wide or missing; the gate does not judge it",
    "unstable": "the dominant feature was not found again in most autoencoders trained from other seeds",
    "erased": "for many images the class's logit reaches zero only when every weight is gone",
    "non-monotone": "the accuracy rises again somewhere while the feature is suppressed further",
    "wrong from the start": "at most half of the class's images are classified correctly before any edit",
    "not beyond null": "the result is no stronger than that of a permuted coupling or of another latent",
}


_GOAL_KEPT = 0.99
_DENSE = 0.5  # beyond this share of the living latents per image, features are not sparse among themselves


def findings(result: AuditResult) -> tuple[str, ...]:
    """Warnings in plain words."""
    return (
        *_trust(result),
        *_image_reliance(result),
        *_autoencoder(result.sae),
        *_redundancy(result),
        *_flags(result),
        *_stability(result),
        *_data(result),
    )


def _image_reliance(result: AuditResult) -> Iterator[str]:
    against = contradictions(result.classes, result.concepts)
    dependent = depends_on_one_thing(result.classes)
    who = [name for name in dependent if name not in against]
    if who:
        verb = "depends" if len(who) == 1 else "depend"
        yield f"{names(who)} {verb} on one thing: more than half of the images are misclassified without it."
    for name in dependent:
        if name in against:
            yield f"{names([name])} seems to depend on one thing in the image, but {against[name]}."


def living(sae: SaeInfo) -> int:
    """Latents that fire on any image."""
    return sae.n_latents - sae.n_dead


def active(sae: SaeInfo) -> str:
    """A phrase on the number of living latents that an image uses."""
    return f"{sae.l0:.1f} of {plural(living(sae), 'living latent')} active per image"


def share_kept(fidelity: SaeInfo | SaeFidelity) -> float:
    """Share of the accuracy that reconstructed activations keep."""
    return fidelity.accuracy_reconstructed / fidelity.accuracy_original if fidelity.accuracy_original else 0.0


def _trust(result: AuditResult) -> list[str]:
    if not result.provenance.trusted_code:
        return []
    return ["Code named by the user was run to build the model. The results are only as trustworthy as that code."]


def _autoencoder(sae: SaeInfo) -> list[str]:
    said = []
    audit = sae.on_audit
    if not sae.satisfied:
        said.append(
            f"The autoencoder misses its goal: it keeps {percent(share_kept(sae))} of the accuracy (goal 99 %) at R² "
            f"{sae.r2:.3f} (goal {sae.least_r2:.2f}) on held-out fit images. Statements about features hold only as "
            "far as it represents the activations."
        )
    elif audit is not None and (share_kept(audit) < _GOAL_KEPT or audit.r2 < sae.least_r2):
        said.append(
            f"The autoencoder meets its goal on held-out fit images, but not on the audit images: there it keeps "
            f"{percent(share_kept(audit))} of the accuracy (goal 99 %) at R² {audit.r2:.3f} (goal {sae.least_r2:.2f})."
        )
    if living(sae) > 0 and sae.l0 / living(sae) > _DENSE:
        said.append(
            f"The features are not sparse among themselves: {active(sae)}. One feature should not be read as "
            "one concept, and suppressing one touches most images."
        )
    return said


def _redundancy(result: AuditResult) -> list[str]:
    """A warning where no class has a feature redundancy, since open ends alone are no finding on any class."""
    usable = [class_info for class_info in result.classes if class_info.n > 0]
    n = living(result.sae)
    if not usable or any(
        class_info.feature_redundancy is not None or class_info.feature_redundancy_limit < n for class_info in usable
    ):
        return []
    return [
        f"Feature redundancy could not be measured here: removing all {plural(n, 'living feature')} at α̂ = 1 brings "
        "no class to 50 %."
    ]


def _stability(result: AuditResult) -> list[str]:
    if any(class_info.stable is not None for class_info in result.classes):
        return []
    if result.sae.stability is None:
        return ["Whether features are found again from other seeds was not measured."]
    share = percent(result.sae.stability.share_matched)
    return [f"{share} of all features are found again from other seeds; the dominant ones were not checked singly."]


def _flags(result: AuditResult) -> list[str]:
    total = plural(len(result.classes), "class", "classes")

    def flagged(text: str, test: Callable[[ClassReliance], bool]) -> list[str]:
        hit = [class_info.name for class_info in result.classes if test(class_info)]
        return [f"{text} in {count(len(hit))} of {total}: {names(hit)}."] if hit else []

    return [
        *flagged(
            "Edit sensitivity not beyond the null controls", lambda class_info: "not beyond null" in class_info.flags
        ),
        *flagged("Dominant feature not stable over seeds", lambda class_info: class_info.stable is False),
        *flagged("At most half right before any edit", lambda class_info: "wrong from the start" in class_info.flags),
        *flagged("Too few images for a judgement (thin)", lambda class_info: class_info.thin and class_info.n > 0),
        *flagged("No audit images", lambda class_info: class_info.n == 0),
        *flagged(
            "Accuracy that rises again under more suppression", lambda class_info: "non-monotone" in class_info.flags
        ),
        *flagged(
            "Numerical threshold often reached only with all weights gone",
            lambda class_info: "erased" in class_info.flags,
        ),
    ]


def _data(result: AuditResult) -> list[str]:
    skipped = result.data.n_skipped
    return (
        [f"{plural(skipped, 'image')} could not be read and {'was' if skipped == 1 else 'were'} skipped."]
        if skipped
        else []
    )
