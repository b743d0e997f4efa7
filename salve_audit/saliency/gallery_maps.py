"""The maps that galleries ask for: of features where an image is strong, of a class where it flips first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.models import TrainedSae
from salve_audit.saliency.enlarge import enlarge_maps
from salve_audit.saliency.gradients import Directions
from salve_audit.saliency.maps import compute_grad_cam, compute_grad_fam, compute_integrated
from salve_audit.spatial.alignment import Alignment, measure_alignment
from salve_audit.spatial.cut import CutNetwork, CutPass
from salve_audit.spatial.layers import SpatialLayer
from salve_audit.spatial.memo import pick_rows

GRAD_FAM, GRAD_CAM, INTEGRATED = "grad-fam", "grad-cam", "integrated"
FORMULAS: Mapping[str, Callable[[Directions, CutPass], Tensor]] = {
    GRAD_FAM: compute_grad_fam,
    GRAD_CAM: compute_grad_cam,
    INTEGRATED: lambda directions, passed: compute_integrated(directions, passed).relu(),  # what speaks for it
}
PAPER = {"feature": GRAD_FAM, "class": GRAD_CAM}  # by kind of request
SHARP = {"feature": INTEGRATED, "class": INTEGRATED}


@dataclass(frozen=True)
class MapRequest:
    """A map of one image: of a latent where `kind` is "feature", of an output where it is "class".

    `sign`: -1 where the latent is negative in the image, so that what drives it there counts as evidence.
    """

    kind: str
    index: int
    sign: int = 1


@dataclass(frozen=True)
class Placing:
    """Interpolation of maps to the size at which they are shown.

    Attributes:
        alignment: of the layer's grid, in pixels of the network's image.
        image: (height, width) of that.
        shown: (height, width).
    """

    alignment: Alignment
    image: tuple[int, int]
    shown: tuple[int, int]

    def enlarge(self, maps: Float[Tensor, "r h w"]) -> Float[np.ndarray, "r y x"]:
        """The maps at the size at which they are shown, each from 0 to 1."""
        scale_y, scale_x = (shown / own for shown, own in zip(self.shown, self.image, strict=True))
        shift = Alignment(self.alignment.y * scale_y, self.alignment.x * scale_x)
        return enlarge_maps(maps, self.shown, shift).cpu().numpy()


def place_maps(
    classifier: Classifier, layer: SpatialLayer, images: Float[Tensor, "b c h w"], shown: tuple[int, int]
) -> Placing:
    """Placing of the layer's maps over images like `images`, at the size `shown`.

    Raises:
        LayerError: the network cannot be cut at the layer.
    """
    return Placing(measure_alignment(classifier, layer, images), (images.shape[2], images.shape[3]), shown)


class GalleryMaps:
    """Maps at one layer, all that a batch needs together.

    Args:
        cut: the network at that layer.
        sae, head: whose latents and outputs are asked for.
        placing: how maps are shown.
        methods: by kind of request, a name out of `FORMULAS`.
    """

    def __init__(
        self,
        cut: CutNetwork,
        sae: TrainedSae,
        head: LinearHead,
        placing: Placing,
        methods: Mapping[str, str] = PAPER,
    ) -> None:
        self._cut, self._placing, self._methods = cut, placing, methods
        self._vectors = {"feature": sae.encoder_weight, "class": class_directions(head)}

    def direction(self, request: MapRequest) -> Float[np.ndarray, " d"]:
        """The direction of the head's inputs that a request's score is read along."""
        return request.sign * self._vectors[request.kind][request.index].astype(np.float64)

    def compute(
        self, passed: CutPass, wanted: Sequence[tuple[int, MapRequest]]
    ) -> list[tuple[str, Float[np.ndarray, "y x"]]]:
        """The method and its map, from 0 to 1, for each (place in the pass, request).

        Raises:
            RuntimeError: the backward pass fails.
        """
        maps_by_pair: dict[tuple[int, MapRequest], tuple[str, Float[np.ndarray, "y x"]]] = {}
        for method in sorted(set(self._methods.values())):
            own = [(place, request) for place, request in wanted if self._methods[request.kind] == method]
            if own:
                rows = torch.tensor([place for place, _ in own], device=passed.output.device)
                vectors = np.stack([request.sign * self._vectors[request.kind][request.index] for _, request in own])
                pairs = _Pairs(self._cut, torch.from_numpy(vectors))
                maps = FORMULAS[method](pairs, _pick(passed, rows))[:, 0].float()
                maps_by_pair |= {
                    pair: (method, heat) for pair, heat in zip(own, self._placing.enlarge(maps), strict=True)
                }
        return [maps_by_pair[pair] for pair in wanted]


class _Pairs(Directions):
    """Each image with a direction of its own, instead of all directions for all images."""

    def __len__(self) -> int:
        return 1

    def _pull_back(self, passed: CutPass, rows: slice, output: Tensor) -> Float[Tensor, "1 r p c"]:
        output = output.detach().requires_grad_()
        index = torch.arange(len(passed), device=output.device)[rows]
        with torch.enable_grad():
            acts = self._cut.follow(passed, output, index).acts
            (gradients,) = torch.autograd.grad((acts * self._vectors[rows].to(acts)).sum(), output)
        return self.layout.to_positions(gradients)[None]

    def _differentiate(self, passed: CutPass, rows: slice, output: Tensor) -> Float[Tensor, "1 r p c"]:
        return self._pull_back(passed, rows, output)  # where one Jacobian serves all images, directions still differ


def _pick(passed: CutPass, rows: Int[Tensor, " r"]) -> CutPass:
    """The pass as if it had been of its images `rows`, each possibly several times."""
    before = {
        name: [pick_rows(given_back, rows, len(passed)) for given_back in calls]
        for name, calls in passed.before.items()
    }
    return CutPass(passed.output[rows], passed.acts[rows], passed.logits[rows], before)


def class_directions(head: LinearHead) -> Float[np.ndarray, "k d"]:
    """The direction of each class's evidence: its row, or the difference where two classes are each other's rest."""
    if head.n_classes == 2:
        difference = head.weight[1] - head.weight[0]
        return np.stack([-difference, difference])
    return head.weight
