"""What is lost without some place of the picture, as large as the evidence, but anywhere: the null of reliance."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.network import Probe, hard_margin
from salve_audit.reliance.depth.regions import to_pixels


def flip_at_random(
    probe: Probe, images: Float[Tensor, "n c h w"], evidence: Evidence, batch_size: int, rng: np.random.Generator
) -> dict[int, float]:
    """Per class, the share of pictures that turn wrong when a place shaped like their first piece is taken out.

    The first piece is moved by random numbers of cells, what leaves the picture on one side comes in on the other.
    """
    first = evidence.regions[:, 0]
    offsets = [(int(rng.integers(first.shape[1])), int(rng.integers(first.shape[2]))) for _ in range(len(first))]
    moved = torch.stack([torch.roll(one, at, (0, 1)) for one, at in zip(first, offsets, strict=True)])
    turned = torch.zeros(len(images), dtype=torch.bool)
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        out = to_pixels(moved[rows, None].to(images), (images.shape[2], images.shape[3]))
        with torch.no_grad():
            logits = probe(fill_regions(images[rows], out)).logits.cpu()  # where the evidence is
        turned[rows] = (hard_margin(logits, evidence.labels[rows]) <= 0) & evidence.correct[rows]
    labels, lost = evidence.labels.numpy(), turned.numpy()
    return {label: float(lost[labels == label].mean()) for label in np.unique(labels).tolist()}
