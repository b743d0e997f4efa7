"""Evidence regions of each image: located by attribution, and verified by removing them from the image.

Search: the strongest region is removed and the network runs again. Where the class survives without it, the network
has more to depend on: the next region is searched in what is left. Redundant evidence shows only once the first region
is gone.

Merging: the search may remove two halves of one thing one after another. Two halves share what varies from image to
image, its colour, phase or size, so that they are more alike than nearly any two first regions of different images of
the class. Two different things are not. Regions of one image that are so alike become one.

Squares: a region may cover more than one thing, where things touch or cover one another; without both the class is lost
even where it depends on neither. A long thing may be in the region only in part. A square around the region's middle
errs in other ways: it is compact, whatever the attribution says. What is lost without either is lost without the
single thing, so the margin without a region becomes the weighted mean over the region and a square.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from salve_audit.evidence.alike import CellPool, find_alike, to_cells
from salve_audit.evidence.probe import Probe, hard_margin
from salve_audit.evidence.regions import (
    COUNTED,
    attribute,
    choose_grid,
    fill_regions,
    grow_region,
    peak_region,
    to_grid,
    to_pixels,
)

ALIKE = 90  # percentile of the likeness of first regions between images of the class
SQUARE = 7 / 16  # of squares, as a share of the image's longer side
WEIGHT = 2  # of the square: without both of two things in a region the class may be lost by far
DOUBTFUL = 0.5  # of the clean margin, at most, is left of regions that squares are asked about
MOST_REGIONS = 2  # removed from an image, one after the other
COVERED = 0.5  # of a region's cells, in the square, for squares to have a say: a frame is judged by itself
_ROWS = ("labels", "clean", "regions", "alone", "together", "signatures", "heat")  # with a row for each image


@dataclass(frozen=True)
class Evidence:
    """Evidence regions of n images, in j slots per image, strongest first; NaN in a slot that was not searched.

    Attributes:
        labels: (n,) class index whose evidence was searched.
        clean: (n,) margin of the class over the best other, nothing removed.
        regions: (n, j, gh, gw) cells of each region; none in an empty slot.
        alone: (n, j) margin with that region alone removed; of an image that keeps its class without it and all
            before it, the margin without all of these.
        together: (n, j) margin with it and all before it removed.
        signatures: (n, j, d) what the layer's activations lose there, which distinguishes kinds of evidence.
        heat: (n, gh, gw) evidence per cell with nothing removed, 0 or more; 0 in images that were not searched.
        n_passes: forward passes of one image, a backward pass counted as two.
    """

    labels: Int[Tensor, " n"]
    clean: Float[Tensor, " n"]
    regions: Bool[Tensor, "n j gh gw"]
    alone: Float[Tensor, "n j"]
    together: Float[Tensor, "n j"]
    signatures: Float[Tensor, "n j d"]
    heat: Float[Tensor, "n gh gw"]
    n_passes: int

    @property
    def correct(self) -> Bool[Tensor, " n"]:
        """Whether the image is classified as its label with nothing removed."""
        return self.clean > 0

    @property
    def flips(self) -> Bool[Tensor, "n j"]:
        """Whether removing that region alone flips the prediction of an image that was correct."""
        return (self.alone <= 0) & self.correct[:, None]  # NaN compares as False

    def take(self, rows: slice | Int[np.ndarray, " m"]) -> Evidence:
        """Evidence of some of the images, with 0 passes: these are not divided among images."""
        own = {name: getattr(self, name)[rows if isinstance(rows, slice) else torch.from_numpy(rows)] for name in _ROWS}
        return Evidence(**own, n_passes=0)


def join_evidence(parts: Sequence[Evidence]) -> Evidence:
    """Concatenate the evidence of several sets of images, on the processor; passes add up."""
    joined = {name: torch.cat([getattr(part, name) for part in parts]).cpu() for name in _ROWS}
    return Evidence(**joined, n_passes=sum(part.n_passes for part in parts))


def merge_alike(evidence: Evidence) -> Evidence:
    """Join regions of an image that are as alike as halves of one thing; the margin stays where it was measured.

    How alike that is follows from all images of a class, so `evidence` holds all of them.
    """
    labels = evidence.labels.numpy()
    merged = _copy(evidence)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        signatures = evidence.signatures.numpy()[rows].astype(np.float64)
        units = signatures / np.linalg.norm(signatures, axis=2, keepdims=True).clip(1e-12)  # NaN stays
        least = _typical_likeness(units[:, 0])
        for row, unit in zip(rows.tolist(), units, strict=True):
            _merge_row(evidence, merged, row, _owners(unit, least))
    return merged


def _typical_likeness(firsts: Float[np.ndarray, "r d"]) -> float:
    """Likeness from which regions are joined; infinite, so that none are, below three images that have a region."""
    known = firsts[np.isfinite(firsts).all(1)]
    if len(known) < 3:
        return float("inf")
    return float(np.percentile((known @ known.T)[~np.eye(len(known), dtype=bool)], ALIKE))


def _owners(units: Float[np.ndarray, "j d"], least: float) -> list[int]:
    """Slot of each region of an image after joining."""
    firsts: list[int] = []  # slot that each joined region began with
    owners: list[int] = []
    for slot, unit in enumerate(units):
        if not np.isfinite(unit).all():
            break
        likeness = [float(units[first] @ unit) for first in firsts]
        if likeness and max(likeness) >= least:
            owners.append(int(np.argmax(likeness)))
        else:
            owners.append(len(firsts))
            firsts.append(slot)
    return owners


def _merge_row(old: Evidence, new: Evidence, row: int, owners: list[int]) -> None:
    if owners == list(range(len(owners))):
        return
    new.regions[row], new.alone[row] = False, torch.nan
    new.together[row], new.signatures[row] = torch.nan, torch.nan
    for slot, owner in enumerate(owners):
        if not new.regions[row, owner].any():
            new.alone[row, owner], new.signatures[row, owner] = old.alone[row, slot], old.signatures[row, slot]
        new.regions[row, owner] |= old.regions[row, slot]
        new.together[row, max(owners[: slot + 1])] = old.together[row, slot]
        if not any(owners[: slot + 1]):  # all there is so far is one thing
            new.alone[row, 0] = old.together[row, slot]


def _copy(evidence: Evidence) -> Evidence:
    return dataclasses.replace(
        evidence,
        regions=evidence.regions.clone(),
        alone=evidence.alone.clone(),
        together=evidence.together.clone(),
        signatures=evidence.signatures.clone(),
    )


def judge_with_squares(probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, batch_size: int) -> Evidence:
    """Replace `alone` by the weighted mean of the margins without the region and without a square around it.

    It costs a pass per region without which little of the margin is left: around others squares hardly ever decide.
    Regions, and margins with several removed, stay.

    Args:
        probe: the network.
        images: those that `evidence` was searched in.
        evidence: of `find_evidence`.
        batch_size: images at once.
    """
    assert len(images) == len(evidence.labels), f"{len(images)} images, evidence of {len(evidence.labels)}"
    alone, n_passes = evidence.alone.clone(), evidence.n_passes
    there = mark_compact(evidence.regions) & (evidence.alone <= DOUBTFUL * evidence.clean[:, None])  # nan: not there
    for slot in range(alone.shape[1]):
        for rows in torch.split(torch.nonzero(there[:, slot])[:, 0], batch_size):
            regions = evidence.regions[rows, slot]
            square = square_around(regions, SQUARE)[:, None].to(images)
            removed = to_pixels(square, (images.shape[2], images.shape[3]))
            with torch.no_grad():
                logits = probe(fill_regions(images[rows.to(images.device)], removed)).logits.cpu()
            margin = hard_margin(logits, evidence.labels[rows])
            alone[rows, slot] = (evidence.alone[rows, slot] + WEIGHT * margin) / (1 + WEIGHT)
            n_passes += len(rows)
    return dataclasses.replace(evidence, alone=alone, n_passes=n_passes)


def mark_compact(regions: Bool[Tensor, "n j gh gw"]) -> Bool[Tensor, "n j"]:
    """Mark regions of which the square has half: a square inside of a frame says nothing about it."""
    flat, reach = regions.flatten(0, 1), SQUARE * max(regions.shape[2:]) / 2
    near = _near_mean(flat.sum(2), reach)[:, :, None] & _near_mean(flat.sum(1), reach)[:, None, :]
    inside, size = (flat & near).flatten(1).sum(1), flat.flatten(1).sum(1)
    return ((size > 0) & (inside >= COVERED * size)).view(regions.shape[:2])


def _near_mean(counts: Int[Tensor, "b g"], reach: float) -> Bool[Tensor, "b g"]:
    """Cells of one axis within `reach` of the mean place of what is counted along it, wherever that is."""
    places = torch.arange(counts.shape[1])
    mean = (counts * places).sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp(min=1)
    return (places - mean).abs() <= reach


def square_around(regions: Bool[Tensor, "b gh gw"], share: float) -> Bool[Tensor, "b gh gw"]:
    """Draw a square of `share` of the longer side around the mean place of each region's cells, inside the grid."""
    side = max(1, round(share * max(regions.shape[1:])))
    rows, columns = _around_mean(regions.sum(2), side), _around_mean(regions.sum(1), side)
    return rows[:, :, None] & columns[:, None, :]


