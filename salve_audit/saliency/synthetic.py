"""Galleries with a picture made for each feature, where that was asked for."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from salve_audit.errors import CheckpointError
from salve_audit.inputs.classifier import Classifier
from salve_audit.results import FeatureInfo, Seeing, SyntheticImage
from salve_audit.sae.models import TrainedSae
from salve_audit.saliency.activation_maximisation import (
    MaximisationSettings,
    SyntheticPicture,
    choose_targets,
    maximise_features,
)
from salve_audit.saliency.thumbnails import encode_picture, fit_side, resize_pixels

log = logging.getLogger(__name__)
NOT_ASKED = "Pictures that excite a feature were not made (--activation-maximisation off)."
NO_GPU = (
    "Without a GPU, pictures that excite a feature are made only when asked for: "
    "--activation-maximisation dominant (about half a minute for ten features of a small network)."
)


@dataclass(frozen=True)
class SyntheticInputs:
    """What pictures are made from.

    Attributes:
        classifier: the network.
        sae: whose latents they shall excite.
        codes: (n, m) of real pictures, the audit split's.
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


def add_synthetic(seeing: Seeing, inputs: SyntheticInputs) -> Seeing:
    """The galleries with their made pictures, or with the reason why there are none."""
    which = inputs.which
    if which == "auto":
        which = "dominant" if inputs.device.type == "cuda" else ""
    if which in ("", "off"):
        return dataclasses.replace(seeing, why_no_synthetic=NOT_ASKED if which else NO_GPU)
    known = {one.index: one for one in inputs.features}
    chosen = [
        (one.feature, _mean_code(known.get(one.feature), inputs.codes[:, one.feature], inputs.classes))
        for one in seeing.features
        if which == "all" or (one.feature in known and known[one.feature].dominant_for)
    ]
    generator = torch.Generator().manual_seed(inputs.seed)
    log.info("activation maximisation of %d features", len(chosen))
    try:
        targets = choose_targets(inputs.codes, chosen)
        network = inputs.classifier, inputs.device
        made = maximise_features(network, inputs.sae, targets, inputs.settings, generator)
    except CheckpointError as error:
        log.warning("no pictures that excite a feature: %s", error.why)
        return dataclasses.replace(
            seeing, why_no_synthetic=f"No pictures that excite a feature were made: {error.why}."
        )
    by_feature = {one.target.feature: _record(one) for one in made}
    galleries = (dataclasses.replace(one, synthetic=by_feature.get(one.feature)) for one in seeing.features)
    return dataclasses.replace(seeing, features=tuple(galleries))


def _mean_code(info: FeatureInfo | None, codes: Float[np.ndarray, " n"], classes: tuple[str, ...]) -> float:
    """On the class that the latent is strongest on, among those that it is dominant for where there are any."""
    if info is None:
        return float(codes[np.abs(codes).argmax()])
    named = dict(zip(classes, info.mean_code, strict=True))
    means = [named[one] for one in info.dominant_for or classes]
    return max((one for one in means if one is not None), key=abs, default=0.0)


def _record(made: SyntheticPicture) -> SyntheticImage:
    """As it is shown: grey in three channels, enlarged."""
    pixels = np.rint(np.broadcast_to(made.pixels, (*made.pixels.shape[:2], 3)) * 255).astype(np.uint8)
    shown = resize_pixels(pixels, fit_side(*pixels.shape[:2]))
    return SyntheticImage(encode_picture(shown), made.code, made.ratio)
