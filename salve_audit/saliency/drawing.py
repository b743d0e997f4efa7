"""The pass over the images that are shown: thumbnails, and heat maps at the last spatial layer and a sharper one."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from salve_audit.activations.images import Batch, ImageDataset, first_images, read_batch
from salve_audit.activations.store import ActivationSplit
from salve_audit.activations.streams import copy_for_streams, fit_batch, run_streams
from salve_audit.errors import DataError, LayerError
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.reasons import summarise_error
from salve_audit.results import HeatMap, Thumbnail
from salve_audit.sae.models import TrainedSae
from salve_audit.saliency.faithfulness import Faithfulness, ScoredMap, overlap_hottest, score_maps
from salve_audit.saliency.gallery import Chosen
from salve_audit.saliency.gallery_maps import PAPER, SHARP, GalleryMaps, MapRequest, Placing, place_maps
from salve_audit.saliency.heat import fade, overlay, share_in_hottest
from salve_audit.saliency.thumbnails import encode_image, fit_side, resize_pixels, to_display_pixels
from salve_audit.spatial.cut import CutNetwork, CutPass
from salve_audit.spatial.layers import SpatialLayer, TraceLayers
from salve_audit.spatial.map_layers import last_spatial_layer, middle_spatial_layer

log = logging.getLogger(__name__)
BATCH, BATCH_PIXELS = 32, 3 * 2**16  # images in one pass of a stream, and how many pixels they may have together
TRIED = 4  # images that a layer is verified on
CHANGED = "changed since its activations were computed"
CHANGED_BY = 0.1  # relative distance of its activations; rounding to bfloat16 stays well below


@dataclass(frozen=True)
class DrawingInputs:
    """Inputs of the heat maps.

    Attributes:
        classifier: the network.
        images: where the images are.
        audit: activations of the audit split, paths and labels.
        head: of the network, or of the one label that is audited.
        sae: whose features are shown.
        codes: (n, m) of the audit split.
        chosen: what is shown.
        layer: module that Grad-FAM and Grad-CAM are made at; None: the last spatial layer.
        device: where the network runs.
        trace: of a `LayerMemo`, so that other stages share the trace of the network; None: passes of its own.
        advance: is told how many images of how many are drawn.
    """

    classifier: Classifier
    images: ImageSet
    audit: ActivationSplit
    head: LinearHead
    sae: TrainedSae
    codes: Float[np.ndarray, "n m"]
    chosen: Chosen
    layer: str | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable
    trace: TraceLayers | None = None
    advance: Callable[[int, int], None] | None = None


@dataclass
class Drawn:
    """Thumbnails and maps by row of the audit split, rows that were lost with the reason, layers with their grids."""

    images: dict[int, Thumbnail] = field(default_factory=dict)
    maps: dict[tuple[int, MapRequest], tuple[HeatMap, ...]] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    layers: tuple[SpatialLayer, ...] = ()  # of each map of an image, in order

    def add(self, part: Drawn) -> None:
        """Adds what was drawn of other rows."""
        self.images.update(part.images)
        self.maps.update(part.maps)
        self.lost.update(part.lost)

    def find(self, row: int, kind: str, index: int) -> tuple[HeatMap, ...]:
        """The maps of one image; none where it was lost."""
        signs = (self.maps.get((row, MapRequest(kind, index, sign))) for sign in (1, -1))
        return next((maps for maps in signs if maps is not None), ())


@dataclass(frozen=True)
class _Source:
    """The source of one of the maps of every image."""

    cut: CutNetwork
    maps: GalleryMaps


def find_layer(
    classifier: Classifier, images: ImageSet, name: str | None, trace: TraceLayers | None = None
) -> SpatialLayer:
    """The layer that maps are made of, verified on the first readable audit images.

    Raises:
        LayerError: there is none, or the named one is none.
        DataError: no image can be read.
    """
    return last_spatial_layer(classifier, _first_images(classifier, images), name, trace)


def _first_images(classifier: Classifier, images: ImageSet) -> Float[Tensor, "b c h w"]:
    prepared = first_images(images.reader, images.audit.paths, classifier.transform, TRIED)
    if not len(prepared):
        raise DataError(str(images.root), "no image to audit can be read")
    return prepared


def draw_shown(inputs: DrawingInputs) -> Drawn:
    """One pass over the images that are shown.

    Raises:
        LayerError: there is no layer for maps, or they cannot be computed.
        DataError: no image can be read.
    """
    copies = copy_for_streams(inputs.classifier, inputs.device)
    tried = _first_images(copies[0], inputs.images).to(inputs.device)
    last = last_spatial_layer(copies[0], tried, inputs.layer, inputs.trace)
    layers = (last, middle_spatial_layer(copies[0], tried, inputs.trace))
    drawn, requests = Drawn(layers=layers), _requests(inputs)
    log.info("heat maps of %d images at %s", len(requests), " and ".join(layer.name for layer in layers))
    dataset = ImageDataset(inputs.images.reader, inputs.audit.paths, inputs.classifier.transform)
    placings = [place_maps(copies[0], layer, tried, fit_side(*tried.shape[2:])) for layer in layers]

    def work(sources: Sequence[_Source], rows: list[int]) -> Drawn:
        return _draw_batch(inputs, sources, read_batch(dataset, rows), requests)

    with ExitStack() as stack:
        streams = [
            [_cut_at(inputs, stack, copy, *place) for place in zip(layers, placings, (PAPER, SHARP), strict=True)]
            for copy in copies
        ]
        for part in run_streams(streams, work, _split_rows(inputs)):
            drawn.add(part)
            if inputs.advance is not None:
                inputs.advance(len(drawn.images) + len(drawn.lost), len(requests))
    return drawn


def _cut_at(
    inputs: DrawingInputs,
    stack: ExitStack,
    classifier: Classifier,
    layer: SpatialLayer,
    placing: Placing,
    methods: Mapping[str, str],
) -> _Source:
    """The network cut at a layer until the stack is closed."""
    cut = stack.enter_context(CutNetwork(classifier.model, layer, classifier.reader, str(classifier.path)))
    return _Source(cut, GalleryMaps(cut, inputs.sae, inputs.head, placing, methods))


def _split_rows(inputs: DrawingInputs) -> list[list[int]]:
    """The rows that are shown, in batches."""
    rows, (_, height, width) = inputs.chosen.rows, inputs.classifier.transform.input_size
    size = fit_batch(BATCH, BATCH_PIXELS, (height, width))
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def _requests(inputs: DrawingInputs) -> dict[int, list[MapRequest]]:
    """The maps that are shown of every row, rows ascending."""
    wanted: dict[int, list[MapRequest]] = {row: [] for row in inputs.chosen.rows}
    for feature in inputs.chosen.features:
        for row in feature.rows:
            sign = -1 if inputs.codes[row, feature.index] < 0 else 1
            wanted[row].append(MapRequest("feature", feature.index, sign))
    for of_class in inputs.chosen.classes:
        for row in of_class.rows:
            wanted[row].append(MapRequest("class", of_class.record.index))
    return wanted


def _draw_batch(
    inputs: DrawingInputs, sources: Sequence[_Source], batch: Batch, requests: Mapping[int, list[MapRequest]]
) -> Drawn:
    """Thumbnails and maps of the images of a batch that could be read and have not changed."""
    drawn, rows = Drawn(lost=dict(batch.skipped)), batch.rows
    if not rows:
        return drawn
    passes = [source.cut.run(batch.images.to(inputs.device)) for source in sources]
    acts = passes[0].acts.float().cpu().numpy()
    same = _unchanged(inputs, rows, acts, drawn)
    wanted = [(place, request) for place in same for request in requests[rows[place]]]
    path = str(inputs.classifier.path)
    heats = [_compute(source.maps, passed, wanted, path) for source, passed in zip(sources, passes, strict=True)]
    spec = inputs.classifier.transform
    pixels = to_display_pixels(batch.images.numpy(), spec.mean, spec.std)
    shown = {place: resize_pixels(pixels[place], fit_side(*pixels.shape[1:3])) for place in same}
    drawn.images.update({rows[place]: encode_image(image) for place, image in shown.items()})
    scores = _score(inputs, sources, (batch, acts), wanted, heats)
    for (place, request), *maps in zip(wanted, *heats, strict=True):
        own = [scores.get((place, request, i)) for i in range(len(maps))]
        pairs = zip(maps, own, strict=True)
        laid = [_lay_over(method, heat, shown[place], score) for (method, heat), score in pairs]
        others = [overlap_hottest(maps[0][1], heat) for _, heat in maps[1:]]
        drawn.maps[rows[place], request] = (laid[0], *map(_with_overlap, laid[1:], others))
    return drawn


def _score(
    inputs: DrawingInputs,
    sources: Sequence[_Source],
    given: tuple[Batch, Float[np.ndarray, "b d"]],
    wanted: list[tuple[int, MapRequest]],
    heats: Sequence[Sequence[tuple[str, Float[np.ndarray, "y x"]]]],
) -> dict[tuple[int, MapRequest, int], Faithfulness | None]:
    """How faithful the maps of the images are that are scored, by image, request and which of its maps."""
    (batch, acts), scored = given, inputs.chosen.scored(given[0].images[0, 0].numel())
    keys = [
        (place, request, i)
        for i in range(len(heats))
        for place, request in wanted
        if batch.rows[place] in scored and (request.kind, request.index) in scored[batch.rows[place]]
    ]
    if not keys:
        return {}
    where = {pair: at for at, pair in enumerate(wanted)}
    maps = [
        ScoredMap(place, heats[i][where[place, request]][1], sources[i].maps.direction(request))
        for place, request, i in keys
    ]
    cut, path, images = sources[0].cut, str(inputs.classifier.path), batch.images.to(inputs.device)
    try:
        found = score_maps(lambda changed: cut.run(changed).acts.float(), images, acts, maps, batch.rows)
    except (RuntimeError, MemoryError) as error:
        raise LayerError(path, f"its heat maps cannot be tried ({summarise_error(error)})") from error
    return dict(zip(keys, found, strict=True))


def _compute(
    maps: GalleryMaps, passed: CutPass, wanted: list[tuple[int, MapRequest]], path: str
) -> list[tuple[str, Float[np.ndarray, "y x"]]]:
    try:
        return maps.compute(passed, wanted)
    except (RuntimeError, MemoryError) as error:  # a backward pass of the network's own code
        raise LayerError(path, f"its heat maps cannot be computed ({summarise_error(error)})") from error


def _unchanged(inputs: DrawingInputs, rows: list[int], acts: Float[np.ndarray, "b d"], drawn: Drawn) -> list[int]:
    """Places of the images whose activations are those of the audit; the others are noted."""
    unchanged = []
    for place, row in enumerate(rows):
        before = np.asarray(inputs.audit.acts[row], np.float32)
        if np.linalg.norm(acts[place] - before) <= CHANGED_BY * np.linalg.norm(before):
            unchanged.append(place)
        else:
            drawn.lost[row] = CHANGED
    return unchanged


def _lay_over(
    method: str, heat: Float[np.ndarray, "y x"], pixels: UInt8[np.ndarray, "y x 3"], scored: Faithfulness | None
) -> HeatMap:
    """The map over its image; a flat one leaves the image as it is, in grey, since it shows no evidence."""
    share = share_in_hottest(heat)
    laid = overlay(pixels, heat) if share is not None else fade(pixels)
    score, random = (None, None) if scored is None else (scored.score, scored.random)
    return HeatMap(method, encode_image(laid), share, score, random)


def _with_overlap(heat: HeatMap, overlap: float | None) -> HeatMap:
    return dataclasses.replace(heat, overlap=overlap)
