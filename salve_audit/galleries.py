"""From the audit's stages to what the features look at: what is shown is chosen, drawn, or left out with the reason."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from salve_audit.activations import choose_device
from salve_audit.config import AuditConfig
from salve_audit.reliance.assess import Reliance
from salve_audit.results import FeatureInfo, Seeing, nothing_seen
from salve_audit.sae.models import TrainedSae
from salve_audit.saliency.drawing import DrawingInputs, find_layer
from salve_audit.saliency.gallery import choose_images
from salve_audit.saliency.stage import SeeingInputs, see_features
from salve_audit.saliency.synthetic import SyntheticInputs, add_synthetic
from salve_audit.subject import Subject

NO_PICTURES = "activations were audited, and there are no pictures of them"
LEFT_OUT = "pictures are kept out of this report (--no-images)"


def check_saliency_layer(config: AuditConfig, subject: Subject) -> None:
    """Before the long stages: can the layer that the user named give heat maps?

    Raises:
        LayerError: it cannot; names similar ones.
    """
    if config.saliency_layer is not None and subject.classifier is not None and subject.images is not None:
        find_layer(subject.classifier, subject.images, config.saliency_layer)


def show_features(
    config: AuditConfig,
    subject: Subject,
    coded: tuple[TrainedSae, Float[np.ndarray, "n m"]],
    reliance: Reliance,
    features: Sequence[FeatureInfo],
) -> Seeing:
    """Galleries of dominant and shared features, and of the pictures that flip first.

    Args:
        config: of the audit.
        subject: network, pictures and activations.
        coded: the autoencoder with the codes of the audit split.
        reliance: classes and thresholds.
        features: described ones, with what the later stages know of them.
    """
    if not config.images:
        return nothing_seen(LEFT_OUT)
    if subject.classifier is None or subject.images is None:
        return nothing_seen(NO_PICTURES)
    (sae, codes), audit = coded, subject.activations.audit
    drawing = DrawingInputs(
        classifier=subject.classifier,
        images=subject.images,
        audit=audit,
        head=subject.activations.head,
        sae=sae,
        codes=codes,
        chosen=choose_images(reliance.classes, features, codes, reliance.samples, audit.labels),
        layer=config.saliency_layer,
        device=choose_device(config.device),
    )
    inputs = SeeingInputs(drawing, reliance.samples, subject.classes)
    synthetic = SyntheticInputs(
        classifier=subject.classifier,
        sae=sae,
        codes=codes,
        features=features,
        classes=subject.classes,
        which=config.activation_maximisation,
        seed=config.seed,
        device=drawing.device,
    )
    seeing = see_features(inputs)
    return seeing if seeing.why_absent else add_synthetic(seeing, synthetic)
