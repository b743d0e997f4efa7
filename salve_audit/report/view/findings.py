"""Warnings that a reader needs before trusting a number, in order of weight, unflattering ones included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, names, percent
from salve_audit.report.view.cells import living
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


@dataclass(frozen=True)
class Caution:
    """A sentence to weigh; `affects` is "conclusion" (page 1) or "appendix"."""

    text: str
    affects: str


CONCLUSION, APPENDIX = "conclusion", "appendix"


def findings(result: AuditResult) -> tuple[Caution, ...]:
    """Warnings in plain words, those first that bear on the first page."""
    measured = any(class_info.image_reliance is not None for class_info in result.classes)
    head = APPENDIX if measured else CONCLUSION  # page 1 rests on the autoencoder only where nothing else was measured
    groups = (
        (_trust(result), CONCLUSION),
        (_contradicted(result), CONCLUSION),
        (_data(result), CONCLUSION),
        (_autoencoder(result.sae), head),
        (_redundancy(result), APPENDIX),
        (_flags(result), head),
        (_stability(result), head),
    )
    every = [Caution(text, affects) for texts, affects in groups for text in texts]
    return tuple(sorted(every, key=lambda warning: warning.affects == APPENDIX))


def _contradicted(result: AuditResult) -> Iterator[str]:
    for name, against in contradictions(result.classes, result.concepts).items():
        yield say("What was found on {x} is doubtful: {against}.", x=names([name]), against=against)


def active(sae: SaeInfo) -> str:
    """A phrase on the number of living latents that an image uses."""
    return say("{l0} of {sae} active per image", l0=f"{sae.l0:.1f}", sae=plural(living(sae), "living latent"))


def share_kept(fidelity: SaeInfo | SaeFidelity) -> float:
    """Share of the accuracy that reconstructed activations keep."""
    return fidelity.accuracy_reconstructed / fidelity.accuracy_original if fidelity.accuracy_original else 0.0


def _trust(result: AuditResult) -> list[str]:
    if not result.provenance.trusted_code:
        return []
    return [say("Code named by the user was run to build the model. The results are only as trustworthy as that code.")]


def _autoencoder(sae: SaeInfo) -> list[str]:
    said = []
    audit = sae.on_audit
    if not sae.satisfied:
        said.append(
            say(
                "The autoencoder misses its goal: it keeps {sae} of the accuracy (goal 99 %) at R² {r2} (goal {goal}) "
                "on held-out fit images. Statements about features hold only as far as it represents the "
                "activations.",
                sae=percent(share_kept(sae)),
                r2=f"{sae.r2:.3f}",
                goal=f"{sae.least_r2:.2f}",
            )
        )
    elif audit is not None and (share_kept(audit) < _GOAL_KEPT or audit.r2 < sae.least_r2):
        said.append(
            say(
                "The autoencoder meets its goal on held-out fit images, but not on the audit images: there it "
                "keeps {audit} of the accuracy (goal 99 %) at R² {r2} (goal {goal}).",
                audit=percent(share_kept(audit)),
                r2=f"{audit.r2:.3f}",
                goal=f"{sae.least_r2:.2f}",
            )
        )
    if living(sae) > 0 and sae.l0 / living(sae) > _DENSE:
        said.append(
            say(
                "The features are not sparse among themselves: {sae}. One feature should not be read as one "
                "concept, and suppressing one touches most images.",
                sae=active(sae),
            )
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
        say(
            "Feature redundancy could not be measured here: removing all {n} at α̂ = 1 brings no class to 50 %.",
            n=plural(n, "living feature"),
        )
    ]


def _stability(result: AuditResult) -> list[str]:
    if any(class_info.stable is not None for class_info in result.classes):
        return []
    if result.sae.stability is None:
        return [say("Whether features are found again from other seeds was not measured.")]
    share = percent(result.sae.stability.share_matched)
    return [
        say(
            "{share} of all features are found again from other seeds; the dominant ones were not checked singly.",
            share=share,
        )
    ]


def _flags(result: AuditResult) -> list[str]:
    total = plural(len(result.classes), "class", "classes")

    def flagged(text: str, test: Callable[[ClassReliance], bool]) -> list[str]:
        hit = [class_info.name for class_info in result.classes if test(class_info)]
        return (
            [say("{x} in {hit} of {total}: {hit2}.", x=text, hit=count(len(hit)), total=total, hit2=names(hit))]
            if hit
            else []
        )

    return [
        *flagged(
            say("Edit sensitivity not beyond the null controls"),
            lambda class_info: "not beyond null" in class_info.flags,
        ),
        *flagged(say("Dominant feature not stable over seeds"), lambda class_info: class_info.stable is False),
        *flagged(
            say("At most half right before any edit"), lambda class_info: "wrong from the start" in class_info.flags
        ),
        *flagged(say("Too few images for a judgement (thin)"), lambda class_info: class_info.thin and class_info.n > 0),
        *flagged(say("No audit images"), lambda class_info: class_info.n == 0),
        *flagged(
            say("Accuracy that rises again under more suppression"),
            lambda class_info: "non-monotone" in class_info.flags,
        ),
        *flagged(
            say("Numerical threshold often reached only with all weights gone"),
            lambda class_info: "erased" in class_info.flags,
        ),
    ]


def _data(result: AuditResult) -> list[str]:
    data, said = result.data, []
    if data.n_skipped:
        said.append(
            say(
                "{skipped} could not be read and {x} skipped.",
                skipped=plural(data.n_skipped, "image"),
                x="was" if data.n_skipped == 1 else "were",
            )
        )
    if data.sampled_from is not None:
        said.append(
            say(
                "A stratified sample of {n} of {total} images was audited, the same share of every class: all "
                "intervals are those of the sample, wider than those of all images would be.",
                n=count(data.n_images),
                total=count(data.sampled_from),
            )
        )
    return said
