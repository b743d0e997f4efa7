"""Where in the picture the features and the classes have their evidence, before and after an edit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from salve_audit.explain.findings import Maps, ShownMap
from salve_audit.explain.subject import Subject
from salve_audit.inputs.head import LinearHead
from salve_audit.interventions import AffineHead
from salve_audit.saliency.gallery_maps import GalleryMaps, MapRequest
from salve_audit.saliency.heat import overlay, share_in_hottest
from salve_audit.saliency.thumbnails import fit_side, resize_heat, resize_pixels, to_pixels
from salve_audit.spatial import CutNetwork, CutPass, SpatialLayer, last_spatial_layer

SIDE = 240  # pixels of the longer side


@dataclass(frozen=True)
class MapWishes:
    """What is to be mapped.

    Attributes:
        features: latents, for Grad-FAM.
        classes: outputs, for Grad-CAM before and after the edit.
        names: of all classes.
        edited: the head after the edit; None: there is none.
    """

    features: tuple[int, ...]
    classes: tuple[int, ...]
    names: tuple[str, ...]
    edited: AffineHead | None


def show_picture(subject: Subject, images: Float[Tensor, "1 c h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture as the network saw it, at the size at which it is shown."""
    spec = subject.classifier.transform
    (pixels,) = to_pixels(images.numpy(), spec.mean, spec.std)
    return resize_pixels(pixels, fit_side(pixels.shape[0], pixels.shape[1], SIDE))


def find_layer(subject: Subject, images: Float[Tensor, "1 c h w"], name: str | None) -> SpatialLayer:
    """The layer that maps are made of.

    Raises:
        LayerError: there is none; says why.
    """
    return last_spatial_layer(subject.classifier, images, name)


def draw_maps(
    subject: Subject,
    layer: SpatialLayer,
    images: Float[Tensor, "1 c h w"],
    wishes: MapWishes,
) -> Maps:
    """All maps of one picture, laid over it.

    Raises:
        LayerError: the network cannot be cut at the layer.
    """
    pixels, reader = show_picture(subject, images), subject.classifier.reader
    with CutNetwork(subject.network, layer, reader, str(subject.classifier.path)) as cut, torch.enable_grad():
        passed = cut.run(images.to(subject.device))
        drawing = _Drawing(cut, passed, subject, pixels)
        features = drawing.features(wishes.features)
        before = drawing.classes(wishes, subject.head, "")
        after: tuple[ShownMap, ...] = ()
        if wishes.edited is not None:
            weight, bias = (part.astype(np.float32) for part in (wishes.edited.weight, wishes.edited.bias))
            after = drawing.classes(wishes, LinearHead(weight, bias, subject.head.module), " after the edit")
    return Maps(layer.name, (layer.layout.height, layer.layout.width), features, before, after)


@dataclass(frozen=True)
class _Drawing:
    cut: CutNetwork
    passed: CutPass
    subject: Subject
    pixels: UInt8[np.ndarray, "h w 3"]

    def features(self, chosen: tuple[int, ...]) -> tuple[ShownMap, ...]:
        maps = GalleryMaps(self.cut, self.subject.audit.sae, self.subject.head)
        found = maps.compute(self.passed, [(0, MapRequest("feature", one)) for one in chosen])
        heats = [next(iter(one.values())) for one in found]
        return tuple(self._lay("Grad-FAM", f"feature {i}", heat) for i, heat in zip(chosen, heats, strict=True))

    def classes(self, wishes: MapWishes, head: LinearHead, when: str) -> tuple[ShownMap, ...]:
        maps = GalleryMaps(self.cut, self.subject.audit.sae, head)
        found = maps.compute(self.passed, [(0, MapRequest("class", one)) for one in wishes.classes])
        heats = [next(iter(one.values())) for one in found]
        named = [f"{wishes.names[one]}{when}" for one in wishes.classes]
        return tuple(self._lay("Grad-CAM", name, heat) for name, heat in zip(named, heats, strict=True))

    def _lay(self, method: str, of: str, heat: Float[np.ndarray, "h w"]) -> ShownMap:
        large = resize_heat(heat, self.pixels.shape[:2])
        return ShownMap(method, of, overlay(self.pixels, large), share_in_hottest(large))
