"""The evidence regions of one image that its predicted class depends on, each removed before the network runs again."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from salve_audit.errors import LayerError
from salve_audit.evidence.findings import mark_counted_regions
from salve_audit.evidence.probe import Probe, watch_network
from salve_audit.evidence.regions import fill_regions
from salve_audit.evidence.regions import to_pixels as to_image
from salve_audit.evidence.search import Evidence, SearchSettings, find_evidence
from salve_audit.evidence.stage import choose_evidence_layer
from salve_audit.explain.findings import ExplainedRegion, ExplainedRegions
from salve_audit.explain.maps import show_image
from salve_audit.explain.subject import ExplainSubject
from salve_audit.inputs.reasons import summarise_error
from salve_audit.results import AuditResult, Concept
from salve_audit.saliency.heat import outline
from salve_audit.saliency.thumbnails import resize_heat


def find_regions(subject: ExplainSubject, images: Float[Tensor, "1 c h w"], predicted: int) -> ExplainedRegions:
    """The evidence regions that speak for the predicted class, strongest first.

    Raises:
        LayerError: the network has no spatial layer, or no gradient.
    """
    classifier = dataclasses.replace(subject.classifier, model=subject.network)
    images_on_device, name = images.to(subject.device), _audited_layer(subject.audit.result)
    layer = choose_evidence_layer(classifier, images_on_device, name, subject.layers.trace)
    try:
        with watch_network(classifier, layer, subject.head) as probe:
            labels = torch.tensor([predicted], device=subject.device)
            evidence = find_evidence(probe, images_on_device, labels, SearchSettings())
            return _describe(subject, probe, images, evidence)
    except RuntimeError as error:  # the network's own code, on its way back
        why = f"the evidence regions cannot be searched ({summarise_error(error)})"
        raise LayerError(str(subject.classifier.path), why) from error


def _audited_layer(result: AuditResult) -> str | None:
    """The layer whose activations distinguished the audit's regions, so that names mean the same; None without one."""
    return None if result.evidence is None else result.evidence.layer or None


def _describe(
    subject: ExplainSubject, probe: Probe, images: Float[Tensor, "1 c h w"], evidence: Evidence
) -> ExplainedRegions:
    there = [region for region in range(evidence.alone.shape[1]) if bool(evidence.regions[0, region].any())]
    result, own = subject.audit.result, int(evidence.labels[0])
    signatures = evidence.signatures[0, there].double().cpu().numpy()
    clean, together = (margins.double().cpu().numpy() for margins in (evidence.clean, evidence.together))
    counted = mark_counted_regions(clean, together)[0, there]
    names = name_concepts(signatures, result.data.classes[own], result.concepts, apart=bool(counted.all()))
    regions = [
        dataclasses.replace(_describe_one(subject, probe, images, evidence, region), concept=name)
        for region, name in zip(there, names, strict=True)
    ]
    lost = [number for number, region in enumerate(there, 1) if bool(evidence.together[0, region] <= 0)]
    return ExplainedRegions(tuple(regions), lost[0] if lost else None)


def _describe_one(
    subject: ExplainSubject, probe: Probe, images: Float[Tensor, "1 c h w"], evidence: Evidence, number: int
) -> ExplainedRegion:
    size = (int(images.shape[2]), int(images.shape[3]))
    region = to_image(evidence.regions[0, number][None, None].float().cpu(), size)
    without = fill_regions(images, region)
    with torch.no_grad():
        chances = probe(without.to(subject.device)).logits[0].double().softmax(0).cpu().numpy()
    names, own, top = subject.audit.result.data.classes, int(evidence.labels[0]), int(chances.argmax())
    shown = show_image(subject, images)
    mask = resize_heat(region[0, 0].numpy(), (shown.shape[0], shown.shape[1])) > 0.5
    return ExplainedRegion(
        concept=None,
        area=float(region.mean()),
        predicted=names[top],
        probability=float(chances[top]),
        own_probability=float(chances[own]),
        outlined=outline(shown, mask),
        without=show_image(subject, without),
    )


def name_concepts(
    signatures: Float[np.ndarray, "j d"], class_name: str, concepts: tuple[Concept, ...], *, apart: bool
) -> list[int | None]:
    """The concept of that class that each evidence region is most alike; None: the audit has none of this layer.

    Args:
        signatures: of each region.
        class_name: the class that they speak for.
        concepts: of the audit.
        apart: each region counted by itself, so that they are different things, as in the audit's own grouping.
    """
    own = [
        concept
        for concept in concepts
        if concept.class_name == class_name and len(concept.signature) == signatures.shape[1]
    ]
    if not own or not np.isfinite(signatures).all():
        return [None] * len(signatures)
    centres = np.array([concept.signature for concept in own])
    units = [part / np.linalg.norm(part, axis=1, keepdims=True).clip(1e-12) for part in (signatures, centres)]
    likeness = units[0] @ units[1].T
    if apart and len(signatures) <= len(own):
        picks = linear_sum_assignment(likeness, maximize=True)[1]
    else:
        picks = likeness.argmax(1)
    return [own[int(pick)].index for pick in picks]
