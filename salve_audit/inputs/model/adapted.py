"""Networks that are a known architecture but for their final layer, or for the channels of their first one."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.inference.index import Entry, Index
from salve_audit.inputs.model.inference.match import find_entry, find_nearest
from salve_audit.inputs.model.inference.measure import build_shapes, family_of
from salve_audit.inputs.model.inference.signature import Shapes, read_shapes
from salve_audit.inputs.model.keys import View
from salve_audit.inputs.model.network import Network, build_known
from salve_audit.results.decisions import Decision

SMALLEST_SHARE = 0.6  # of the tensors, that must be the architecture's own


@dataclass(frozen=True)
class Change:
    """The difference between a file's tensors and an architecture's.

    Attributes:
        entry: of the index.
        root: name of the part that is replaced by one linear layer; empty: none.
        linear: name of that layer in the file.
        conv: name of the first convolution, where it takes other channels; empty: it takes three.
        n_channels: that it takes.
    """

    entry: Entry
    root: str = ""
    linear: str = ""
    conv: str = ""
    n_channels: int = 3


@dataclass(frozen=True)
class Adapted:
    """A changed architecture, the tensors under its names, and the decisions that were made."""

    network: Network
    state: dict[str, Tensor]
    view: View
    decisions: tuple[Decision, ...]


def find_adapted(
    path: str, index: Index, views: Iterable[View], name: str | None, kwargs: Mapping[str, Any]
) -> Adapted | None:
    """The first of the `views` that is the architecture `name`, or the nearest one, but for head or channels.

    A changed network is taken only after a pass has shown that its parts fit one another.
    """
    for view in views:
        shapes = read_shapes(view.state)
        nearest = find_nearest(index, shapes)
        near = name or (nearest[0] if nearest else None)
        if near is None or all(entry.name != near for entry in index.entries):
            continue
        change = _compare(find_entry(index, near), shapes)
        if change is not None:
            adapted = _build(path, change, view, kwargs)
            if adapted is not None:
                return adapted
    return None


def _compare(entry: Entry, shapes: Shapes) -> Change | None:
    own = build_shapes(entry.name, **entry.kwargs) or {}
    same = [key for key in shapes if own.get(key) == shapes[key]]
    if len(same) < SMALLEST_SHARE * len(own):
        return None
    conv = _find_conv(own, shapes)
    others = [key for key in shapes if key not in same and key != f"{conv}.weight"]
    missing = [key for key in own if key not in same and key != f"{conv}.weight"]
    n_channels = shapes[f"{conv}.weight"][1] if conv else 3
    is_classes = {key: shape for key, shape in shapes.items() if key in entry.classes}
    if sorted(others) == sorted(missing) and set(others) <= set(is_classes):  # only the number of classes differs
        return Change(entry, conv=conv, n_channels=n_channels) if conv else None
    linear = [key.removesuffix(".weight") for key in others if key.endswith(".weight") and len(shapes[key]) == 2]
    if len(linear) != 1 or not set(others) <= {f"{linear[0]}.weight", f"{linear[0]}.bias"}:
        return None
    root = _common_root([*missing, *others])
    return Change(entry, root, linear[0], conv, n_channels) if root and missing else None


def _find_conv(own: Shapes, shapes: Shapes) -> str:
    """The first convolution, if it is the architecture's but for its input channels."""
    first = next((key for key, shape in own.items() if len(shape) == 4), None)
    given = shapes.get(first or "")
    if first is None or given is None or len(given) != 4 or given == own[first]:
        return ""
    same = (given[0], *given[2:]) == (own[first][0], *own[first][2:])
    return first.removesuffix(".weight") if same else ""


def _common_root(keys: list[str]) -> str:
    roots = {key.partition(".")[0] for key in keys}
    return roots.pop() if len(roots) == 1 else ""


def _build(path: str, change: Change, view: View, kwargs: Mapping[str, Any]) -> Adapted | None:
    entry, family = change.entry, family_of(change.entry.name)
    given = {key: value for key, value in kwargs.items() if key not in ("num_classes", "in_chans")}
    if family.chans is None:
        given = {}
    given |= entry.kwargs
    state, decisions = dict(view.state), []
    if change.conv and family.chans is not None:
        given[family.chans] = change.n_channels
    if not change.root:
        given["num_classes"] = next(state[key].shape[dims[0]] for key, dims in entry.classes.items())
    try:
        network = build_known(path, entry.name, given)
        if change.conv and family.chans is None:
            network = _replace_conv(network, change, state)
        if change.conv:
            taken = f"{change.n_channels} channel{'s' if change.n_channels > 1 else ''}"
            decisions.append(
                Decision("first layer", taken, f"{change.conv!r} of {entry.name} takes 3, the file's so many")
            )
        if change.root:
            network, state, decision = _replace_head(network, change, state)
            decisions.append(decision)
        _check_pass(network, change)
    except (CheckpointError, RuntimeError, ValueError, AttributeError, TypeError):
        return None  # its parts do not fit one another
    return Adapted(network, state, view, tuple(decisions))


def _replace_conv(network: Network, change: Change, state: Mapping[str, Tensor]) -> Network:
    conv = network.model.get_submodule(change.conv)
    if not isinstance(conv, nn.Conv2d) or conv.groups != 1:
        raise ValueError(f"{change.conv} is no plain convolution")
    conv.in_channels = change.n_channels
    conv.weight = nn.Parameter(torch.empty_like(state[f"{change.conv}.weight"], dtype=torch.float32))
    return dataclasses.replace(
        network,
        kwargs={**network.kwargs, "in_chans": change.n_channels},
        build_key=json.dumps({"build": network.build_key, "in_chans": change.n_channels}),
    )


def _replace_head(
    network: Network, change: Change, state: dict[str, Tensor]
) -> tuple[Network, dict[str, Tensor], Decision]:
    weight = state.pop(f"{change.linear}.weight")
    bias = state.pop(f"{change.linear}.bias", None)
    n_outputs, n_inputs = weight.shape
    linear = nn.Linear(n_inputs, n_outputs, bias=bias is not None)
    head = nn.Sequential(OrderedDict(flat=nn.Flatten(1), linear=linear))  # what is flat already stays as it is
    setattr(network.model, change.root, head)
    state[f"{change.root}.linear.weight"] = weight
    if bias is not None:
        state[f"{change.root}.linear.bias"] = bias
    size = f"{n_inputs} -> {n_outputs}"
    why = f"the file has nothing else in the place of {change.root!r} of {change.entry.name}; a pass fits"
    replaced = dataclasses.replace(
        network,
        kwargs={**network.kwargs, "num_classes": n_outputs},
        build_key=json.dumps({"build": network.build_key, "head": [change.root, n_inputs, n_outputs]}),
    )
    return replaced, state, Decision("final layer", f"{change.linear!r} alone ({size})", why)


def _check_pass(network: Network, change: Change) -> None:
    """Runs the network on a black image, to see whether its parts fit; its parameters may have any values."""
    size = change.entry.default_size or 224
    device = next(network.model.parameters()).device
    image = torch.zeros(2, change.n_channels, size, size, device=device)
    with torch.no_grad():
        output = network.model.eval()(image)
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise ValueError("the network gives no logits")
