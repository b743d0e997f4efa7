"""The strength that brings a class down to an accuracy, found by runs of the edited network on its images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.activations.images import LoaderSettings, require_images
from salve_audit.edit.plan import Target
from salve_audit.edit.subject import EditSubject
from salve_audit.errors import UsageError
from salve_audit.interventions.deep.effect import find_correct
from salve_audit.interventions.deep.search import search_strengths
from salve_audit.interventions.registry import ALL_WRITERS

N_HALVINGS = 10  # of a step between strengths
PROOF_IMAGES = 4
Runs = Callable[[float], Float[np.ndarray, "n k"]]  # logits of the audited head at a strength


def match_strength(
    target: Target, subject: EditSubject, settings: LoaderSettings, prepare: Callable[[Float[Tensor, "n c h w"]], Runs]
) -> float:
    """The strength for the target's class and accuracy; `prepare` is given the class's images once.

    Raises:
        UsageError: there are no images, or no strength is enough or needed.
    """
    level, index = target.step.to_accuracy, target.class_index
    assert level is not None, "a step has a strength or an accuracy"
    assert index is not None, "an accuracy is one of a class"
    name = subject.evidence.audit.result.data.classes[index]
    labels = np.zeros(0) if subject.evidence.splits is None else subject.evidence.splits[1].labels
    if subject.images is None:
        why = "of an edit before the head is reached by runs of the network, which need images"
        raise UsageError("to-accuracy", why, hint="name the audit's images with --data DIR")
    rows = np.flatnonzero(labels == index)
    if not len(rows):
        raise UsageError("to-accuracy", f"{name!r} has no images to audit")
    run, own = prepare(load_some(subject, [subject.paths[row] for row in rows], settings)), labels[rows]

    def accuracy(strength: float) -> float:
        return float(find_correct(run(strength).T, own).mean())

    ((strength, reached),) = search_strengths(accuracy, [level], N_HALVINGS)
    if not reached:
        why = f"no strength of {target.step.method} brings {name!r} down to {100 * level:g} %"
        lowest = f"the lowest found is {100 * accuracy(strength):.1f} %, at {strength:g}"
        raise UsageError(
            "to-accuracy", f"{why}; {lowest}", hint=f"{ALL_WRITERS.key} or an edit of the head goes further"
        )
    if strength == 0:
        raise UsageError("to-accuracy", f"{name!r} is at {100 * level:g} % or below already")
    return strength


def verification_batch(subject: EditSubject) -> Tensor:
    """Images to verify the layers on; noise where there are none."""
    if subject.images is None:
        return torch.randn(PROOF_IMAGES, *subject.classifier.transform.input_size, generator=torch.Generator())
    chosen = np.linspace(0, len(subject.paths) - 1, min(PROOF_IMAGES, len(subject.paths))).astype(int)
    return load_some(subject, [subject.paths[i] for i in chosen], LoaderSettings(PROOF_IMAGES, 0))


def load_some(subject: EditSubject, paths: Sequence[str], settings: LoaderSettings) -> Tensor:
    """These images, prepared."""
    assert subject.images is not None, "there are no images"
    return require_images(subject.images.reader, paths, subject.classifier.transform, settings)
