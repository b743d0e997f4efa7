"""The places of weights in a checkpoint's nested dictionaries, the likeliest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.formats.partial import describe_partial_weights

# in this order: what training scripts call the weights they evaluate, then their running averages
STATE_KEYS = (
    "state_dict", "model_state_dict", "model", "net", "network", "model_state", "weights", "params", "module",
    "state_dict_ema", "model_ema", "ema", "ema_state_dict", "ema_model",
)  # fmt: skip
NEVER = ("optim", "scheduler", "scaler", "rng", "callbacks", "loops", "discriminator")
DEEPEST = 8
SMALLEST_SHARE = 0.1  # of the largest place's tensors; below, it is something else that has tensors


@dataclass(frozen=True)
class Weights:
    """One state_dict in a file.

    Attributes:
        key: dotted path of the dictionary; empty where the file is the state_dict itself.
        state: names to tensors, as in the file.
    """

    key: str
    state: Mapping[str, torch.Tensor]


def find_weights(path: str, content: Mapping[Any, Any]) -> tuple[Weights, ...]:
    """All state_dicts in `content`, the one to take first.

    Raises:
        CheckpointError: there is none, or it has things that are no tensors.
    """
    places = list(_walk(content, (), set()))
    if not places:
        empty = next((key for key in STATE_KEYS if content.get(key) == {}), None)
        if empty is not None:
            raise CheckpointError(path, "its state_dict is empty")
        return ()
    for _, state in places:
        not_whole = describe_partial_weights(state)
        if not_whole is not None:
            raise CheckpointError(path, not_whole.what, hint=not_whole.remedy)
    largest = max(_count(state) for _, state in places)
    places = [(keys, state) for keys, state in places if _count(state) >= SMALLEST_SHARE * largest]
    places.sort(key=lambda place: _rank(place[0]))
    weights = [Weights(".".join(keys), state) for keys, state in places]
    first = weights[0]
    return (
        Weights(first.key, check_state(path, first.state)),
        *(Weights(other.key, _only_tensors(other.state)) for other in weights[1:]),
    )


def choose_weights(path: str, places: tuple[Weights, ...], key: str) -> tuple[Weights, ...]:
    """The place that ``--weights KEY`` names: a dotted path, which may go on into the tensors' names.

    Raises:
        CheckpointError: there is nothing at `key`; names the places that there are.
    """
    for place in places:
        if place.key == key:
            return (Weights(key, check_state(path, place.state)),)
    for place in places:
        inner = key.removeprefix(f"{place.key}.") if place.key else key
        if place.key and inner == key:
            continue
        start = f"{inner}."
        state = {name[len(start) :]: value for name, value in place.state.items() if name.startswith(start)}
        if state:
            return (Weights(key, check_state(path, state)),)
    there = ", ".join(place.key or "the top level" for place in places)
    raise CheckpointError(path, f"has no weights at {key!r}", hint=f"--weights takes one of: {there}")


def check_state(path: str, state: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """`state` without its extra states, after showing that all else are dense real tensors.

    Raises:
        CheckpointError: names the first that is none.
    """
    checked = {}
    for key, value in state.items():
        if not isinstance(key, str):
            raise CheckpointError(path, f"{key!r} in its state_dict is of type {type(key).__name__}, no name")
        if key.endswith("_extra_state"):
            continue
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(path, f"{key!r} in its state_dict is of type {type(value).__name__}, no tensor")
        if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
            raise CheckpointError(path, f"{key!r} is no dense real tensor ({value.layout}, {value.dtype})")
        checked[key] = value
    return checked


def _walk(
    content: Mapping[Any, Any], keys: tuple[str, ...], visited: set[int]
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """Every dictionary with tensors, once: a pickle may hold one in itself."""
    visited.add(id(content))
    if _count(content):
        yield keys, content
    if len(keys) < DEEPEST:
        for key, value in content.items():
            if not isinstance(key, str) or not isinstance(value, Mapping) or id(value) in visited:
                continue
            if not any(word in key.lower() for word in NEVER):
                yield from _walk(value, (*keys, key), visited)


def _rank(keys: tuple[str, ...]) -> tuple[Any, ...]:
    """Known names before unknown ones, shallow before deep; the top level, where it has tensors itself, last."""
    ranks = [STATE_KEYS.index(key) if key in STATE_KEYS else len(STATE_KEYS) for key in keys]
    # an average's own inner dictionary (ema.model) ranks as the average does
    return (not keys, max(ranks, default=0), len(keys))


def _count(state: Mapping[Any, Any]) -> int:
    return sum(isinstance(value, torch.Tensor) for value in state.values())


def _only_tensors(state: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
