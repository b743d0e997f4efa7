"""Finds the spatial layers of any network: one pass is traced, and every module's output is tried for a grid.

A module counts where it runs once in a pass, returns one tensor per image, and its grid is verified by
`locality.find_layout`. What works on windows (Swin, MaxViT) has another batch size and does not count; neither does
what returns the image itself. Modules that return the same tensor are one layer, named by the outermost of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from salve_audit.errors import LayerError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.reasons import nearest_names, summarise_error
from salve_audit.spatial.layout import CHANNELS_FIRST, GridLayout
from salve_audit.spatial.locality import change_corners, find_layout

TRACED_IMAGES = 4
HINT = "name a layer whose output is a map or a grid of tokens with --saliency-layer or --evidence-layer"


@dataclass(frozen=True)
class SpatialLayer:
    """A module whose output is a grid over the image.

    Attributes:
        name: dotted path.
        layout: of its output.
        order: its place in the order of execution.
    """

    name: str
    layout: GridLayout
    order: int


@dataclass
class _ModuleTrace:
    """Record of a module in one pass: the shape of its output, its layout, the group of its tensor, its calls."""

    order: int
    shape: tuple[int, ...] = ()
    layout: GridLayout | None = None
    group: int = -1
    n_calls: int = 0


@dataclass(frozen=True)
class TracedLayers:
    """Every module that ran, by name, in order of completion; one spatial layer per tensor."""

    modules: dict[str, _ModuleTrace] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[SpatialLayer, ...]:
        """One spatial layer per tensor: the name with the fewest parts, the first to run of those."""
        by_group: dict[int, list[SpatialLayer]] = {}
        for name, trace in self.modules.items():
            if trace.layout is not None and trace.n_calls == 1:
                by_group.setdefault(trace.group, []).append(SpatialLayer(name, trace.layout, trace.order))
        outermost = (min(group, key=lambda layer: (layer.name.count("."), layer.order)) for group in by_group.values())
        # a tensor is complete when its first module is; its outer names come later
        first = {id(group): min(layer.order for layer in group) for group in by_group.values()}
        firsts = [first[id(group)] for group in by_group.values()]
        placed = [replace(layer, order=order) for layer, order in zip(outermost, firsts, strict=True)]
        return tuple(sorted(placed, key=lambda layer: layer.order))

    def find(self, name: str, path: str, known: tuple[str, ...]) -> SpatialLayer:
        """The module `name` as a spatial layer.

        Raises:
            LayerError: it is not one; says why, or names similar ones.
        """
        trace = self.modules.get(name)
        layers = [layer.name for layer in self.layers]
        if trace is None:
            near = nearest_names(name, layers) or layers[-3:]
            why = f"its module {name!r} is not used in a forward pass" if name in known else f"has no module {name!r}"
            raise LayerError(path, why, hint=f"spatial layers there: {', '.join(near)}" if near else None)
        if trace.layout is not None and trace.n_calls == 1:
            return SpatialLayer(name, trace.layout, trace.order)
        hint = f"spatial layers there: {', '.join(layers[-3:])}" if layers else None
        if trace.n_calls > 1:
            raise LayerError(path, f"its module {name!r} is used {trace.n_calls} times in a forward pass", hint)
        shape = " x ".join(map(str, trace.shape))
        returned = f"returns {shape} for a batch of images" if shape else "returns no tensor of one row per image"
        raise LayerError(path, f"its module {name!r} {returned}, no grid over the image", hint)


TraceLayers: TypeAlias = Callable[[Classifier, Tensor], TracedLayers]  # of a classifier, on images (n, c, h, w)


class LayerMemo:
    """Traces a network once for each size of image; whatever looks at it several times hands on one memo's `trace`.

    A trace holds names, shapes and layouts alone, so a copy of the network on another device has the same one. It is
    kept by all that it depends on: the weights' hash, what else the network was built from, and the images' shape.
    """

    def __init__(self) -> None:
        self._traced: dict[tuple[str, str, str, tuple[int, ...]], TracedLayers] = {}

    def trace(self, classifier: Classifier, images: Tensor) -> TracedLayers:
        """Return the layers that `trace_layers` finds in this network for images (n, c, h, w) of this size.

        Raises:
            LayerError: the forward pass fails; nothing is kept then.
        """
        key = (classifier.sha256, classifier.architecture, classifier.build_key, tuple(images.shape[1:]))
        if key not in self._traced:
            self._traced[key] = trace_layers(classifier, images)
        return self._traced[key]


def find_spatial_layers(
    classifier: Classifier, images: Tensor, trace: TraceLayers | None = None
) -> tuple[SpatialLayer, ...]:
    """All spatial layers in order of execution, verified on the first few of `images` (n, c, h, w).

    Args:
        classifier: its network is not changed.
        images: the first few are traced.
        trace: of a `LayerMemo`; None: a pass of its own.

    Raises:
        LayerError: there is none, or the forward pass fails.
    """
    layers = (trace or trace_layers)(classifier, images).layers
    if not layers:
        raise LayerError(str(classifier.path), "no module's output is a grid over the image", hint=HINT)
    return layers


def trace_layers(classifier: Classifier, images: Tensor) -> TracedLayers:
    """One watched pass over images with changed corners; only shapes and layouts are kept.

    In a grid of 2 x 2 every position of a deep convolutional network may see the whole image, and corners show
    nothing. Where maps follow the last verified one, a second pass over images of twice the size verifies their layout.

    Raises:
        LayerError: the forward pass fails.
    """
    images = images[:TRACED_IMAGES]
    try:
        modules = _watch_pass(classifier.model, images)
    except Exception as error:  # the network's own code may raise anything
        shape = " x ".join(map(str, images.shape[1:]))
        why = f"a forward pass of images of {shape} failed ({summarise_error(error)})"
        raise LayerError(str(classifier.path), why) from error
    verified = max((trace.order for trace in modules.values() if trace.layout is not None), default=0)
    doubtful = [name for name, trace in modules.items() if trace.order > verified and _may_be_map(trace, images)]
    if doubtful:
        _verify_enlarged(classifier.model, images[:2], modules)
    return TracedLayers(modules)


def _verify_enlarged(model: nn.Module, images: Tensor, traces: dict[str, _ModuleTrace]) -> None:
    """Adds layouts that show at twice the size; a network that takes one size only gains none this way."""
    try:
        larger = _watch_pass(model, functional.interpolate(images, scale_factor=2, mode="bilinear"))
    except Exception:  # the network's own code may raise anything
        return
    for name, trace in traces.items():
        layout = larger[name].layout if name in larger else None
        if trace.layout is not None or layout is None or not _may_be_map(trace, images):
            continue
        first = layout.kind == CHANNELS_FIRST
        channels, height, width = trace.shape[1:] if first else (trace.shape[3], *trace.shape[1:3])
        if layout.channels == channels and layout.height > height and layout.width > width and min(height, width) > 1:
            trace.layout = replace(layout, height=height, width=width)


def _may_be_map(trace: _ModuleTrace, images: Tensor) -> bool:
    """Four axes, of which at least two can be a grid over the image."""
    largest = max(images.shape[2:])
    return len(trace.shape) == 4 and sum(2 <= side <= largest for side in trace.shape[1:]) >= 2


def _watch_pass(model: nn.Module, images: Tensor) -> dict[str, _ModuleTrace]:
    n_prefix = getattr(model, "num_prefix_tokens", None)
    watch = _Watch(images, n_prefix if isinstance(n_prefix, int) else None)
    named = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(watch.make_hook(name)) for name, module in named]
    try:
        with torch.no_grad():  # versions of tensors are counted, unlike in inference mode
            model(change_corners(images))
    finally:
        for handle in handles:
            handle.remove()
    return watch.modules


class _Watch:
    """Hooks that note every module's output while a pass runs."""

    def __init__(self, images: Tensor, n_prefix: int | None) -> None:
        self.modules: dict[str, _ModuleTrace] = {}
        self._n_rows, self._image = 5 * len(images), tuple(images.shape[1:])
        self._size = (images.shape[2], images.shape[3])
        self._n_prefix, self._n_groups, self._n_calls = n_prefix, 0, 0
        # by id: the tensor, how often it had been changed in place, its group and layout
        self._known: dict[int, tuple[weakref.ref[Tensor], int, int, GridLayout | None]] = {}

    def make_hook(self, name: str) -> Any:
        """The forward hook of the module `name`."""

        def hook(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            trace = self.modules.setdefault(name, _ModuleTrace(order=0))
            trace.n_calls += 1
            self._n_calls += 1
            trace.order = self._n_calls
            if isinstance(output, Tensor) and output.is_floating_point() and output.shape[:1] == (self._n_rows,):
                trace.shape = tuple(output.shape)
                trace.group, trace.layout = self._place(output)

        return hook

    def _place(self, output: Tensor) -> tuple[int, GridLayout | None]:
        """The number of the tensor and its layout, found once for modules that return the same."""
        known = self._known.get(id(output))
        if known is not None and known[0]() is output and known[1] == output._version:
            return known[2], known[3]
        layout = None
        if output.ndim in (3, 4) and tuple(output.shape[1:]) != self._image:
            layout = find_layout(output, self._size, self._n_prefix)
        self._n_groups += 1
        self._known[id(output)] = (weakref.ref(output), output._version, self._n_groups, layout)
        return self._n_groups, layout
