"""Galleries with a feature visualisation of each feature, where these are wanted."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.results import FeatureInfo, Seeing, SyntheticImage
from salve_audit.sae.models import TrainedSae
from salve_audit.saliency.activation_maximisation import (
    MaximisationSettings,
    Visualisation,
    choose_targets,
    maximise_features,
)
from salve_audit.saliency.thumbnails import as_colours, encode_image, fit_side, resize_pixels

log = logging.getLogger(__name__)
TURNED_OFF = "Feature visualisations were not computed (--activation-maximisation off)."
NO_GPU = (
    "Without a GPU, feature visualisations are computed only on request: "
    "--activation-maximisation dominant (about half a minute for ten features of a small network)."
)


@dataclass(frozen=True)
class VisualisationInputs:
    """Inputs of the feature visualisations.

    Attributes:
        classifier: the network.
        sae: whose latents they shall excite.
        codes: (n, m) of real images, the audit split's.
        features: what is known of the latents: mean codes, and the classes that they are dominant for.
        classes: names, in output order.
        which: auto, off, dominant or all.
        seed: of noise and views.
        device: of the network.
        settings: of the optimiser.
    """

    classifier: Classifier
    sae: TrainedSae
    codes: Float[np.ndarray, "n m"]
    features: Sequence[FeatureInfo]
    classes: tuple[str, ...]
    which: str
    seed: int
    device: torch.device
    settings: MaximisationSettings = field(default_factory=MaximisationSettings)


def add_visualisations(seeing: Seeing, inputs: VisualisationInputs) -> Seeing:
    """The galleries with feature visualisations, or with the reason why there are none."""
    which = inputs.which
    if which == "auto":
        which = "dominant" if inputs.device.type == "cuda" else ""
    if which in ("", "off"):
        return dataclasses.replace(seeing, why_no_synthetic=TURNED_OFF if which else NO_GPU)
    known = {info.index: info for info in inputs.features}
    chosen = [
        (gallery.feature, _mean_code(known.get(gallery.feature), inputs.codes[:, gallery.feature], inputs.classes))
        for gallery in seeing.features
        if which == "all" or (gallery.feature in known and known[gallery.feature].dominant_for)
    ]
    generator = torch.Generator().manual_seed(inputs.seed)
    log.info("feature visualisation of %d features", len(chosen))
    try:
        targets = choose_targets(inputs.codes, chosen)
        network = inputs.classifier, inputs.device
        visualisations = maximise_features(network, inputs.sae, targets, inputs.settings, generator)
    except CheckpointError as error:
        log.warning("no feature visualisations: %s", error.why)
        return dataclasses.replace(
            seeing, why_no_synthetic=f"Feature visualisations could not be computed: {error.why}."
        )
    by_feature = {visualisation.target.feature: _record(visualisation) for visualisation in visualisations}
    galleries = (dataclasses.replace(gallery, synthetic=by_feature.get(gallery.feature)) for gallery in seeing.features)
    return dataclasses.replace(seeing, features=tuple(galleries))


def _mean_code(info: FeatureInfo | None, codes: Float[np.ndarray, " n"], classes: tuple[str, ...]) -> float:
    """Mean code on the class that the latent is strongest on, of those that it is dominant for if there are any."""
    if info is None:
        return float(codes[np.abs(codes).argmax()])
    named = dict(zip(classes, info.mean_code, strict=True))
    means = [named[name] for name in info.dominant_for or classes]
    return max((mean for mean in means if mean is not None), key=abs, default=0.0)


def _record(visualisation: Visualisation) -> SyntheticImage:
    """The visualisation as it is shown: grey in three channels, enlarged."""
    pixels = np.rint(as_colours(visualisation.pixels) * 255).astype(np.uint8)
    shown = resize_pixels(pixels, fit_side(*pixels.shape[:2]))
    return SyntheticImage(encode_image(shown), visualisation.code, visualisation.ratio)
