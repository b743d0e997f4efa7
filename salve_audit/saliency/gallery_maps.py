"""The maps that galleries ask for: of features where a picture is strong, of a class where it flips first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.inputs.head import LinearHead
from salve_audit.sae.models import TrainedSae
from salve_audit.spatial import CutNetwork, CutPass


@dataclass(frozen=True)
class MapRequest:
    """A map of one picture: `kind` is "feature" (Grad-FAM) or "class" (Grad-CAM)."""

    kind: str
    index: int


class GalleryMaps:
    """Maps by request, all of a batch in one forward and one backward pass of the network's rest."""

    def __init__(self, cut: CutNetwork, sae: TrainedSae, head: LinearHead) -> None:
        self._cut = cut
        self._directions = {"feature": sae.encoder_weight, "class": class_directions(head)}

    def compute(
        self, passed: CutPass, wanted: Sequence[tuple[int, MapRequest]]
    ) -> list[Mapping[str, Float[np.ndarray, "h w"]]]:
        """For each (place in the pass, request) its maps by method, the paper's first."""
        if not wanted:
            return []
        rows = torch.tensor([place for place, _ in wanted], device=passed.output.device)
        vectors = torch.from_numpy(np.stack([self._directions[one.kind][one.index] for _, one in wanted]))
        sums = self._weighted_sums(passed, rows, vectors).cpu()
        return [
            {"grad-fam": heat.abs().numpy()} if one.kind == "feature" else {"grad-cam": heat.relu().numpy()}
            for (_, one), heat in zip(wanted, sums, strict=True)
        ]

    def _weighted_sums(
        self, passed: CutPass, rows: Int[Tensor, " r"], vectors: Float[Tensor, "r d"]
    ) -> Float[Tensor, "r h w"]:
        """Σ_c w_c F_c with w_c the mean over positions of the gradient of ``vector · acts`` (METHOD §6)."""
        layout, outputs = self._cut.layer.layout, passed.output[rows].detach().requires_grad_()
        with torch.enable_grad():
            acts = self._cut.follow(passed, outputs, rows).acts
            (gradients,) = torch.autograd.grad((acts * vectors.to(acts)).sum(), outputs)
        weights = layout.to_positions(gradients).mean(1)  # (r, c)
        return layout.to_map(torch.einsum("rpc,rc->rp", layout.to_positions(outputs.detach()), weights)).float()


def class_directions(head: LinearHead) -> Float[np.ndarray, "k d"]:
    """The direction of each class's evidence: its row, or the difference where two classes are each other's rest."""
    if head.n_classes == 2:
        difference = head.weight[1] - head.weight[0]
        return np.stack([-difference, difference])
    return head.weight
