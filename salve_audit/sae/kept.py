"""Trainings that an ended search has finished: the next one with the same inputs takes them over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from salve_audit.sae.parameters import Parameters


class TrainingStore(Protocol):
    """A place for arrays by name."""

    def recall(self, name: str) -> Mapping[str, np.ndarray] | None:
        """What was kept under `name`; None: nothing."""

    def keep(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays; a store that cannot be written keeps nothing."""


def recall_or_train(
    store: TrainingStore | None,
    described: Sequence[object],
    start: Parameters | None,
    device: torch.device,
    work: Callable[[], Parameters],
) -> Parameters:
    """The parameters that `work` trains, from the store where it has them.

    Args:
        store: None: nothing is kept.
        described: all that tells this training from others on the same activations, in plain values.
        start: parameters that it starts from.
        device: of the parameters.
        work: the training.
    """
    if store is None:
        return work()
    name = hashlib.sha256(f"{json.dumps(described)} {_hash(start or {})}".encode()).hexdigest()[:32]
    kept = store.recall(name)
    if kept is not None:
        return {key: torch.from_numpy(array).to(device) for key, array in kept.items()}
    parameters = work()
    store.keep(name, {key: tensor.detach().cpu().numpy() for key, tensor in parameters.items()})
    return parameters


def _hash(parameters: Parameters) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(parameters.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()
