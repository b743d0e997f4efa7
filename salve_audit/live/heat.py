"""Heat maps of a module in memory, as numbers: where in each image a feature or a class has its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from salve_audit.edit.names import find_class, find_feature
from salve_audit.errors import LayerError, UsageError
from salve_audit.inputs.reasons import summarise_error
from salve_audit.live.reopened import Reopened, check_images, reopen
from salve_audit.results import AuditResult
from salve_audit.saliency.gallery_maps import (
    FORMULAS,
    GRAD_CAM,
    GRAD_FAM,
    INTEGRATED,
    GalleryMaps,
    MapRequest,
    place_maps,
)
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.map_layers import last_spatial_layer, middle_spatial_layer

BATCH = 32
Array = TypeVar("Array", np.ndarray, Tensor)


def heat_map(
    model: nn.Module,
    images: Array,
    feature: int | str | None = None,
    *,
    result: AuditResult | str | Path,
    class_name: str | None = None,
    method: str | None = None,
    layer: str | None = None,
    check: bool = True,
) -> Array:
    """Heat maps (n, h, w), each from 0 to 1, of the images' size; where there is no evidence a map is 0 everywhere.

    Args:
        model: the module that was audited; it is left as it is.
        images: (n, c, h, w), or one (c, h, w), as the model takes them; numpy or torch, and the maps are the same kind,
            on the same device.
        feature: number of a latent of the autoencoder.
        class_name: in its place, a class.
        result: the audit, or the folder of one.
        method: ``grad-fam`` (of features), ``grad-cam`` (of classes) or ``integrated``, which is sharper.
        layer: module that the maps are made of; None: the last spatial one, for ``integrated`` one in the middle.
        check: refuse a module whose weights are not those that were audited.

    Raises:
        UsageError: no such feature, class or method, or images of another shape.
        LayerError: the network has no spatial layer, or the named one is none.

    >>> import salve_audit
    >>> maps = salve_audit.heat_map(model, val[0][:4], feature=1, result="salve-report")
    >>> tuple(maps.shape)
    (4, 16, 16)
    """
    if (feature is None) == (class_name is None):
        raise UsageError("feature", "name a feature or a class_name, and one of them only")
    method = method or (GRAD_FAM if feature is not None else GRAD_CAM)
    if method not in FORMULAS:
        raise UsageError("method", f"{method!r} is not one of {', '.join(FORMULAS)}")
    given = check_images(images)
    with reopen(model, result, given, check=check) as opened:
        maps: Any = _draw(opened, given.detach().float().cpu(), (feature, class_name), method, layer)
    if isinstance(images, Tensor):
        return torch.from_numpy(maps).to(images.device)
    return maps


def _draw(
    opened: Reopened, images: Tensor, wanted: tuple[int | str | None, str | None], method: str, layer: str | None
) -> np.ndarray:
    classifier, device, audit = opened.classifier.on(opened.network.device), opened.network.device, opened.audit
    feature, class_name = wanted
    if feature is not None:
        kind, index = "feature", find_feature(str(feature), audit.result, audit.sae.concepts)
    else:
        kind, index = "class", find_class(str(class_name), audit.result.data.classes)
    first = images[:4].to(device)
    trace = opened.layers.trace
    if method == INTEGRATED and layer is None:
        place = middle_spatial_layer(classifier, first, trace)
    else:
        place = last_spatial_layer(classifier, first, layer, trace)
    placing = place_maps(classifier, place, first, (images.shape[2], images.shape[3]))
    parts = []
    with CutNetwork(classifier.model, place, classifier.reader, str(classifier.path)) as cut:
        maps = GalleryMaps(cut, audit.sae, opened.head, placing, {"feature": method, "class": method})
        for batch in torch.split(images, BATCH):
            passed = cut.run(batch.to(device))
            codes = audit.sae.encode(passed.acts.float().cpu().numpy())[:, index] if kind == "feature" else np.ones(1)
            signs = np.where(np.broadcast_to(codes, len(batch)) < 0, -1, 1)
            requests = [(row, MapRequest(kind, index, int(sign))) for row, sign in enumerate(signs)]
            try:
                parts += [heat for _, heat in maps.compute(passed, requests)]
            except RuntimeError as error:  # a backward pass of the network's own code
                why = f"its heat maps cannot be computed ({summarise_error(error)})"
                raise LayerError(str(classifier.path), why) from error
    return np.stack(parts).astype(np.float32)
