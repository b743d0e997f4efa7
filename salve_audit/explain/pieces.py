"""What in this picture the predicted class rests on: pieces of evidence, each taken out and the network asked again."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from salve_audit.depth.layers import choose_depth_layers
from salve_audit.errors import LayerError
from salve_audit.explain.findings import Piece, Pieces
from salve_audit.explain.maps import show_picture
from salve_audit.explain.subject import Subject
from salve_audit.inputs.reasons import summarise_error
from salve_audit.reliance.depth import Evidence, Probe, SearchSettings, find_evidence, watch_network
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.grouping import count_pieces
from salve_audit.reliance.depth.regions import to_pixels as to_picture
from salve_audit.results import AuditResult, Concept
from salve_audit.saliency.heat import outline
from salve_audit.saliency.thumbnails import resize_heat


def find_pieces(subject: Subject, images: Float[Tensor, "1 c h w"], predicted: int) -> Pieces:
    """The pieces that speak for the predicted class, strongest first.

    Raises:
        LayerError: the network has no spatial layer, or no gradient.
    """
    classifier = dataclasses.replace(subject.classifier, model=subject.network)
    pictures = images.to(subject.device)
    layer = choose_depth_layers(classifier, pictures, _audited_layers(subject.audit.result))[0]
    try:
        with watch_network(classifier, layer, subject.head) as probe:
            labels = torch.tensor([predicted], device=subject.device)
            evidence = find_evidence(probe, pictures, labels, SearchSettings())
            return _describe(subject, probe, images, evidence)
    except RuntimeError as error:  # the network's own code, on its way back
        why = f"the pieces of evidence cannot be searched ({summarise_error(error)})"
        raise LayerError(str(subject.classifier.path), why) from error


def _audited_layers(result: AuditResult) -> tuple[str, ...]:
    """Where the audit told pieces apart, so that names mean the same; () where it did not."""
    return () if result.depth is None else result.depth.layers[:1]


def _describe(subject: Subject, probe: Probe, images: Float[Tensor, "1 c h w"], evidence: Evidence) -> Pieces:
    there = [piece for piece in range(evidence.alone.shape[1]) if bool(evidence.regions[0, piece].any())]
    result, own = subject.audit.result, int(evidence.labels[0])
    traits = evidence.traits[0, there].double().cpu().numpy()
    counted = count_pieces(evidence.clean.double().cpu().numpy(), evidence.together.double().cpu().numpy())[0, there]
    names = name_concepts(traits, result.data.classes[own], result.concepts, apart=bool(counted.all()))
    found = [
        dataclasses.replace(_describe_one(subject, probe, images, evidence, piece), concept=name)
        for piece, name in zip(there, names, strict=True)
    ]
    lost = [number for number, piece in enumerate(there, 1) if bool(evidence.together[0, piece] <= 0)]
    return Pieces(tuple(found), lost[0] if lost else None)


def _describe_one(
    subject: Subject, probe: Probe, images: Float[Tensor, "1 c h w"], evidence: Evidence, piece: int
) -> Piece:
    size = (int(images.shape[2]), int(images.shape[3]))
    region = to_picture(evidence.regions[0, piece][None, None].float().cpu(), size)
    without = fill_regions(images, region)
    with torch.no_grad():
        chances = probe(without.to(subject.device)).logits[0].double().softmax(0).cpu().numpy()
    names, own, top = subject.audit.result.data.classes, int(evidence.labels[0]), int(chances.argmax())
    shown = show_picture(subject, images)
    mask = resize_heat(region[0, 0].numpy(), (shown.shape[0], shown.shape[1])) > 0.5
    return Piece(
        concept=None,
        area=float(region.mean()),
        predicted=names[top],
        probability=float(chances[top]),
        own_probability=float(chances[own]),
        outlined=outline(shown, mask),
        without=show_picture(subject, without),
    )


def name_concepts(
    traits: Float[np.ndarray, "j d"], class_name: str, concepts: tuple[Concept, ...], *, apart: bool
) -> list[int | None]:
    """The audit's concepts of that class that a picture's pieces are most alike; None: it has none of this layer.

    Args:
        traits: of each piece.
        class_name: the class that they speak for.
        concepts: of the audit.
        apart: each piece counted by itself, so that they are different things, as in the audit's own grouping.
    """
    own = [one for one in concepts if one.class_name == class_name and len(one.trait) == traits.shape[1]]
    if not own or not np.isfinite(traits).all():
        return [None] * len(traits)
    centres = np.array([one.trait for one in own])
    units = [part / np.linalg.norm(part, axis=1, keepdims=True).clip(1e-12) for part in (traits, centres)]
    likeness = units[0] @ units[1].T
    if apart and len(traits) <= len(own):
        picks = linear_sum_assignment(likeness, maximize=True)[1]
    else:
        picks = likeness.argmax(1)
    return [own[int(pick)].index for pick in picks]
