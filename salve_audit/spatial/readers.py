"""The modules that read a layer's output, and changes of its channels moved into their weights.

At a foldable layer nothing but its output reaches the head, and every reader is a convolution or a linear layer on it.
There ``x -> x - t (x R^T) D`` on the channels of every position is the same as ``W' = W (I - t D^T R)`` in the readers:
there is no constant term, so a padding of zeros stays what it is. Who is given the tensor is seen in a pass; that they
are all, and that they are linear in it, is verified by comparing both on images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.errors import LayerError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.exact import exact_convolutions
from salve_audit.inputs.model.head.trace import as_logits
from salve_audit.inputs.model.head.verification import VERIFIED_WITHIN
from salve_audit.inputs.reasons import summarise_error
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import TRACED_IMAGES, SpatialLayer, TraceLayers, find_spatial_layers
from salve_audit.spatial.layout import CHANNELS_FIRST, GridLayout

READERS = (nn.Conv2d, nn.Linear)
POOLS = (nn.AvgPool2d,)  # work on each channel alone and linearly, so they commute with a change of channels
N_CHANGES = 2  # random changes
LEAST_EFFECT = 1e-3  # of a random change on the outputs, relative to them: else equality would show nothing


@dataclass(frozen=True)
class FoldableLayer:
    """A spatial layer and the modules that read it, all of them."""

    layer: SpatialLayer
    readers: tuple[str, ...]

    def fold(self, model: nn.Module, change: Float[np.ndarray, "c c"]) -> dict[str, np.ndarray]:
        """New weights, float64, by the network's names, that do what ``x -> x @ change`` on the channels does."""
        return {f"{name}.weight": _fold(model.get_submodule(name), change) for name in self.readers}

    @contextmanager
    def changing(self, model: nn.Module, change: Float[np.ndarray, "c c"]) -> Iterator[nn.Module]:
        """The network with its own weights, the layer's output changed by a hook, as long as the block runs."""
        layout = self.layer.layout

        def hook(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
            matrix = torch.from_numpy(change).to(output.device)
            positions = layout.to_positions(output).double() @ matrix  # rounded once, as folded weights are
            return layout.with_positions(output, positions.to(output.dtype))

        handle = model.get_submodule(self.layer.name).register_forward_hook(hook)
        try:
            yield model
        finally:
            handle.remove()


def find_foldable_layer(
    classifier: Classifier, images: Float[Tensor, "n c h w"], after: SpatialLayer, trace: TraceLayers | None = None
) -> FoldableLayer | None:
    """The first foldable layer at or after `after` in the order of execution; None: there is none.

    Args:
        classifier: its network is not changed.
        images: a few are enough; noise will do.
        after: of `find_spatial_layers`.
        trace: of a `LayerMemo`; None: a pass of its own.

    Raises:
        LayerError: the network fails.
    """
    images = images[:TRACED_IMAGES]
    layers = [layer for layer in find_spatial_layers(classifier, images, trace) if layer.order >= after.order]
    return next(_search(classifier, images, layers), None)


def require_foldable_layer(
    classifier: Classifier, images: Float[Tensor, "n c h w"], name: str, trace: TraceLayers | None = None
) -> FoldableLayer:
    """The layer of that name, verified again.

    Args:
        classifier: its network is not changed.
        images: a few are enough; noise will do.
        name: dotted path.
        trace: of a `LayerMemo`; None: a pass of its own.

    Raises:
        LayerError: the network fails, or the layer is not foldable.
    """
    images = images[:TRACED_IMAGES]
    layers = [layer for layer in find_spatial_layers(classifier, images, trace) if layer.name == name]
    foldable = next(_search(classifier, images, layers), None)
    if foldable is None:
        why = f"a change of what its module {name!r} returns cannot be moved into the weights behind it"
        raise LayerError(str(classifier.path), why)
    return foldable


def _search(classifier: Classifier, images: Tensor, layers: Sequence[SpatialLayer]) -> Iterator[FoldableLayer]:
    readers = _watch_readers(classifier, images, layers)
    head = set(classifier.reader.modules)
    cut: CutNetwork | None = None
    for layer in layers:
        names = readers.get(layer.name, ())
        if not names or head & set(names):  # what the head reads is edited there
            continue
        if cut is None:
            cut = CutNetwork(classifier.model, layer, classifier.reader, str(classifier.path))
        foldable = FoldableLayer(layer, names)
        if cut.at(layer).is_bottleneck(images) and _is_verified(classifier, images, foldable):
            yield foldable


def _watch_readers(
    classifier: Classifier, images: Tensor, layers: Sequence[SpatialLayer]
) -> Mapping[str, tuple[str, ...]]:
    """Records, by layer, the convolutions and linear layers that are given its output, in one pass."""
    watch = _Watch({layer.name for layer in layers})
    handles = [
        handle for name, module in classifier.model.named_modules() if name for handle in watch.attach(name, module)
    ]
    try:
        with torch.no_grad():  # versions of tensors are counted, unlike in inference mode
            classifier.model(images)
    except Exception as error:  # the network's own code may raise anything
        raise LayerError(str(classifier.path), f"a forward pass failed ({summarise_error(error)})") from error
    finally:
        for handle in handles:
            handle.remove()
    return {name: tuple(dict.fromkeys(names)) for name, names in watch.readers.items()}


class _Watch:
    """Hooks that note who is given which layer's output, as long as nobody has changed it in place."""

    def __init__(self, wanted: set[str]) -> None:
        self.readers: dict[str, list[str]] = {}
        self._wanted = wanted
        self._owners: dict[tuple[int, int], set[str]] = {}  # by memory and how often it had been written to
        self._kept: list[Tensor] = []  # so that memory is not given to another tensor

    def attach(self, name: str, module: nn.Module) -> list[Any]:
        """The hooks that this module needs."""
        handles = []
        if name in self._wanted:
            handles.append(module.register_forward_hook(lambda _, __, output: self._keep(name, output)))
        if isinstance(module, READERS):
            handles.append(module.register_forward_pre_hook(lambda _, given: self._read(name, given)))
        if isinstance(module, POOLS):
            handles.append(module.register_forward_hook(lambda _, given, output: self._pass_on(given, output)))
        return handles

    def _keep(self, name: str, output: Tensor) -> None:
        self._own(output, {name})

    def _read(self, name: str, given: tuple[Any, ...]) -> None:
        for owner in self._owners_of(given):
            self.readers.setdefault(owner, []).append(name)

    def _pass_on(self, given: tuple[Any, ...], output: Tensor) -> None:
        self._own(output, self._owners_of(given))

    def _own(self, output: Tensor, owners: set[str]) -> None:
        self._owners.setdefault(_key(output), set()).update(owners)
        self._kept.append(output)

    def _owners_of(self, given: tuple[Any, ...]) -> set[str]:
        tensor = given[0] if given else None
        return self._owners.get(_key(tensor), set()) if isinstance(tensor, Tensor) else set()


def _key(tensor: Tensor) -> tuple[int, int]:
    """A key of the memory and its version, which views of a tensor share."""
    return tensor.untyped_storage().data_ptr(), tensor._version


def _fold(module: nn.Module, change: np.ndarray) -> np.ndarray:
    weight = module.weight
    assert isinstance(weight, Tensor), f"a {type(module).__name__} has a weight"
    values = weight.detach().double().cpu().numpy()
    return np.moveaxis(np.tensordot(values, change, axes=([1], [1])), -1, 1)


def _is_verified(classifier: Classifier, images: Tensor, foldable: FoldableLayer) -> bool:
    """True where random changes, by a hook on the layer and by new weights in its readers, have equal outputs."""
    model, layout = classifier.model, foldable.layer.layout
    if not all(_has_inputs(model.get_submodule(name), layout) for name in foldable.readers):
        return False
    rng = np.random.default_rng(0)
    own = _run(classifier, images)
    for _ in range(N_CHANGES):
        readout, direction = rng.normal(size=(2, layout.channels)) / layout.channels**0.5
        change = np.eye(layout.channels) - np.outer(readout, direction)
        with foldable.changing(model, change):
            expected = _run(classifier, images)
        with replaced_weights(model, foldable.fold(model, change)):
            folded = _run(classifier, images)
        scale = float(expected.abs().max())
        moved = float((expected - own).abs().max())
        if not moved >= LEAST_EFFECT * scale or not float((folded - expected).abs().max()) <= VERIFIED_WITHIN * scale:
            return False
    return True


def _has_inputs(module: nn.Module, layout: GridLayout) -> bool:
    """True for a module that mixes the layer's channels freely."""
    if isinstance(module, nn.Conv2d):
        return layout.kind == CHANNELS_FIRST and module.groups == 1 and module.in_channels == layout.channels
    return isinstance(module, nn.Linear) and module.in_features == layout.channels


def _run(classifier: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad(), exact_convolutions():
        return as_logits(classifier.model(images), len(images), str(classifier.path)).double()


@contextmanager
def replaced_weights(model: nn.Module, values: Mapping[str, np.ndarray]) -> Iterator[nn.Module]:
    """The network with these values in its parameters, as long as the block runs."""
    parameters = {name: model.get_parameter(name) for name in values}
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(values[name])))
        yield model
    finally:
        for name, parameter in parameters.items():
            parameter.data.copy_(before[name])
