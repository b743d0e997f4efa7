"""What stands behind each kind of sentence in a report: measurements of the tool itself, of docs/evidence.md."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from salve_audit.results import AuditResult

EVIDENCE_FILE = "docs/evidence.md"


@dataclass(frozen=True)
class Backing:
    """Evidence on one kind of sentence.

    Attributes:
        key: its own, for the anchor in the report.
        anchor: of the heading in docs/evidence.md.
        subject: what the sentences are about.
        text: what was measured, and how well the tool did; each figure stands under the heading.
    """

    key: str
    anchor: str
    subject: str
    text: str


BACKINGS: Mapping[str, Backing] = {
    backing.key: backing
    for backing in (
        Backing(
            "reliance",
            "image-reliance-against-known-truth",
            "Image reliance",
            "Compared with the truth on fourteen networks: 34 of 43 strong dependences were found, 27 as their kind, "
            "with two false alarms. Intervals over images hold 56 of 124 true losses. Whether blur, compression or, in "
            "large images, grain is needed is not seen; whether it is enough may be.",
        ),
        Backing(
            "thresholds",
            "thresholds-at-the-head",
            "α̂ and its thresholds",
            "Exact roots, tested against brute force. They say how easily a class is edited, not what it depends on.",
        ),
        Backing(
            "robustness",
            "do-thresholds-at-the-head-mean-anything-for-the-input",
            "α̂ and the input",
            "An image's threshold goes with the smallest perturbation that changes its prediction, as the margin does; "
            "beyond the margin it says hardly anything of it.",
        ),
        Backing(
            "intervals",
            "stability-over-trainings",
            "Intervals",
            "They cover other images of the same kind, in 95 of 96 cases; that of α̂ covers images and autoencoders "
            "together in 87 of 91, in 80 of 90 where the audit chooses the variant. A network trained again is another "
            "network: the interval of α̂ holds the mean over trainings in 122 of 419 cases.",
        ),
        Backing(
            "repair",
            "what-repairs-a-shortcut",
            "Edits as repairs",
            "No edit repaired a class that depends on a shortcut. The last layer, fitted again on images with and "
            "without it, did four fifths of what training the network again does.",
        ),
        Backing(
            "claims",
            "the-papers-claims",
            "Features, edits and autoencoders",
            "The claims of the paper that the tool follows, one by one: which hold, in part, or not, by network.",
        ),
        Backing(
            "supervised",
            "does-the-supervised-autoencoder-do-what-it-claims",
            "Autoencoders with named concepts",
            "In part: their codes tell concepts as well as logistic probes do, and two that were never seen together "
            "better.",
        ),
        Backing(
            "edits",
            "edits",
            "Removal inside the network",
            "What removing a concept costs other classes was measured on networks with known truth.",
        ),
        Backing(
            "verdicts",
            "verdicts-and-comparisons",
            "Verdicts and changes",
            "Of 112 networks trained again without a change all pass the policy that was proposed, and all but 5 with "
            "a baseline. With it 37 of 38 blur shortcuts are caught, and 30 of 39 raised ones.",
        ),
        Backing(
            "unmeasured",
            "what-no-benchmark-stands-behind",
            "Heat maps and the data check",
            "No benchmark says how well they tell what a class depends on: they show where to look.",
        ),
    )
}

# Section -> what stands behind its sentences. None: it states no measurement, or repeats those of the first page.
FRONT = "front"
OF_SECTION: Mapping[str, tuple[str, ...]] = {
    FRONT: ("reliance", "thresholds", "intervals", "verdicts"),
    "changes": ("verdicts", "intervals"),
    "reading": ("reliance", "thresholds", "intervals"),
    "classes": ("reliance", "thresholds", "intervals"),
    "thresholds": ("thresholds", "robustness", "intervals"),
    "effects": ("claims",),
    "recommendations": ("repair",),
    "review": ("reliance",),
    "data": ("unmeasured",),
    "confidence": ("reliance", "intervals"),
    "provenance": (),
    "index": (),
    "concepts": ("reliance", "edits"),
    "seeing": ("unmeasured",),
    "map": ("claims",),
    "checks": ("thresholds", "intervals"),
    "interventions": ("claims", "repair"),
    "stress": ("claims",),
    "autoencoder": ("claims", "supervised"),
    "seeds": ("claims", "intervals"),
    "demo": ("reliance", "thresholds"),
    "method": (),
}


def find_evidence_page() -> str:
    """Address of docs/evidence.md where the package was built with one of its documentation; "": built from sources."""
    try:
        lines = importlib.metadata.metadata("salve-audit").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    urls = dict(line.partition(", ")[::2] for line in lines)
    index = urls.get("Documentation", "")
    return index.rpartition("/")[0] + "/" + EVIDENCE_FILE.rpartition("/")[2] if index else ""


def back_section(result: AuditResult, anchor: str) -> tuple[Backing, ...]:
    """What stands behind the sentences of a section of this audit's report; the first page is "front"."""
    absent = set()
    if all(info.image_reliance is None for info in result.classes):
        absent |= {"reliance", "edits"}
    if not result.sae.concepts:
        absent.add("supervised")
    if anchor == FRONT and not result.verdict.rules:
        absent.add("verdicts")
    return tuple(BACKINGS[key] for key in OF_SECTION[anchor] if key not in absent)


def list_backings(result: AuditResult, anchors: Iterable[str]) -> tuple[Backing, ...]:
    """What stands behind the first page and these sections, each once."""
    keys = {backing.key for anchor in (FRONT, *anchors) for backing in back_section(result, anchor)}
    return tuple(backing for backing in BACKINGS.values() if backing.key in keys)
