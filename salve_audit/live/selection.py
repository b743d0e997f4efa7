"""A limit on images, applied before anything is read where a dataset says its labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, Subset, TensorDataset

from salve_audit.inputs.splitting import draw_from_class
from salve_audit.live.samples import Given

TARGETS = ("targets", "labels", "_labels")  # of torchvision's datasets


def limit_items(given: Given, limit: int, seed: int, part: int) -> Given:
    """At most `limit` items of each class, where they can be told without reading; else the data as it is.

    Args:
        given: a dataset, or a loader that goes through one in order or shuffled.
        limit: of items per class.
        seed: of those that are drawn.
        part: 1 to fit, 2 to audit.
    """
    loader = given.data if isinstance(given.data, DataLoader) else None
    if loader is not None and not isinstance(loader.sampler, (SequentialSampler, RandomSampler)):
        return given  # what its own sampler leaves out stays out
    labels = find_targets(given.dataset)
    if labels is None:
        return given
    rows: list[int] = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rows += own[draw_from_class(len(own), limit, seed, part, int(label))].tolist()
    chosen: Subset[Any] = Subset(given.dataset, sorted(rows))
    if loader is None:
        return replace(given, data=chosen)
    batch_size, collate = loader.batch_size or 1, loader.collate_fn
    return replace(given, data=DataLoader(chosen, batch_size, num_workers=loader.num_workers, collate_fn=collate))


def find_targets(dataset: Any) -> Int[np.ndarray, " n"] | None:
    """The labels of all items of a dataset, in order; None: it would have to be read for them."""
    if isinstance(dataset, Subset):
        inner = find_targets(dataset.dataset)
        return None if inner is None else inner[np.asarray(dataset.indices, np.int64)]
    if getattr(dataset, "target_transform", None) is not None:
        return None
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) >= 2:
        return _as_labels(dataset.tensors[1], len(dataset))
    known = (getattr(dataset, name, None) for name in TARGETS)
    return next((labels for value in known if (labels := _as_labels(value, _count(dataset))) is not None), None)


def _count(dataset: Any) -> int:
    return len(dataset) if hasattr(dataset, "__len__") else -1


def _as_labels(value: Any, n: int) -> Int[np.ndarray, " n"] | None:
    if not isinstance(value, (list, tuple, np.ndarray, Tensor)) or len(value) != n:
        return None
    labels = np.asarray(value.cpu() if isinstance(value, Tensor) else value)
    return labels.astype(np.int64) if labels.ndim == 1 and labels.dtype.kind in "iu" else None
