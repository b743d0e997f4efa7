"""Finds the spatial layers of any network: one pass is traced, and every module's output is tried for a grid.

A module counts where it runs once in a pass, returns one tensor per picture, and its grid is proven by
`locality.find_layout`. What works on windows (Swin, MaxViT) has another batch size and does not count; neither does
what returns the picture itself. Modules that return the same tensor are one layer, named by the outermost of them.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from salve_audit.errors import LayerError
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.reasons import nearest_names, summarise_error
from salve_audit.spatial.layout import CHANNELS_FIRST, GridLayout
from salve_audit.spatial.locality import change_corners, find_layout

TRACED_PICTURES = 4
HINT = "name a layer whose output is a map or a grid of tokens with --saliency-layer or --depth-layers"


@dataclass(frozen=True)
class SpatialLayer:
    """A module whose output is a grid over the picture.

    Attributes:
        name: dotted path.
        layout: of its output.
        order: its place in the order of execution.
    """

    name: str
    layout: GridLayout
    order: int


@dataclass
class _Seen:
    """What one pass showed of a module: the shape of its output, its layout, whose tensor it returned, its calls."""

    order: int
    shape: tuple[int, ...] = ()
    layout: GridLayout | None = None
    group: int = -1
    n_calls: int = 0


@dataclass(frozen=True)
class TracedLayers:
    """Every module that ran, by name, in order of completion; one spatial layer per tensor."""

    seen: dict[str, _Seen] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[SpatialLayer, ...]:
        """One per tensor: the name with the fewest parts, the first to run of those."""
        by_group: dict[int, list[SpatialLayer]] = {}
        for name, one in self.seen.items():
            if one.layout is not None and one.n_calls == 1:
                by_group.setdefault(one.group, []).append(SpatialLayer(name, one.layout, one.order))
        outermost = (min(group, key=lambda one: (one.name.count("."), one.order)) for group in by_group.values())
        # a tensor is complete when its first module is; its outer names come later
        first = {id(group): min(one.order for one in group) for group in by_group.values()}
        firsts = [first[id(group)] for group in by_group.values()]
        placed = [replace(layer, order=order) for layer, order in zip(outermost, firsts, strict=True)]
        return tuple(sorted(placed, key=lambda one: one.order))

    def find(self, name: str, path: str, known: tuple[str, ...]) -> SpatialLayer:
        """The module `name` as a spatial layer.

        Raises:
            LayerError: it is not one; says why, or names similar ones.
        """
        one = self.seen.get(name)
        layers = [layer.name for layer in self.layers]
        if one is None:
            near = nearest_names(name, layers) or layers[-3:]
            why = f"its module {name!r} is not used in a forward pass" if name in known else f"has no module {name!r}"
            raise LayerError(path, why, hint=f"spatial layers there: {', '.join(near)}" if near else None)
        if one.layout is not None and one.n_calls == 1:
            return SpatialLayer(name, one.layout, one.order)
        hint = f"spatial layers there: {', '.join(layers[-3:])}" if layers else None
        if one.n_calls > 1:
            raise LayerError(path, f"its module {name!r} is used {one.n_calls} times in a forward pass", hint)
        shape = " x ".join(map(str, one.shape))
        returned = f"returns {shape} for a batch of pictures" if shape else "returns no tensor of one row per picture"
        raise LayerError(path, f"its module {name!r} {returned}, no grid over the picture", hint)


def find_spatial_layers(classifier: Classifier, images: Tensor) -> tuple[SpatialLayer, ...]:
    """All spatial layers in order of execution, proven on the first few of `images` (n, c, h, w).

    Raises:
        LayerError: there is none, or the forward pass fails.
    """
    layers = trace_layers(classifier, images).layers
    if not layers:
        raise LayerError(str(classifier.path), "no module's output is a grid over the picture", hint=HINT)
    return layers


def trace_layers(classifier: Classifier, images: Tensor) -> TracedLayers:
    """One watched pass over pictures with changed corners; only shapes and layouts are kept.

    In a grid of 2 x 2 every position of a deep convolutional network may see the whole picture, and corners prove
    nothing. Where maps follow the last proven one, a second pass over pictures of twice the size proves their layout.

    Raises:
        LayerError: the forward pass fails.
    """
    images = images[:TRACED_PICTURES]
    try:
        seen = _watch_pass(classifier.model, images)
    except Exception as error:  # the network's own code may raise anything
        shape = " x ".join(map(str, images.shape[1:]))
        why = f"a forward pass of pictures of {shape} failed ({summarise_error(error)})"
        raise LayerError(str(classifier.path), why) from error
    proven = max((one.order for one in seen.values() if one.layout is not None), default=0)
    doubtful = [name for name, one in seen.items() if one.order > proven and _may_be_map(one, images)]
    if doubtful:
        _prove_enlarged(classifier.model, images[:2], seen)
    return TracedLayers(seen)


def _prove_enlarged(model: nn.Module, images: Tensor, seen: dict[str, _Seen]) -> None:
    """Adds layouts that show at twice the size; a network that takes one size only proves nothing this way."""
    try:
        larger = _watch_pass(model, functional.interpolate(images, scale_factor=2, mode="bilinear"))
    except Exception:  # the network's own code may raise anything
        return
    for name, one in seen.items():
        proof = larger[name].layout if name in larger else None
        if one.layout is not None or proof is None or not _may_be_map(one, images):
            continue
        first = proof.kind == CHANNELS_FIRST
        channels, height, width = one.shape[1:] if first else (one.shape[3], *one.shape[1:3])
        if proof.channels == channels and proof.height > height and proof.width > width and min(height, width) > 1:
            one.layout = replace(proof, height=height, width=width)


def _may_be_map(one: _Seen, images: Tensor) -> bool:
    """Four axes, of which at least two can be a grid over the picture."""
    largest = max(images.shape[2:])
    return len(one.shape) == 4 and sum(2 <= side <= largest for side in one.shape[1:]) >= 2


def _watch_pass(model: nn.Module, images: Tensor) -> dict[str, _Seen]:
    told = getattr(model, "num_prefix_tokens", None)
    watch = _Watch(images, told if isinstance(told, int) else None)
    named = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(watch.make_hook(name)) for name, module in named]
    try:
        with torch.no_grad():  # versions of tensors are counted, unlike in inference mode
            model(change_corners(images))
    finally:
        for handle in handles:
            handle.remove()
    return watch.seen


class _Watch:
    """Hooks that note every module's output while a pass runs."""

    def __init__(self, images: Tensor, n_prefix: int | None) -> None:
        self.seen: dict[str, _Seen] = {}
        self._n_rows, self._picture = 5 * len(images), tuple(images.shape[1:])
        self._size = (images.shape[2], images.shape[3])
        self._n_prefix, self._n_groups, self._n_calls = n_prefix, 0, 0
        # by id: the tensor, how often it had been changed in place, its group and layout
        self._known: dict[int, tuple[weakref.ref[Tensor], int, int, GridLayout | None]] = {}

    def make_hook(self, name: str) -> Any:
        """The forward hook of the module `name`."""

        def hook(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            one = self.seen.setdefault(name, _Seen(order=0))
            one.n_calls += 1
            self._n_calls += 1
            one.order = self._n_calls
            if isinstance(output, Tensor) and output.is_floating_point() and output.shape[:1] == (self._n_rows,):
                one.shape = tuple(output.shape)
                one.group, one.layout = self._place(output)

        return hook

    def _place(self, output: Tensor) -> tuple[int, GridLayout | None]:
        """The number of the tensor and its layout, found once for modules that return the same."""
        known = self._known.get(id(output))
        if known is not None and known[0]() is output and known[1] == output._version:
            return known[2], known[3]
        layout = None
        if output.ndim in (3, 4) and tuple(output.shape[1:]) != self._picture:
            layout = find_layout(output, self._size, self._n_prefix)
        self._n_groups += 1
        self._known[id(output)] = (weakref.ref(output), output._version, self._n_groups, layout)
        return self._n_groups, layout