def _around_mean(counts: Int[Tensor, "b g"], side: int) -> Bool[Tensor, "b g"]:
    """`side` cells of one axis around the mean place of what is counted along it; all, where there are fewer."""
    places = torch.arange(counts.shape[1])
    mean = (counts * places).sum(1) / counts.sum(1).clamp(min=1)
    first = (mean - (side - 1) / 2).round().clamp(0, max(0, counts.shape[1] - side))[:, None]
    return (places >= first) & (places < first + side)


@dataclass(frozen=True)
class SearchSettings:
    """Settings of the search; lengths in cells of a grid of at most 32 x 32.

    Attributes:
        n_steps: of the integrated gradients.
        spread: standard deviation of the smoothing.
        share: of the peak, which a cell needs to belong to it.
        margin: cells removed around those that reach the share.
        n_grown: how often a region is grown before it is judged.
        most: regions per image, at most.
        merged: whether regions of an image that are alike are joined.
        batch_size: images at once.
    """

    n_steps: int = 1
    spread: float = 1.0
    share: float = 0.25
    margin: int = 2
    n_grown: int = 0
    most: int = MOST_REGIONS
    merged: bool = True
    batch_size: int = 100


def find_evidence(
    probe: Probe,
    images: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    settings: SearchSettings,
    pool: CellPool | None = None,
) -> Evidence:
    """Search the evidence regions of every image; images that are misclassified from the start have none.

    Which regions are alike is judged between the images of a class: give them all in one call, or their parts in
    several with `merged` off, and the results, joined, to `merge_alike`.

    Args:
        probe: the network.
        images: prepared, on the probe's device.
        labels: class indices whose evidence is searched, on the same device.
        settings: of the search.
        pool: of images of all classes, which says what is alike by chance; None: regions are what attribution finds.
    """
    assert len(images) == len(labels) > 0, f"{len(images)} images for {len(labels)} labels"
    starts = range(0, len(images), settings.batch_size)
    batches = [slice(start, start + settings.batch_size) for start in starts]
    evidence = join_evidence([_Search(probe, images[rows], labels[rows], settings, pool).run() for rows in batches])
    return merge_alike(evidence) if settings.merged else evidence


