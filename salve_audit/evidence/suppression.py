"""What removals inside the network do to predictions: at full strength, and the smallest strength that flips each.

Strength t leaves ``positions - t * part(positions)``, and the rest of the network runs on that. `plan_removals` chooses
the concepts and images so that the cost stays within a share of the search for evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.activations.spread import spread_rows
from salve_audit.evidence.findings import THIN, ConceptFinding, EvidenceFindings, Share, share_of
from salve_audit.evidence.projection import Removal
from salve_audit.evidence.records import widen_interval
from salve_audit.evidence.search import Evidence
from salve_audit.evidence.tail import LayerBatch, LayerTail

LEAST_EACH = 3  # images of each other class
TRIES = 9  # passes per image: up to the layer, random directions, full strength, and about six strengths


@dataclass(frozen=True)
class StrengthSearch:
    """Settings of the search for the smallest strength that flips a prediction.

    Attributes:
        n_scan: equal steps up to strength 1; a change and a change back within one step go unnoticed.
        tolerance: of the strength.
    """

    n_scan: int = 8
    tolerance: float = 1e-3


@dataclass(frozen=True)
class RemovalSettings:
    """Extent of the removals; the numbers of images shrink together where the budget asks for it.

    Attributes:
        budget: forward passes as a share of those of the search for evidence, about.
        n_classes: whose strongest concept is removed, at most; those that lose most first.
        n_own: images of the class.
        n_others: images of all other classes together.
        least: images that no budget goes below.
        strengths: how finely the smallest strength is searched.
    """

    budget: float = 0.15
    n_classes: int = 20
    n_own: int = 30
    n_others: int = 60
    least: int = 8
    strengths: StrengthSearch = field(default_factory=lambda: StrengthSearch(n_scan=4, tolerance=1 / 32))


@dataclass(frozen=True)
class RemovalTarget:
    """A concept, and the rows (n,) of correctly classified images in the evidence that it is removed from."""

    index: int
    concept: ConceptFinding
    own: Int[np.ndarray, " n"]


@dataclass(frozen=True)
class RemovalPlan:
    """The concepts to remove, and rows (o,) of correctly classified images of all classes."""

    targets: tuple[RemovalTarget, ...]
    others: Int[np.ndarray, " o"]


def plan_removals(evidence: Evidence, findings: EvidenceFindings, settings: RemovalSettings) -> RemovalPlan:
    """Choose the concepts and their images so that the passes stay within the budget.

    Args:
        evidence: on the processor; its passes are what the budget is a share of.
        findings: of the same evidence.
        settings: budget and numbers of images.
    """
    ranked = sorted(
        (finding for finding in findings.classes if finding.concept is not None),
        key=lambda finding: -finding.reliance.value,
    )
    chosen = sorted(ranked[: settings.n_classes], key=lambda finding: finding.label)
    labels, correct = evidence.labels.numpy(), evidence.correct.numpy()
    present = np.unique(labels)
    each = max(LEAST_EACH, settings.n_others // max(1, len(present) - 1))
    cost = len(chosen) * (TRIES * settings.n_own + each * len(present))
    scale = min(1.0, settings.budget * evidence.n_passes / max(1, cost))
    n_own, each = max(settings.least, round(scale * settings.n_own)), max(LEAST_EACH, round(scale * each))
    targets = []
    for finding in chosen:
        assert finding.concept is not None, "chosen by it"
        own = spread_rows(np.flatnonzero((labels == finding.label) & correct), n_own)
        targets.append(RemovalTarget(finding.concept, findings.concepts[finding.concept], own))
    others = [spread_rows(np.flatnonzero((labels == label) & correct), each) for label in present]
    return RemovalPlan(tuple(targets), np.concatenate(others))


@dataclass(frozen=True)
class ClassDrop:
    """Drop of one class's accuracy under a removal.

    Attributes:
        label: class index.
        n: its images that were classified correctly.
        drop: share of them that are misclassified at strength 1, with its 95 % interval.
        thin: fewer than 30 of them.
    """

    label: int
    n: int
    drop: Share
    thin: bool


@dataclass(frozen=True)
class RemovalEffect:
    """Drops of a class's accuracy, and of all others', under a removal.

    Attributes:
        own: of the class.
        others: each other class with correctly classified images, by label.
        mean_others: mean drop of the others, with its interval over their images; NaN without others.
    """

    own: ClassDrop
    others: tuple[ClassDrop, ...]
    mean_others: Share


def remove_each(
    tail: LayerTail, removals: Sequence[Removal], rows: Int[np.ndarray, " n"], strength: float = 1.0
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "r n"]]:
    """Measure margins of the images with nothing removed (n,), and with each removal applied alone (r, n).

    Args:
        tail: of the network that is cut at the layer.
        removals: r of them.
        rows: of the tail's source.
        strength: 0 removes nothing, 1 all.

    Raises:
        LayerError: the network fails.
    """
    clean, changed = [], []
    for batch in tail.reach(rows):
        every = torch.arange(len(batch), device=batch.positions.device)
        with torch.no_grad():
            margins = [
                tail.margins(batch, batch.positions - strength * removal.part(batch.positions), every)
                for removal in removals
            ]
        clean.append(tail.clean(batch).cpu().numpy())
        changed.append(torch.stack(margins).cpu().numpy() if margins else np.zeros((0, len(batch))))
    return np.concatenate(clean), np.concatenate(changed, axis=1)


def strengths_in(
    tail: LayerTail, batch: LayerBatch, part: Float[Tensor, "b p d"], search: StrengthSearch
) -> Float[Tensor, " b"]:
    """Find flip strengths (b,) of one batch, for the `part` that one removal subtracts from its positions.

    inf: the image stays correct up to strength 1 (right-censored there). NaN: it was misclassified from the start. A
    strength is at most `tolerance` too large.
    """

    def wrong(which: Tensor, strength: Tensor) -> Tensor:
        positions = batch.positions[which] - strength.view(-1, 1, 1) * part[which]
        return tail.margins(batch, positions, which) <= 0

    return bisect(wrong, tail.clean(batch) > 0, search)


def bisect(
    wrong: Callable[[Int[Tensor, " q"], Float[Tensor, " q"]], Bool[Tensor, " q"]],
    right: Bool[Tensor, " b"],
    search: StrengthSearch,
) -> Float[Tensor, " b"]:
    """Find the smallest strength in (0, 1] at which each image is misclassified.

    Strengths are scanned from below, and the first step at which an image is misclassified is halved again and again.

    Args:
        wrong: (indices among the b, strengths) -> whether each is misclassified there.
        right: whether each is correct at strength 0.
        search: how finely.

    Returns:
        strengths (b,); inf: at no step of the scan. NaN: not correct at 0.
    """
    step = 1 / search.n_scan
    high = torch.full(right.shape, torch.inf, device=right.device)
    for i in range(1, search.n_scan + 1):
        open_ = torch.nonzero(right & high.isinf())[:, 0]
        if not len(open_):
            break
        at = high.new_full((len(open_),), i * step)
        high[open_] = torch.where(wrong(open_, at), at, torch.inf)
    known = torch.nonzero(high.isfinite())[:, 0]
    top, width = high[known], step
    while width > search.tolerance and len(known):
        width /= 2
        top = torch.where(wrong(known, top - width), top - width, top)
    high[known] = top
    return torch.where(right, high, torch.nan)


def median_strength(strengths: Float[np.ndarray, " n"]) -> float | None:
    """Compute the median over images that were correct; None: most of them stay correct up to 1, or there are none."""
    known = strengths[~np.isnan(strengths)]
    if not len(known):
        return None
    middle = float(np.sort(known)[(len(known) - 1) // 2])
    return middle if np.isfinite(middle) else None


def summarise_effect(
    clean: Float[np.ndarray, " n"],
    without: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    label: int,
    rng: np.random.Generator,
) -> RemovalEffect:
    """Summarise the drops of a class and of all others, over images that were correct.

    Args:
        clean: margins with nothing removed.
        without: margins with the concept removed.
        labels: class index of each image.
        label: of the class that the concept belongs to.
        rng: draws of the intervals.
    """
    present = np.unique(labels[clean > 0]).tolist()
    flips = {int(index): without[(labels == index) & (clean > 0)] <= 0 for index in present}
    own = flips.pop(label, np.zeros(0, bool))
    others = tuple(_drop_of(index, lost, rng) for index, lost in flips.items())
    return RemovalEffect(_drop_of(label, own, rng), others, _mean_share(list(flips.values()), rng))


def _drop_of(label: int, flipped: Bool[np.ndarray, " n"], rng: np.random.Generator) -> ClassDrop:
    n = len(flipped)
    share = share_of(flipped, rng) if n else Share(float("nan"), float("nan"), float("nan"))
    low, high = widen_interval(share, n) if n else (0.0, 1.0)
    return ClassDrop(label, n, Share(share.value, low, high), n < THIN)


def _mean_share(flips: list[Bool[np.ndarray, " _"]], rng: np.random.Generator) -> Share:
    """Mean over classes, each counted alike; the interval is that of all images together where no draw would vary."""
    if not flips:
        return Share(float("nan"), float("nan"), float("nan"))
    shares = np.array([flipped.mean() for flipped in flips])
    drawn = np.mean([rng.binomial(len(flipped), flipped.mean(), 1000) / len(flipped) for flipped in flips], axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5], method="nearest")
    value = float(shares.mean())
    return Share(value, *widen_interval(Share(value, float(low), float(high)), sum(map(len, flips))))
