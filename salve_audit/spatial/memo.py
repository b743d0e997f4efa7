"""Outputs of modules before a layer ran: recorded in a pass, and given back again for chosen images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Calls = Mapping[str, list[Any]]  # by module: what each of its calls gave back


class _Reached(BaseException):
    """Ends a pass at a layer; no error, so that the network's own code does not catch it."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


def run_up_to(model: nn.Module, layer_name: str, images: Float[Tensor, "b c h w"]) -> Tensor | None:
    """What the layer gives first, by a pass without gradients that ends there; None: the pass does not use it."""

    def stop(module: nn.Module, arguments: object, output: Tensor) -> None:
        raise _Reached(output)

    handle = model.get_submodule(layer_name).register_forward_hook(stop)
    try:
        with torch.no_grad():
            model(images)
    except _Reached as reached:
        return reached.output
    finally:
        handle.remove()
    return None


class Recorder:
    """Watches one pass up to the layer.

    Args:
        wanted: modules to record; None: all.

    Attributes:
        output: of the layer; None: it did not run.
        before: by module, what it gave back before the layer finished, call by call. Modules inside of others are
            left out, and so are those around the layer: they run again.
    """

    def __init__(self, model: nn.Module, layer_name: str, wanted: Collection[str] | None = None) -> None:
        self.output: Tensor | None = None
        self.before: dict[str, list[Any]] = {}
        self._model, self._layer_name, self._wanted = model, layer_name, wanted
        # calls under way, outermost first, each with what finished directly inside of it
        self._open: list[list[tuple[str, Any]]] = [[]]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Records while the block runs; the hooks are taken off afterwards."""
        named = [(name, module) for name, module in self._model.named_modules() if name]
        handles = [module.register_forward_pre_hook(self._enter) for _, module in named]
        handles += [module.register_forward_hook(self._make_exit(name)) for name, module in named]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if self.output is None:
            self._open.append([])

    def _make_exit(self, name: str) -> Any:
        def leave(module: nn.Module, arguments: tuple[Any, ...], returned: Any) -> Any:
            if self.output is not None:
                return None
            self._open.pop()
            if name != self._layer_name:
                if self._wanted is not None and name not in self._wanted:
                    return None
                self._open[-1].append((name, returned))
                return _map_tensors(torch.clone, returned)  # what follows may change it in place
            for inner in self._open:
                for finished, given in inner:
                    self.before.setdefault(finished, []).append(given)
            self._open = []
            self.output = returned
            return returned.clone()

        return leave


@contextmanager
def giving_back(module: nn.Module, calls: list[Any]) -> Iterator[None]:
    """Replays recorded outputs: inside the block the module's first calls give back `calls`; later ones run it."""
    left, forward, own = list(calls), module.forward, vars(module).get("forward")

    def replay(*arguments: Any, **keywords: Any) -> Any:
        return left.pop(0) if left else forward(*arguments, **keywords)

    module.forward = replay
    try:
        yield
    finally:
        if own is None:
            del module.forward  # the class's own shows again
        else:
            module.forward = own


def pick_rows(given: Any, rows: Int[Tensor, " r"], n: int) -> Any:
    """The images in `rows` out of what a module gave back for `n` images; windows of an image stay together."""

    def pick(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or len(tensor) % n or not len(tensor):
            return tensor  # the same whatever the images
        return tensor.reshape(n, -1, *tensor.shape[1:])[rows.to(tensor.device)].flatten(0, 1)

    return _map_tensors(pick, given)


def blank_rows(given: Any, n_rows: int, n: int, *, solid: bool) -> Any:
    """NaN in the shape that a module would give back for `n_rows` images, from what it gave for `n`.

    Args:
        solid: in memory of its own, where the network changes it in place.
    """

    def blank(tensor: Tensor) -> Tensor:
        varies = tensor.ndim > 0 and len(tensor) > 0 and len(tensor) % n == 0
        shape = (len(tensor) // n * n_rows, *tensor.shape[1:]) if varies else tuple(tensor.shape)
        value = float("nan") if tensor.is_floating_point() else 0
        return tensor.new_full(shape, value) if solid else tensor.new_full((), value).expand(shape)

    return _map_tensors(blank, given)


def shrink(given: Any, n: int) -> Any:
    """A template for `blank_rows` without memory of its own."""
    return blank_rows(given, n, n, solid=False)


def _map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Changes the tensors inside lists, tuples and mappings; anything else stays as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map_tensors(change, item) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_map_tensors(change, item) for item in value)
    if isinstance(value, dict):
        return {key: _map_tensors(change, item) for key, item in value.items()}
    return value
