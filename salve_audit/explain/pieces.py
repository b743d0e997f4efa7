"""What in this picture the predicted class rests on: pieces of evidence, each taken out and the network asked again."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import LayerError
from salve_audit.explain.findings import Piece, Pieces
from salve_audit.explain.maps import show_picture
from salve_audit.explain.subject import Subject
from salve_audit.inputs.reasons import summarise_error
from salve_audit.reliance.depth import Evidence, Probe, SearchSettings, find_evidence, watch_network
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.regions import to_pixels as to_picture
from salve_audit.results import Concept
from salve_audit.saliency.heat import outline
from salve_audit.saliency.thumbnails import resize_heat
from salve_audit.spatial import find_spatial_layers
from salve_audit.spatial.blocks import first_block


def find_pieces(subject: Subject, images: Float[Tensor, "1 c h w"], predicted: int) -> Pieces:
    """The pieces that speak for the predicted class, strongest first.

    Raises:
        LayerError: the network has no spatial layer, or no gradient.
    """
    classifier = dataclasses.replace(subject.classifier, model=subject.network)
    pictures = images.to(subject.device)
    layer = first_block(subject.network, find_spatial_layers(classifier, pictures))
    try:
        with watch_network(classifier, layer, subject.head) as probe:
            labels = torch.tensor([predicted], device=subject.device)
            evidence = find_evidence(probe, pictures, labels, SearchSettings())
            return _describe(subject, probe, images, evidence)
    except RuntimeError as error:  # the network's own code, on its way back
        why = f"the pieces of evidence cannot be searched ({summarise_error(error)})"
        raise LayerError(str(subject.classifier.path), why) from error


def _describe(subject: Subject, probe: Probe, images: Float[Tensor, "1 c h w"], evidence: Evidence) -> Pieces:
    there = [piece for piece in range(evidence.alone.shape[1]) if bool(evidence.regions[0, piece].any())]
    found = [_describe_one(subject, probe, images, evidence, piece) for piece in there]
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
    trait = evidence.traits[0, piece].double().cpu().numpy()
    return Piece(
        concept=name_concept(trait, names[own], subject.audit.result.concepts),
        area=float(region.mean()),
        predicted=names[top],
        probability=float(chances[top]),
        own_probability=float(chances[own]),
        outlined=outline(shown, mask),
        without=show_picture(subject, without),
    )


def name_concept(trait: Float[np.ndarray, " d"], class_name: str, concepts: tuple[Concept, ...]) -> int | None:
    """The audit's concept of that class that the piece is most alike; None: the audit has none of this layer."""
    own = [one for one in concepts if one.class_name == class_name and len(one.trait) == len(trait)]
    if not own or not np.isfinite(trait).all():
        return None
    centres = np.array([one.trait for one in own])
    lengths = np.linalg.norm(centres, axis=1).clip(1e-12)
    return own[int((centres @ trait / lengths).argmax())].index
