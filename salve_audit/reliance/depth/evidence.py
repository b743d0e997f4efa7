"""What in each picture speaks for its class, piece by piece: found by attribution, proven by taking it out.

The strongest piece is taken out of the picture and the network asked again. What is left of the same thing shows in
the attribution of the changed picture, so the piece is grown there before it is judged. Where the class survives
without it, the network has more to rest on: the next piece is searched in what is left, and so on. Evidence that is
redundant shows only once the first piece is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from salve_audit.reliance.depth.attribution import COUNTED, attribute, to_grid
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.merging import merge_alike
from salve_audit.reliance.depth.network import Probe, hard_margin
from salve_audit.reliance.depth.pieces import Evidence, join_evidence
from salve_audit.reliance.depth.regions import choose_grid, grow_region, peak_region, to_pixels

__all__ = ["Evidence", "SearchSettings", "find_evidence"]


@dataclass(frozen=True)
class SearchSettings:
    """How pieces are found; lengths in cells of a grid of at most 32 x 32.

    Attributes:
        n_steps: of the integrated gradients.
        spread: standard deviation of the smoothing.
        share: of the peak, which a cell needs to belong to it.
        margin: cells taken out around what was found.
        n_grown: how often a piece is grown before it is judged.
        most: pieces per picture.
        merged: pieces of a picture that are alike are one.
        batch_size: pictures at once.
    """

    n_steps: int = 2
    spread: float = 1.0
    share: float = 0.25
    margin: int = 2
    n_grown: int = 1
    most: int = 3
    merged: bool = True
    batch_size: int = 100


def find_evidence(
    probe: Probe, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"], settings: SearchSettings
) -> Evidence:
    """The pieces of every picture; pictures that are wrong from the start have none.

    Which pieces are alike is judged between the pictures of a class: give them all in one call, or their parts in
    several with `merged` off, and what comes of it, joined, to `merge_alike`.
    """
    assert len(images) == len(labels) > 0, f"{len(images)} pictures for {len(labels)} labels"
    starts = range(0, len(images), settings.batch_size)
    batches = [slice(start, start + settings.batch_size) for start in starts]
    found = join_evidence([_Search(probe, images[one], labels[one], settings).run() for one in batches])
    return merge_alike(found) if settings.merged else found


def find_heat(
    probe: Probe, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"], settings: SearchSettings | None = None
) -> Float[Tensor, "n 1 gh gw"]:
    """The evidence for the classes that the search starts from, cell by cell."""
    settings = settings or SearchSettings()
    maps = attribute(probe, images, labels, settings.n_steps)
    return to_grid(maps, choose_grid(int(images.shape[2]), int(images.shape[3])), settings.spread)


class _Search:
    """One batch; every array has a row for each of its pictures, `rows` are those still searched."""

    def __init__(self, probe: Probe, images: Tensor, labels: Tensor, settings: SearchSettings) -> None:
        self.probe, self.images, self.labels, self.settings = probe, images, labels, settings
        self.size = (int(images.shape[2]), int(images.shape[3]))
        self.grid = choose_grid(*self.size)
        with torch.no_grad():
            seen = probe(images)
        self.maps, self.n_passes = seen.maps, len(images)
        n, j, d = len(images), settings.most, seen.maps.shape[1]
        self.found = Evidence(
            labels,
            hard_margin(seen.logits, labels),
            torch.zeros(n, j, *self.grid, dtype=torch.bool, device=images.device),
            images.new_full((n, j), torch.nan),
            images.new_full((n, j), torch.nan),
            images.new_full((n, j, d), torch.nan),
            0,
        )

    def run(self) -> Evidence:
        """The pieces of the batch, in place in `found`."""
        found, rows = self.found, torch.nonzero(self.found.correct)[:, 0]
        for piece in range(self.settings.most):
            if not len(rows):
                break
            taken = found.regions[rows].any(1, keepdim=True).float()
            region = self._find(rows, taken)
            found.regions[rows, piece] = region[:, 0] > 0
            found.alone[rows, piece], found.traits[rows, piece] = self._judge(rows, region)
            together = found.alone[rows, piece]
            if piece:
                together, _ = self._judge(rows, torch.maximum(taken, region))
            found.together[rows, piece] = together
            # without any evidence left there is nothing more to take out
            rows = rows[(together > 0) & region.any((1, 2, 3))]
        return Evidence(**{**vars(found), "n_passes": self.n_passes})

    def _find(self, rows: Tensor, taken: Tensor) -> Float[Tensor, "r 1 gh gw"]:
        settings = self.settings
        evidence = self._attribute(rows, taken)
        region, first = peak_region(evidence, settings.share, settings.margin)
        for _ in range(settings.n_grown):
            evidence = self._attribute(rows, torch.maximum(taken, region))
            highest = evidence.flatten(1).amax(1).view(-1, 1, 1, 1)
            least = settings.share * torch.maximum(first, highest)
            region = grow_region(region, evidence, least, settings.margin)
        return region * (1 - taken)

    def _attribute(self, rows: Tensor, out: Tensor) -> Float[Tensor, "r 1 gh gw"]:
        """Evidence in the pictures without the cells in `out`, and outside of them."""
        self.n_passes += COUNTED * self.settings.n_steps * len(rows)
        pictures = self._without(rows, out)
        maps = attribute(self.probe, pictures, self.labels[rows], self.settings.n_steps)
        return to_grid(maps, self.grid, self.settings.spread) * (1 - out)

    def _judge(self, rows: Tensor, out: Tensor) -> tuple[Float[Tensor, " r"], Float[Tensor, "r d"]]:
        """The margin without the cells in `out`, and what the layer's activations lose there."""
        self.n_passes += len(rows)
        with torch.no_grad():
            seen = self.probe(self._without(rows, out))
        height, width = seen.maps.shape[2:]
        weight = functional.adaptive_avg_pool2d(to_pixels(out, self.size), (height, width))
        lost = ((self.maps[rows] - seen.maps) * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-6)
        return hard_margin(seen.logits, self.labels[rows]), lost

    def _without(self, rows: Tensor, out: Tensor) -> Float[Tensor, "r c h w"]:
        return fill_regions(self.images[rows], to_pixels(out, self.size))