def find_heat(
    probe: Probe, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"], settings: SearchSettings | None = None
) -> Float[Tensor, "n 1 gh gw"]:
    """Compute the evidence per cell that the search for `labels` starts from, 0 or more."""
    settings = settings or SearchSettings()
    maps = attribute(probe, images, labels, settings.n_steps)
    return to_grid(maps, choose_grid(int(images.shape[2]), int(images.shape[3])), settings.spread)


class _Search:
    """The search in one batch; every array has a row for each of its images, `rows` are those still searched."""

    def __init__(
        self, probe: Probe, images: Tensor, labels: Tensor, settings: SearchSettings, pool: CellPool | None
    ) -> None:
        self.probe, self.images, self.labels, self.settings, self.pool = probe, images, labels, settings, pool
        self.size = (int(images.shape[2]), int(images.shape[3]))
        self.grid = choose_grid(*self.size)
        with torch.no_grad():
            output = probe(images)
        self.maps, self.n_passes = output.maps, len(images)
        self.cells = to_cells(output.maps, self.grid) if pool is not None else output.maps
        n, j, d = len(images), settings.most, output.maps.shape[1]
        self.evidence = Evidence(
            labels,
            hard_margin(output.logits, labels),
            torch.zeros(n, j, *self.grid, dtype=torch.bool, device=images.device),
            images.new_full((n, j), torch.nan),
            images.new_full((n, j), torch.nan),
            images.new_full((n, j, d), torch.nan),
            images.new_zeros(n, *self.grid),
            0,
        )

    def run(self) -> Evidence:
        """Fill `evidence` slot by slot, and return it with the passes that it took."""
        evidence, rows = self.evidence, torch.nonzero(self.evidence.correct)[:, 0]
        for slot in range(self.settings.most):
            if not len(rows):
                break
            removed = evidence.regions[rows].any(1, keepdim=True).float()
            region = self._locate(rows, removed)
            evidence.regions[rows, slot] = region[:, 0] > 0
            together, signatures = self._judge(rows, torch.maximum(removed, region), region)
            evidence.together[rows, slot] = evidence.alone[rows, slot] = together
            evidence.signatures[rows, slot] = signatures
            lost = rows[together <= 0]
            if slot and len(lost):
                only = region[together <= 0]
                evidence.alone[lost, slot], evidence.signatures[lost, slot] = self._judge(lost, only, only)
            # without any evidence left there is nothing more to remove
            rows = rows[(together > 0) & region.any((1, 2, 3))]
        return Evidence(**{**vars(evidence), "n_passes": self.n_passes})

    def _locate(self, rows: Tensor, removed: Tensor) -> Float[Tensor, "r 1 gh gw"]:
        """Cells of the strongest region once the cells in `removed` are gone."""
        settings = self.settings
        heat = self._attribute(rows, removed)
        if not removed.any():  # the first region: nothing is gone yet
            self.evidence.heat[rows] = heat[:, 0]
        region, first = peak_region(heat, settings.share, settings.margin)
        for _ in range(settings.n_grown):
            heat = self._attribute(rows, torch.maximum(removed, region))
            highest = heat.flatten(1).amax(1).view(-1, 1, 1, 1)
            least = settings.share * torch.maximum(first, highest)
            region = grow_region(region, heat, least, settings.margin)
        if self.pool is not None:
            region = torch.maximum(region, find_alike(self.cells[rows], region, self.labels[rows], self.pool))
        return region * (1 - removed)

    def _attribute(self, rows: Tensor, removed: Tensor) -> Float[Tensor, "r 1 gh gw"]:
        """Evidence in the images without the cells in `removed`, and outside of them."""
        self.n_passes += COUNTED * self.settings.n_steps * len(rows)
        images = self._without(rows, removed)
        maps = attribute(self.probe, images, self.labels[rows], self.settings.n_steps)
        return to_grid(maps, self.grid, self.settings.spread) * (1 - removed)

    def _judge(self, rows: Tensor, removed: Tensor, region: Tensor) -> tuple[Float[Tensor, " r"], Float[Tensor, "r d"]]:
        """The margin without the cells in `removed`, and what the layer's activations lose in `region`."""
        self.n_passes += len(rows)
        with torch.no_grad():
            output = self.probe(self._without(rows, removed))
        height, width = output.maps.shape[2:]
        weight = functional.adaptive_avg_pool2d(to_pixels(region, self.size), (height, width))
        lost = ((self.maps[rows] - output.maps) * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-6)
        return hard_margin(output.logits, self.labels[rows]), lost

    def _without(self, rows: Tensor, removed: Tensor) -> Float[Tensor, "r c h w"]:
        return fill_regions(self.images[rows], to_pixels(removed, self.size))
