"""Results of single batches, kept while the measure runs, so that one that is ended goes on where it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

R = TypeVar("R")
Named = Mapping[str, np.ndarray]


class PartStore(Protocol):
    """A place for arrays by name."""

    def recall(self, name: str) -> Named | None:
        """What was kept under `name`; None: nothing."""

    def keep(self, name: str, arrays: Named) -> None:
        """Keep arrays; a store that cannot be written keeps nothing."""


def recall(parts: PartStore, name: str) -> Any:
    """What was remembered under `name`; None: nothing."""
    kept = parts.recall(name)
    return None if kept is None else _join(kept)


def remember(parts: PartStore, name: str, work: Callable[[], R]) -> R:
    """The result of `work`, from the store where it has it; what is neither of arrays nor of tensors is not kept."""
    kept = recall(parts, name)
    if kept is not None:
        return cast(R, kept)
    result = work()
    arrays = _split(result)
    if arrays is not None:
        parts.keep(name, arrays)
    return result


def _split(result: Any) -> dict[str, np.ndarray] | None:
    """Named arrays of a tensor, an array, a tuple of arrays and whole numbers, or a record of tensors and these."""
    if isinstance(result, Tensor):
        return {"tensor": result.cpu().numpy()}
    if isinstance(result, np.ndarray):
        return {"array": result}
    if isinstance(result, tuple) and all(isinstance(item, (np.ndarray, int)) for item in result):
        return {f"item{place}": np.asarray(item) for place, item in enumerate(result)}
    if not dataclasses.is_dataclass(result) or type(result) is not _evidence():
        return None
    values = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return {f"field {name}": np.asarray(v.cpu() if isinstance(v, Tensor) else v) for name, v in values.items()}


def _join(arrays: Named) -> Any:
    if "tensor" in arrays:
        return torch.from_numpy(arrays["tensor"])
    if "array" in arrays:
        return arrays["array"]
    if "item0" in arrays:
        items = (arrays[f"item{place}"] for place in range(len(arrays)))
        return tuple(item if item.ndim else item.item() for item in items)
    values = {name.removeprefix("field "): array for name, array in arrays.items()}
    return _evidence()(**{name: torch.from_numpy(v) if v.ndim else v.item() for name, v in values.items()})


def _evidence() -> type[Any]:
    from salve_audit.evidence.search import Evidence

    return Evidence
