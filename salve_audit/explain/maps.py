"""Heat maps of the features' and classes' evidence in the image, before and after an edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from salve_audit.errors import LayerError
from salve_audit.explain.findings import Heat, Maps, ShownMap
from salve_audit.explain.subject import ExplainSubject
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.reasons import summarise_error
from salve_audit.interventions.affine import AffineHead
from salve_audit.saliency.gallery_maps import class_directions, place_maps
from salve_audit.saliency.gradients import Directions
from salve_audit.saliency.heat import overlay, share_in_hottest
from salve_audit.saliency.maps import compute_grad_cam, compute_grad_fam, compute_integrated
from salve_audit.saliency.thumbnails import fit_side, resize_pixels, to_display_pixels
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import SpatialLayer
from salve_audit.spatial.map_layers import last_spatial_layer, middle_spatial_layer

SIDE = 240  # pixels of the longer side
Heats = Float[np.ndarray, "l y x"]


@dataclass(frozen=True)
class MapWishes:
    """The features and classes to draw heat maps of.

    Attributes:
        features: latents with their codes, for Grad-FAM.
        classes: outputs, for Grad-CAM before and after the edit.
        names: of all classes.
        edited: the head after the edit; None: there is none.
    """

    features: tuple[tuple[int, float], ...]
    classes: tuple[int, ...]
    names: tuple[str, ...]
    edited: AffineHead | None


def show_image(subject: ExplainSubject, images: Float[Tensor, "1 c h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image as the network saw it, at the size at which it is shown."""
    spec = subject.classifier.transform
    (pixels,) = to_display_pixels(images.numpy(), spec.mean, spec.std)
    return resize_pixels(pixels, fit_side(pixels.shape[0], pixels.shape[1], SIDE))


def find_layers(
    subject: ExplainSubject, images: Float[Tensor, "1 c h w"], name: str | None
) -> tuple[SpatialLayer, SpatialLayer]:
    """The layer that the paper's maps are made of, and that of the sharper ones; the named one for both.

    Raises:
        LayerError: there is none; says why.
    """
    trace = subject.layers.trace
    last = last_spatial_layer(subject.classifier, images, name, trace)
    return last, last if name is not None else middle_spatial_layer(subject.classifier, images, trace)


def draw_maps(
    subject: ExplainSubject,
    layers: tuple[SpatialLayer, SpatialLayer],
    images: Float[Tensor, "1 c h w"],
    wishes: MapWishes,
) -> Maps:
    """All maps of one image, laid over it.

    Raises:
        LayerError: the network cannot be cut at a layer, or has no gradient there.
    """
    sae, last = subject.audit.sae, layers[0]
    latents = [np.copysign(np.float32(1), code) * sae.encoder_weight[latent] for latent, code in wishes.features]
    heads = [subject.head]
    if wishes.edited is not None:
        weight, bias = (part.astype(np.float32) for part in (wishes.edited.weight, wishes.edited.bias))
        heads.append(LinearHead(weight, bias, subject.head.module))
    rows = [class_directions(head)[output] for head in heads for output in wishes.classes]
    named = [wishes.names[output] for output in wishes.classes]
    named += [f"{name} after the edit" for name in named[: len(rows) - len(named)]]
    try:
        drawing = _Drawing(subject, layers, images, show_image(subject, images))
        features = drawing.draw("Grad-FAM", [f"feature {latent}" for latent, _ in wishes.features], latents)
        classes = drawing.draw("Grad-CAM", named, rows)
    except RuntimeError as error:  # the network's own code, on its way back
        why = f"the gradient at {last.name!r} cannot be computed ({summarise_error(error)})"
        raise LayerError(str(subject.classifier.path), why) from error
    n = len(wishes.classes)
    return Maps(
        layer=last.name,
        grid=(last.layout.height, last.layout.width),
        sharp_layer=layers[1].name,
        features=features,
        before=classes[:n],
        after=classes[n:],
    )


@dataclass(frozen=True)
class _Drawing:
    subject: ExplainSubject
    layers: tuple[SpatialLayer, SpatialLayer]
    images: Float[Tensor, "1 c h w"]
    pixels: UInt8[np.ndarray, "h w 3"]

    def draw(self, method: str, names: Sequence[str], rows: Sequence[np.ndarray]) -> tuple[ShownMap, ...]:
        """A map by the paper's formula and a sharper one for each direction of the head's inputs."""
        if not rows:
            return ()
        vectors = torch.from_numpy(np.stack(rows).astype(np.float32))
        paper = self._compute(method, self.layers[0], vectors)
        sharp = self._compute("", self.layers[1], vectors)
        return tuple(
            ShownMap(method, name, self._lay(coarse), self._lay(other))
            for name, coarse, other in zip(names, paper, sharp, strict=True)
        )

    def _compute(self, method: str, layer: SpatialLayer, vectors: Float[Tensor, "l d"]) -> Heats:
        classifier = self.subject.classifier
        with CutNetwork(self.subject.network, layer, classifier.reader, str(classifier.path)) as cut:
            passed, directions = cut.run(self.images.to(self.subject.device)), Directions(cut, vectors)
            if method == "":
                maps = compute_integrated(directions, passed).relu()
            else:
                maps = (compute_grad_fam if method == "Grad-FAM" else compute_grad_cam)(directions, passed)
        placing = place_maps(classifier, layer, self.images, (self.pixels.shape[0], self.pixels.shape[1]))
        return placing.enlarge(maps[0].float())

    def _lay(self, heat: Float[np.ndarray, "y x"]) -> Heat:
        return Heat(overlay(self.pixels, heat), share_in_hottest(heat))
