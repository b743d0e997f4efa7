"""The layers that maps are made of: the last one that all of the head's inputs pass through, or one in the middle.

The output of a transformer's last block has patch tokens that nobody reads where the head takes the class token: their
gradient is zero and a map of it is constant. Inside of that block there are modules with a gradient, but the class
token passes beside them. So both are needed: a finite map that is not constant, and that nothing else reaches the
head; where no layer has the second (several streams), the deepest with the first is taken. Deep in a transformer the
class token has already gathered what it needs; the share of the head's inputs that passes through a layer's positions
is therefore measured for the layer in the middle.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.errors import LayerError, SalveError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.trace import watch_inputs
from salve_audit.inputs.reasons import summarise_error
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import HINT, TRACED_IMAGES, SpatialLayer, TraceLayers, find_spatial_layers, trace_layers

LEAST_SHARE = 0.5
SHARED_IMAGES = 16
MOST_TRIED = 32  # layers, from the last one; the answer is within the last block
LEAST_VARIATION = 1e-6  # of a map, relative to its largest value


def last_spatial_layer(
    classifier: Classifier, images: Tensor, name: str | None = None, trace: TraceLayers | None = None
) -> SpatialLayer:
    """The layer that maps are made of, verified on the first few of `images` (n, c, h, w).

    Args:
        name: dotted path of a layer; it need not be one that everything passes through. None: found by itself.
        trace: of a `LayerMemo`; None: a pass of its own.

    Raises:
        LayerError: there is none, or the named one is no spatial layer or has no map; says why.
    """
    path, images = str(classifier.path), images[:TRACED_IMAGES]
    if name is not None:
        known = tuple(module_name for module_name, _ in classifier.model.named_modules())
        layer = (trace or trace_layers)(classifier, images).find(name, path, known)
        if not _have_maps(classifier, [layer], images)[0]:
            why = f"the map of its module {name!r} is constant or not finite: the head does not read its positions"
            raise LayerError(path, why, hint="name an earlier layer with --saliency-layer MODULE")
        with CutNetwork(classifier.model, layer, classifier.reader, path) as cut:
            cut.verify(images)
        return layer
    layers = find_spatial_layers(classifier, images, trace)
    able = _have_maps(classifier, layers, images)
    mapped = [layer for layer, has_map in zip(layers, able, strict=True) if has_map][
        : -MOST_TRIED - 1 : -1
    ]  # the last first
    with CutNetwork(classifier.model, layers[-1], classifier.reader, path) as whole:
        narrow = (layer for layer in mapped if whole.at(layer).is_bottleneck(images))  # tried as they are asked for
        for layer in itertools.chain(narrow, mapped):
            try:
                whole.at(layer).verify(images)
            except LayerError:
                continue
            return layer
    raise LayerError(path, "no layer has a map that is finite and not constant", hint=HINT)


def middle_spatial_layer(classifier: Classifier, images: Tensor, trace: TraceLayers | None = None) -> SpatialLayer:
    """The layer for sharp maps: the nearest to the middle of the network's execution that will do.

    It has a map, all passes through it, and at least half of what the head sees passes through its positions: where
    class tokens have gathered more than that already, a map shows little. Where no layer has all of this, it is the one
    whose positions carry most, or the last spatial layer.

    Args:
        classifier: its network is not changed.
        images: (n, c, h, w), of which the first 16 are used.
        trace: of a `LayerMemo`; None: a pass of its own.

    Raises:
        LayerError: there is no spatial layer.
    """
    images = images[:SHARED_IMAGES]
    layers = find_spatial_layers(classifier, images, trace)
    able = _have_maps(classifier, layers, images[:TRACED_IMAGES])
    mapped = [layer for layer, has_map in zip(layers, able, strict=True) if has_map]
    best, most = None, 0.0
    with CutNetwork(classifier.model, layers[-1], classifier.reader, str(classifier.path)) as whole:
        for layer in _order_from_middle(mapped, layers[-1].order / 2):
            cut = whole.at(layer)
            if not cut.is_bottleneck(images):
                continue
            share = measure_share(cut, images)
            if share >= LEAST_SHARE:
                return layer
            if share > most:
                best, most = layer, share
    return best or last_spatial_layer(classifier, images, trace=trace)


def measure_share(cut: CutNetwork, images: Float[Tensor, "n c h w"]) -> float:
    """The way of images' activations towards other images' when they get their positions: 1 all of it, 0 none.

    A single image is held against noise.

    Raises:
        LayerError: the network fails.
    """
    if len(images) == 1:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
        images = torch.cat([images, noise * images.std()])
    layout, passed = cut.layer.layout, cut.run(images)
    rows = torch.arange(len(images), device=images.device)
    other = rows.roll(len(rows) // 2)
    mixed = layout.with_positions(passed.output, layout.to_positions(passed.output)[other])
    with torch.no_grad():
        acts = cut.follow(passed, mixed, rows).acts
    way = passed.acts[other] - passed.acts
    length = float(way.square().sum())
    return float(((acts - passed.acts) * way).sum()) / length if length else 0.0


def _order_from_middle(layers: Sequence[SpatialLayer], middle: float) -> list[SpatialLayer]:
    """Nearest first: a few of all layers, and more of those that are no inner parts of blocks."""
    nearest = sorted(layers, key=lambda layer: abs(layer.order - middle))
    outer = [layer for layer in nearest if layer.name.count(".") <= 1]
    chosen = {*nearest[: MOST_TRIED // 4], *outer[:MOST_TRIED]}
    return [layer for layer in nearest if layer in chosen]


def _have_maps(classifier: Classifier, layers: Sequence[SpatialLayer], images: Tensor) -> list[bool]:
    """For each layer, True where its map for a random direction of the head's inputs is finite and not constant."""
    path = str(classifier.path)
    model = copy.deepcopy(classifier.model).eval().requires_grad_(False)
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, list[Tensor]] = {}
    for layer in layers:
        model.get_submodule(layer.name).register_forward_hook(_keep(outputs, layer.name))
    for module_name in classifier.reader.modules:
        watch_inputs(model, module_name, inputs)
    try:
        with torch.enable_grad():
            model(images.clone().requires_grad_())
        acts = classifier.reader.read(inputs, len(images), path)
        direction = torch.randn(acts.shape[1], generator=torch.Generator().manual_seed(0)).to(acts)
        layer_outputs = [outputs[layer.name] for layer in layers]
        grads = torch.autograd.grad((acts @ direction).sum(), layer_outputs, allow_unused=True)
    except SalveError:
        raise
    except Exception as error:  # the network's own code may raise anything
        why = f"the gradient of the head's inputs cannot be computed ({summarise_error(error)})"
        raise LayerError(path, why) from error
    return [
        gradient is not None and _says_something(layer, output, gradient)
        for layer, output, gradient in zip(layers, layer_outputs, grads, strict=True)
    ]


def _keep(outputs: dict[str, Tensor], name: str):  # type: ignore[no-untyped-def]
    def hook(_: nn.Module, arguments: object, output: Tensor) -> Tensor:
        outputs[name] = output
        return output.clone()  # what follows may change it in place

    return hook


def _says_something(layer: SpatialLayer, output: Tensor, gradient: Tensor) -> bool:
    """True where the paper's map is finite everywhere, and not constant on at least half of the images."""
    weights = layer.layout.to_positions(gradient).mean(1)  # (n, c)
    maps = torch.einsum("npc,nc->np", layer.layout.to_positions(output.detach()), weights).abs()
    if not torch.isfinite(maps).all():
        return False
    varied = maps.amax(1) - maps.amin(1) > LEAST_VARIATION * maps.amax(1)
    return bool(varied.float().mean() >= 0.5)
