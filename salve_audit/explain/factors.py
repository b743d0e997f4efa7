"""Global factors of one image: removed as the audit removed them, and another class's inserted on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import UsageError
from salve_audit.evidence.concept_file import FILE, load_class_means
from salve_audit.evidence.factors.bank import FACTORS
from salve_audit.evidence.factors.class_means import ClassMeans, ClassStatistics
from salve_audit.evidence.factors.record import Factor, Shift, change_prepared
from salve_audit.explain.findings import ExplainedFactor, ExplainedFactors
from salve_audit.explain.subject import ExplainSubject
from salve_audit.results import FactorEffect

OF_DONORS = ("border", "fixed place")  # kinds
NEEDLESS = ("border", "hue")  # kinds and names of factors that are removed without any statistics


@dataclass(frozen=True)
class _Run:
    """One change of the image: the factor, and the class whose own was inserted; None: it was removed."""

    factor: Factor
    inserted: int | None
    images: Float[Tensor, "1 c h w"]


def find_factors(
    subject: ExplainSubject, images: Float[Tensor, "1 c h w"], predicted: int, insert: str | None = None
) -> ExplainedFactors:
    """What the network says without each global factor, and with those of another class.

    Args:
        subject: the audit and its model.
        images: prepared.
        predicted: the class as the image is.
        insert: the class whose factors are inserted; None: none.

    Raises:
        UsageError: there is no such class.
        CheckpointError: the pass fails.
    """
    names = subject.audit.result.data.classes
    if insert is not None and insert not in names:
        raise UsageError(f"--insert {insert}", "the audit has no such class")
    means = load_class_means(subject.audit.folder / FILE, len(names))
    runs = list(_removals(subject, images, predicted, means))
    if insert is not None:
        runs += _insertions(subject, images, (predicted, names.index(insert)), means)
    if not runs:
        return ExplainedFactors((), (), insert, bool(means.totals))
    acts = np.concatenate([subject.read_acts(run.images) for run in runs])
    logits = torch.from_numpy(acts.astype(np.float64) @ subject.head.weight.T.astype(np.float64) + subject.head.bias)
    chances = logits.softmax(1).numpy()
    found = [_describe(subject, run, row, predicted) for run, row in zip(runs, chances, strict=True)]
    removed = sorted((f for f, run in zip(found, runs, strict=True) if run.inserted is None), key=_order)
    inserted = [f for f, run in zip(found, runs, strict=True) if run.inserted is not None]
    return ExplainedFactors(tuple(removed), tuple(inserted), insert, bool(means.totals))


def _order(factor: ExplainedFactor) -> float:
    return factor.own_probability


def _removals(
    subject: ExplainSubject, images: Float[Tensor, "1 c h w"], predicted: int, means: ClassMeans
) -> Iterator[_Run]:
    for factor in _usable(images):
        shift = _shift(factor, means.of(factor.name), predicted)
        if factor.remove is not None and shift is not None:
            changed = change_prepared(images, subject.classifier.transform, factor.remove, shift)
            yield _Run(factor, None, changed)


def _insertions(
    subject: ExplainSubject, images: Float[Tensor, "1 c h w"], ends: tuple[int, int], means: ClassMeans
) -> Iterator[_Run]:
    """From the predicted class to the inserted one.

    Strips and places are left out: they come from images of the class, which are not at hand here.
    """
    predicted, label = ends
    for factor in _usable(images):
        statistics = means.of(factor.name)
        if factor.insert is None or statistics is None or factor.kind in OF_DONORS or not statistics.counts[label]:
            continue
        labels, own = torch.tensor([label]), torch.tensor([predicted])
        source = statistics.own(own) if statistics.counts[predicted] else statistics.others(labels)
        shift = Shift(source, statistics.own(labels))
        yield _Run(factor, label, change_prepared(images, subject.classifier.transform, factor.insert, shift))


def _usable(images: Float[Tensor, "1 c h w"]) -> Iterator[Factor]:
    yield from (factor for factor in FACTORS.values() if images.shape[1] == 3 or not factor.coloured)


def _shift(factor: Factor, statistics: ClassStatistics | None, predicted: int) -> Shift | None:
    """From the predicted class to the others; None: the audit has no image of it, and the factor needs that."""
    if statistics is None:
        nothing = torch.zeros(1, 0)
        return Shift(nothing, nothing) if factor.kind in NEEDLESS or factor.name in NEEDLESS else None
    return statistics.away(torch.tensor([predicted])) if statistics.counts[predicted] else None


def _describe(subject: ExplainSubject, run: _Run, chances: Float[np.ndarray, " k"], predicted: int) -> ExplainedFactor:
    names, top = subject.audit.result.data.classes, int(chances.argmax())
    effect = _audited_effect(subject, names[predicted if run.inserted is None else run.inserted], run.factor.name)
    return ExplainedFactor(
        name=run.factor.name,
        kind=run.factor.kind,
        predicted=names[top],
        probability=float(chances[top]),
        own_probability=float(chances[predicted]),
        of_class=None if effect is None else effect.removed if run.inserted is None else effect.inserted,
        chance=None if effect is None else effect.chance if run.inserted is None else effect.inserted_chance,
    )


def _audited_effect(subject: ExplainSubject, class_name: str, factor: str) -> FactorEffect | None:
    """What the audit found of the factor over all images of the class."""
    for info in subject.audit.result.classes:
        if info.name == class_name and info.image_reliance is not None:
            return next((effect for effect in info.image_reliance.factors if effect.name == factor), None)
    return None
