"""The exchange of backgrounds in an audit: which images have masks, the runs, and what they add to the record."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.evidence.background import (
    NAME,
    Exchanges,
    MaskedImages,
    add_background,
    describe_exchanges,
    exchange_backgrounds,
    gather_masked,
    lay_on,
)
from salve_audit.evidence.drawing import PER_CONCEPT
from salve_audit.evidence.examine import AuditedNetwork
from salve_audit.evidence.factors.measure import predict
from salve_audit.evidence.images import EvidenceImages
from salve_audit.evidence.probe import watch_network
from salve_audit.evidence.search import Evidence
from salve_audit.inputs.data.masks import ObjectMasks
from salve_audit.results import Concept, ConceptImage, ImageReliance
from salve_audit.saliency.heat import outline
from salve_audit.saliency.thumbnails import encode_image, fit_side, resize_heat, resize_pixels, to_display_pixels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackgroundInputs:
    """What backgrounds are exchanged in.

    Attributes:
        network: on its device.
        images: that were examined.
        evidence: of them.
        masks: where their objects are.
        classes: names in output order.
        with_images: concepts are shown with images.
    """

    network: AuditedNetwork
    images: EvidenceImages
    evidence: Evidence
    masks: ObjectMasks
    classes: Sequence[str]
    with_images: bool


@dataclass(frozen=True)
class BackgroundOutcome:
    """What exchanged backgrounds add.

    Attributes:
        records: by class index.
        concepts: of the audit.
        n_passes: of one image.
        lost: (n,) share of other classes' backgrounds that each examined image is misclassified on; nan: none tried.
    """

    records: Mapping[int, ImageReliance]
    concepts: tuple[Concept, ...]
    n_passes: int
    lost: Float[np.ndarray, " n"]


def measure_background(
    inputs: BackgroundInputs, records: Mapping[int, ImageReliance], concepts: tuple[Concept, ...]
) -> BackgroundOutcome:
    """Measure, and add what was found.

    Args:
        inputs: network, images and masks.
        records: by class index.
        concepts: of the audit.
    """
    network, images = inputs.network, inputs.images
    prepare = inputs.masks.preparer(images.spec)
    labels, correct = inputs.evidence.labels.cpu().numpy(), inputs.evidence.correct.cpu().numpy()
    without, lost = list[str](), np.full(len(labels), np.nan)

    def mask_of(row: int) -> Float[Tensor, "1 h w"] | None:
        mask = prepare(images.path(row))
        if mask is None:
            without.append(images.path(row))
        return mask

    masked = gather_masked(labels, correct, images.load, mask_of)
    if without:
        told = "%d of the images examined have no %s that can be read (%r is the first): their backgrounds stay"
        log.warning(told, len(without), inputs.masks.column, without[0])
    if masked is None or network.clock.is_past():
        return BackgroundOutcome(records, concepts, 0, lost)
    rng = network.rng("backgrounds")
    with watch_network(network.classifier, network.layer, network.head) as probe:

        def ask(changed: Float[Tensor, "b c h w"]) -> Int[np.ndarray, " b"]:
            with torch.no_grad():
                return predict(probe(changed.to(network.device)).logits.cpu())

        exchanges = exchange_backgrounds(ask, masked, rng)
    effects = describe_exchanges(exchanges, masked.labels, rng)
    covered = masked.masks.mean((1, 2, 3)).numpy()
    areas = {label: float(1 - covered[masked.labels == label].mean()) for label in effects}
    changed, extended = add_background(records, concepts, effects, areas, inputs.classes)
    if inputs.with_images:
        extended = tuple(
            _draw(concept, inputs, masked, exchanges) if concept.factor == NAME else concept for concept in extended
        )
    lost[masked.rows] = (exchanges.other != masked.labels[:, None]).mean(1)
    return BackgroundOutcome(changed, extended, exchanges.n_passes, lost)


def _draw(concept: Concept, inputs: BackgroundInputs, masked: MaskedImages, exchanges: Exchanges) -> Concept:
    """Add images that another class's background flips: the object outlined, and on that background."""
    label = inputs.classes.index(concept.class_name)
    flipped = np.flatnonzero((masked.labels == label) & (exchanges.other[:, 0] != label))[:PER_CONCEPT]
    donors = exchanges.donor_positions[flipped, 0]
    own, ground = masked.load(flipped), masked.load(donors)
    masks, donor_masks = (masked.masks[torch.from_numpy(rows)].float() for rows in (flipped, donors))
    laid = lay_on(own, masks, ground, donor_masks)
    spec, drawn = inputs.images.spec, []
    for i, row in enumerate(masked.rows[flipped].tolist()):
        pixels = (to_display_pixels(part[i : i + 1].numpy(), spec.mean, spec.std)[0] for part in (own, laid))
        before, after = (resize_pixels(part, fit_side(part.shape[0], part.shape[1])) for part in pixels)
        edge = resize_heat(masks[i, 0].numpy(), (before.shape[0], before.shape[1])) > 0.5
        drawn.append(
            ConceptImage(inputs.images.path(row), encode_image(outline(before, edge)), encode_image(after), True)
        )
    return replace(concept, images=tuple(drawn))
