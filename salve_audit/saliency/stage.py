"""The stage: galleries of the features with heat maps, and the images that flip first, from one small pass.

What is shown is chosen from cached codes; only those images, a few hundred at most, are read again, and shown as the
network saw them, so that map and image coincide.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from salve_audit.errors import DataError, LayerError
from salve_audit.reliance.by_class import SampleThresholds
from salve_audit.results import (
    ClassFragile,
    FeatureGallery,
    FeatureImage,
    FragileImage,
    Seeing,
    SkippedFile,
    nothing_seen,
)
from salve_audit.saliency.drawing import DrawingInputs, Drawn, draw_shown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeeingInputs:
    """Inputs of the saliency stage.

    Attributes:
        drawing: network, images, features and what of them is shown.
        thresholds: thresholds of the audit split.
        classes: names, in output order.
    """

    drawing: DrawingInputs
    thresholds: SampleThresholds
    classes: tuple[str, ...]


def see_features(inputs: SeeingInputs) -> Seeing:
    """Galleries with heat maps; a record that says why where the network has no map.

    Raises:
        LayerError: the layer that the user named gives none.
    """
    try:
        drawn = draw_shown(inputs.drawing)
    except (LayerError, DataError) as error:  # no layer; or every image is gone
        if inputs.drawing.layer is not None and isinstance(error, LayerError):
            raise
        log.warning("no heat maps: %s: %s", error.what, error.why)
        return nothing_seen(f"{error.what}: {error.why}")
    return _record(inputs, drawn)


def _record(inputs: SeeingInputs, drawn: Drawn) -> Seeing:
    paths, chosen = inputs.drawing.audit.paths, inputs.drawing.chosen
    lost = tuple(SkippedFile(paths[row], drawn.lost[row]) for row in sorted(drawn.lost))
    if lost:
        log.warning("%d images could not be read again, the first is %s: %s", len(lost), lost[0].path, lost[0].reason)
    layer, sharp = drawn.layers
    fragile = (
        ClassFragile(
            of_class.record.name,
            of_class.record.dominant_feature,
            _fragile(inputs, of_class.record.index, of_class.rows, drawn),
        )
        for of_class in chosen.classes
    )
    return Seeing(
        layer=layer.name,
        grid=(layer.layout.height, layer.layout.width),
        features=tuple(_gallery(inputs, feature.index, feature.rows, drawn) for feature in chosen.features),
        fragile=tuple(fragile),
        images={paths[row]: drawn.images[row] for row in sorted(drawn.images)},
        n_features_left_out=chosen.n_features_left_out,
        n_classes_left_out=chosen.n_classes_left_out,
        unreadable=lost,
        sharp_layer=sharp.name,
        sharp_grid=(sharp.layout.height, sharp.layout.width),
    )


def _gallery(inputs: SeeingInputs, feature: int, rows: tuple[int, ...], drawn: Drawn) -> FeatureGallery:
    audit = inputs.drawing.audit
    images = [
        FeatureImage(
            path=audit.paths[row],
            class_name=inputs.classes[audit.labels[row]],
            predicted=inputs.classes[inputs.thresholds.predicted[row]],
            code=float(inputs.drawing.codes[row, feature]),
            maps=drawn.find(row, "feature", feature),
        )
        for row in rows
    ]
    return FeatureGallery(feature, tuple(images))


def _fragile(inputs: SeeingInputs, index: int, rows: tuple[int, ...], drawn: Drawn) -> tuple[FragileImage, ...]:
    thresholds = inputs.thresholds
    return tuple(
        FragileImage(
            path=inputs.drawing.audit.paths[row],
            alpha_hat=float(thresholds.flip[row] * thresholds.coupling_max[row]),
            flips_to=inputs.classes[thresholds.flips_to[row]],
            maps=drawn.find(row, "class", index),
        )
        for row in rows
    )
