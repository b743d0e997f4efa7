"""A bounded sample of a layer's positions: drawn picture by picture, so that no activations but the sample are kept.

Every class has the same share, and so has every picture of a class. Positions of one picture are alike, so whatever is
said of the sample has its uncertainty from pictures and not from positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.spatial.cut import CutNetwork

MOST_POSITIONS = 60_000
BATCH = 100  # pictures


@dataclass(frozen=True)
class PictureSource:
    """Prepared pictures by number.

    Attributes:
        labels: (n,) class index of each.
        load: numbers (b,) -> pictures (b, c, h, w) on the network's device.
    """

    labels: Int[np.ndarray, " n"]
    load: Callable[[Int[np.ndarray, " b"]], Float[Tensor, "b c h w"]]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class PositionSample:
    """Positions of one layer.

    Attributes:
        layer: its name.
        positions: (n, d) float32.
        picture: (n,) number of the picture each is from.
        labels: (n,) class of that picture.
        n_there: positions that the pictures of the sample have.
    """

    layer: str
    positions: Float[np.ndarray, "n d"]
    picture: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    n_there: int

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n_pictures(self) -> int:
        return len(np.unique(self.picture))

    @property
    def share(self) -> float:
        """Of all positions of these pictures."""
        return len(self) / self.n_there

    @cached_property
    def mean_error(self) -> float:
        """Standard error of the mean position over the root mean square distance from it; pictures are the clusters.

        Below about 0.05 more pictures would not move the mean by anything that matters.
        """
        centred = self.positions.astype(np.float64) - self.positions.mean(0, dtype=np.float64)
        spread = float(np.square(centred).sum() / len(self))
        variance = float(np.square(sum_by_picture(centred, self.picture)).sum()) / len(self) ** 2
        n = self.n_pictures
        return float(np.sqrt(variance * n / max(1, n - 1) / spread)) if spread > 0 else 0.0


def sum_by_picture(values: Float[np.ndarray, "n ..."], picture: Int[np.ndarray, " n"]) -> Float[np.ndarray, "g ..."]:
    """Sums over the rows of each picture, in the order of their numbers."""
    _, group = np.unique(picture, return_inverse=True)
    sums = np.zeros((int(group.max()) + 1, *values.shape[1:]))
    np.add.at(sums, group, values)
    return sums


def share_out(
    labels: Int[np.ndarray, " n"], n_positions: int, limit: int, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """How many positions each picture gives: as many for every class, and within it for every picture, within one."""
    quota = np.zeros(len(labels), np.int64)
    classes = np.unique(labels)
    for label in classes:
        rows = rng.permutation(np.flatnonzero(labels == label))
        each, rest = divmod(limit // len(classes), len(rows))
        quota[rows] = each
        quota[rows[:rest]] += 1
    return quota.clip(0, n_positions)


def sample_positions(
    cut: CutNetwork,
    source: PictureSource,
    rng: np.random.Generator,
    limit: int = MOST_POSITIONS,
    batch_size: int = BATCH,
) -> PositionSample:
    """Random positions of the layer that the network is cut at; one forward pass per picture.

    Args:
        cut: at the layer.
        source: pictures; all that get a share are run.
        rng: which positions.
        limit: positions at most.
        batch_size: pictures at once.

    Raises:
        LayerError: the network fails.
    """
    layout = cut.layer.layout
    quota = share_out(source.labels, layout.n_positions, limit, rng)
    rows = np.flatnonzero(quota)
    assert len(rows), "no picture, or a limit below the number of classes"
    kept = np.empty((int(quota.sum()), layout.channels), np.float32)
    done = 0
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        with torch.no_grad():
            positions = layout.to_positions(cut.run(source.load(batch)).output)
        for one, n in zip(positions, quota[batch].tolist(), strict=True):
            chosen = torch.from_numpy(np.sort(rng.choice(layout.n_positions, n, replace=False))).to(one.device)
            kept[done : done + n] = one[chosen].float().cpu().numpy()
            done += n
    picture = np.repeat(rows, quota[rows])
    return PositionSample(cut.layer.name, kept, picture, source.labels[picture], len(rows) * layout.n_positions)
