"""How firmly the class rests on each piece: also without a square around the piece's middle, of two sizes.

A piece may cover more than one thing, where things touch or cover one another; without both the class is lost even
where it rests on neither. A long thing may be in the piece only in part. A square errs in other ways than a piece: it
is compact, whatever the attribution says. What is lost without either is lost without the one thing; so the margin
without a piece becomes the mean over the three.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.network import Probe, hard_margin
from salve_audit.reliance.depth.pieces import Evidence
from salve_audit.reliance.depth.regions import to_pixels

SIDES = (3 / 8, 1 / 2)  # of the picture's longer side


def judge_with_squares(probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, batch_size: int) -> Evidence:
    """The same pieces, with `alone` the mean of the margins without the piece, and without each of the squares.

    Costs a pass per piece and square. Where pieces are, and what is lost with several taken out, stays.

    Args:
        images: those that `evidence` was found in.
        batch_size: pictures at once.
    """
    assert len(images) == len(evidence.labels), f"{len(images)} pictures, evidence of {len(evidence.labels)}"
    alone, n_passes = evidence.alone.clone(), evidence.n_passes
    there = evidence.regions.flatten(2).any(2) & evidence.alone.isfinite()
    for piece in range(alone.shape[1]):
        for rows in torch.split(torch.nonzero(there[:, piece])[:, 0], batch_size):
            regions = evidence.regions[rows, piece]
            margins = [evidence.alone[rows, piece]]
            for side in SIDES:
                square = square_around(regions, side)[:, None].to(images)
                out = to_pixels(square, (images.shape[2], images.shape[3]))
                with torch.no_grad():
                    logits = probe(fill_regions(images[rows.to(images.device)], out)).logits.cpu()
                margins.append(hard_margin(logits, evidence.labels[rows]))
                n_passes += len(rows)
            alone[rows, piece] = torch.stack(margins).mean(0)
    return dataclasses.replace(evidence, alone=alone, n_passes=n_passes)


def square_around(regions: Bool[Tensor, "b gh gw"], share: float) -> Bool[Tensor, "b gh gw"]:
    """A square of `share` of the longer side around the mean place of each region's cells, moved inside the grid."""
    side = max(1, round(share * max(regions.shape[1:])))
    rows, columns = _around_mean(regions.sum(2), side), _around_mean(regions.sum(1), side)
    return rows[:, :, None] & columns[:, None, :]


def _around_mean(counts: Int[Tensor, "b g"], side: int) -> Bool[Tensor, "b g"]:
    """`side` cells of one axis around the mean place of what is counted along it; all, where there are fewer."""
    places = torch.arange(counts.shape[1])
    mean = (counts * places).sum(1) / counts.sum(1).clamp(min=1)
    first = (mean - (side - 1) / 2).round().clamp(0, max(0, counts.shape[1] - side))[:, None]
    return (places >= first) & (places < first + side)
