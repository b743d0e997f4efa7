"""The cost of a run of a network, counted instead of timed, so that plans do not depend on the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

COUNTED = (nn.Conv2d, nn.Linear)


def count_work(modules: Iterable[nn.Module], run: Callable[[], object]) -> float:
    """Multiply-adds of those of `modules` that are convolutions or linear layers, during `run`."""
    total = 0.0

    def add(module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal total
        weight = module.weight
        if isinstance(output, Tensor) and isinstance(weight, Tensor):
            total += output.numel() * weight[0].numel()

    handles = [module.register_forward_hook(add) for module in modules if isinstance(module, COUNTED)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return total
