"""The stage: galleries of the features with heat maps, and the pictures that flip first, from one small pass.

What is shown is chosen from cached codes; only those pictures, a few hundred at most, are read again, and shown as the
network saw them, so that map and picture coincide.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from salve_audit.activations.pictures import PictureDataset
from salve_audit.activations.store import ActivationSplit
from salve_audit.errors import DataError, LayerError
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.imageset import ImageSet
from salve_audit.inputs.reasons import summarise_error
from salve_audit.reliance.by_class import SampleThresholds
from salve_audit.results import (
    ClassFragile,
    FeatureGallery,
    FeatureImage,
    FragileImage,
    HeatMap,
    Picture,
    Seeing,
    SkippedFile,
    nothing_seen,
)
from salve_audit.sae.models import TrainedSae
from salve_audit.saliency.gallery import Chosen
from salve_audit.saliency.gallery_maps import GalleryMaps, MapRequest
from salve_audit.saliency.heat import overlay, share_in_hottest
from salve_audit.saliency.thumbnails import encode_picture, fit_side, resize_heat, resize_pixels, to_pixels
from salve_audit.spatial import CutNetwork, CutPass, SpatialLayer, last_spatial_layer

log = logging.getLogger(__name__)
BATCH, BATCH_PIXELS = 32, 32 * 384 * 384  # pictures in one pass, and how many pixels they may have together
TRIED = 4  # pictures that a layer is proven on
CHANGED = "changed since its activations were computed"
CHANGED_BY = 0.1  # relative distance of its activations; rounding to bfloat16 stays well below


@dataclass(frozen=True)
class SeeingInputs:
    """What the stage works on.

    Attributes:
        classifier: the network.
        images: where the pictures are.
        audit: activations of the audit split, paths and labels.
        head: of the network, or of the one label that is audited.
        sae: whose features are shown.
        codes: (n, m) of the audit split.
        found: its thresholds.
        classes: names, in output order.
        chosen: what is shown.
        layer: module that maps are made of; None: the last spatial layer.
        device: where the network runs.
    """

    classifier: Classifier
    images: ImageSet
    audit: ActivationSplit
    head: LinearHead
    sae: TrainedSae
    codes: Float[np.ndarray, "n m"]
    found: SampleThresholds
    classes: tuple[str, ...]
    chosen: Chosen
    layer: str | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable


@dataclass
class _Drawn:
    """What the pass has drawn: thumbnails by row, maps by row and what they are of, rows that were lost."""

    pictures: dict[int, Picture] = field(default_factory=dict)
    maps: dict[tuple[int, MapRequest], tuple[HeatMap, ...]] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)


def find_layer(classifier: Classifier, images: ImageSet, name: str | None) -> SpatialLayer:
    """The layer that maps are made of, proven on the first readable audit pictures.

    Raises:
        LayerError: there is none, or the named one is none.
    """
    dataset = PictureDataset(images.pictures, images.audit.paths, classifier.transform)
    found: list[torch.Tensor] = []
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.image is not None:
            found.append(sample.image)
        if len(found) == TRIED:
            break
    if not found:
        raise DataError(str(images.root), "no picture to audit can be read")
    return last_spatial_layer(classifier, torch.stack(found), name)


def see_features(inputs: SeeingInputs) -> Seeing:
    """Galleries with heat maps; a record that says why where the network has no map.

    Raises:
        LayerError: the layer that the user named gives none.
    """
    try:
        layer = find_layer(inputs.classifier, inputs.images, inputs.layer)
        drawn = _draw(inputs, layer)
    except LayerError as error:
        if inputs.layer is not None:
            raise
        log.warning("no heat maps: %s", error.why)
        return nothing_seen(f"{error.what}: {error.why}")
    except DataError as error:  # every picture is gone
        return nothing_seen(f"{error.what}: {error.why}")
    return _record(inputs, layer, drawn)


def _draw(inputs: SeeingInputs, layer: SpatialLayer) -> _Drawn:
    """One pass over the pictures that are shown."""
    drawn, requests = _Drawn(), _requests(inputs.chosen)
    classifier, device = inputs.classifier, inputs.device
    model = classifier.model if device.type == "cpu" else copy.deepcopy(classifier.model).to(device)
    log.info("heat maps of %d pictures at %s", len(requests), layer.name)
    with CutNetwork(model, layer, classifier.reader, str(classifier.path)) as cut:
        maps = GalleryMaps(cut, inputs.sae, inputs.head)
        for rows, images in _read(inputs, drawn):
            passed = cut.run(images.to(device))
            same = _unchanged(inputs, rows, passed.acts.float().cpu().numpy(), drawn)
            wanted = [(place, rows[place], one) for place in same for one in requests[rows[place]]]
            heats = _computed(maps, passed, [(place, one) for place, _, one in wanted], str(classifier.path))
            pixels = to_pixels(images.numpy(), classifier.transform.mean, classifier.transform.std)
            size = fit_side(*pixels.shape[1:3])
            shown = {place: resize_pixels(pixels[place], size) for place in same}
            drawn.pictures.update({rows[place]: encode_picture(one) for place, one in shown.items()})
            for (place, row, one), heat in zip(wanted, heats, strict=True):
                drawn.maps[row, one] = tuple(_lay_over(name, shown[place], each) for name, each in heat.items())
    return drawn


def _computed(
    maps: GalleryMaps, passed: CutPass, wanted: list[tuple[int, MapRequest]], path: str
) -> list[Mapping[str, Float[np.ndarray, "h w"]]]:
    try:
        return maps.compute(passed, wanted)
    except (RuntimeError, MemoryError) as error:  # a backward pass of the network's own code
        raise LayerError(path, f"its heat maps cannot be computed ({summarise_error(error)})") from error


def _requests(chosen: Chosen) -> dict[int, list[MapRequest]]:
    """By row, ascending: the maps that are shown of it."""
    wanted: dict[int, list[MapRequest]] = {row: [] for row in chosen.rows}
    for feature in chosen.features:
        for row in feature.rows:
            wanted[row].append(MapRequest("feature", feature.index))
    for one in chosen.classes:
        for row in one.rows:
            wanted[row].append(MapRequest("class", one.record.index))
    return wanted


def _read(inputs: SeeingInputs, drawn: _Drawn) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Batches of rows and pictures (b, c, h, w); those that cannot be read are noted."""
    spec, rows = inputs.classifier.transform, inputs.chosen.rows
    dataset = PictureDataset(inputs.images.pictures, [inputs.audit.paths[row] for row in rows], spec)
    _, height, width = spec.input_size
    size = max(1, min(BATCH, BATCH_PIXELS // (height * width)))
    for start in range(0, len(rows), size):
        samples = [dataset[index] for index in range(start, min(start + size, len(rows)))]
        drawn.lost.update({rows[one.position]: one.reason for one in samples if one.image is None})
        images = [one.image for one in samples if one.image is not None]
        if images:
            yield [rows[one.position] for one in samples if one.image is not None], torch.stack(images)


def _unchanged(inputs: SeeingInputs, rows: list[int], acts: Float[np.ndarray, "b d"], drawn: _Drawn) -> list[int]:
    """Places of the pictures whose activations are those of the audit; the others are noted."""
    kept = []
    for place, row in enumerate(rows):
        before = np.asarray(inputs.audit.acts[row], np.float32)
        if np.linalg.norm(acts[place] - before) <= CHANGED_BY * np.linalg.norm(before):
            kept.append(place)
        else:
            drawn.lost[row] = CHANGED
    return kept


def _lay_over(method: str, pixels: np.ndarray, heat: Float[np.ndarray, "h w"]) -> HeatMap:
    large = resize_heat(heat, pixels.shape[:2])
    return HeatMap(method, encode_picture(overlay(pixels, large)), share_in_hottest(large))


def _record(inputs: SeeingInputs, layer: SpatialLayer, drawn: _Drawn) -> Seeing:
    paths, chosen = inputs.audit.paths, inputs.chosen
    lost = tuple(SkippedFile(paths[row], drawn.lost[row]) for row in sorted(drawn.lost))
    if lost:
        log.warning("%d pictures could not be read again, the first is %s: %s", len(lost), lost[0].path, lost[0].reason)
    return Seeing(
        layer=layer.name,
        grid=(layer.layout.height, layer.layout.width),
        features=tuple(_gallery(inputs, one.index, one.rows, drawn) for one in chosen.features),
        fragile=tuple(
            ClassFragile(
                one.record.name, one.record.dominant_feature, _fragile(inputs, one.record.index, one.rows, drawn)
            )
            for one in chosen.classes
        ),
        pictures={paths[row]: drawn.pictures[row] for row in sorted(drawn.pictures)},
        n_features_left_out=chosen.n_features_left_out,
        n_classes_left_out=chosen.n_classes_left_out,
        unreadable=lost,
    )


def _gallery(inputs: SeeingInputs, feature: int, rows: tuple[int, ...], drawn: _Drawn) -> FeatureGallery:
    request = MapRequest("feature", feature)
    images = [
        FeatureImage(
            path=inputs.audit.paths[row],
            class_name=inputs.classes[inputs.audit.labels[row]],
            predicted=inputs.classes[inputs.found.predicted[row]],
            code=float(inputs.codes[row, feature]),
            maps=drawn.maps.get((row, request), ()),
        )
        for row in rows
    ]
    return FeatureGallery(feature, tuple(images))


def _fragile(inputs: SeeingInputs, index: int, rows: tuple[int, ...], drawn: _Drawn) -> tuple[FragileImage, ...]:
    found, request = inputs.found, MapRequest("class", index)
    return tuple(
        FragileImage(
            path=inputs.audit.paths[row],
            alpha_hat=float(found.flip[row] * found.coupling_max[row]),
            flips_to=inputs.classes[found.flips_to[row]],
            maps=drawn.maps.get((row, request), ()),
        )
        for row in rows
    )
