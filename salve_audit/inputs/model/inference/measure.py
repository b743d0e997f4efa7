"""One architecture measured on the meta device: which of its shapes follow classes, channels and image size."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from salve_audit.inputs.model.inference.index import Entry, SizeRule
from salve_audit.inputs.model.inference.signature import (
    Shapes,
    hash_names,
    hash_order,
    hash_shapes,
    mask_dims,
    read_shapes,
    sketch_shapes,
)

TORCHVISION = "torchvision:"
N_CLASSES = (1000, 1013)  # primes beside no layer's width, so that a changed side is the classes'
N_CHANS = (3, 5)
SMALL_SIZE = 64
SIZE_FACTORS = (1, 2, 3)  # multiples keep every divisibility that the default size has
# poolings under which a timm network's tensors are named differently
POOLINGS = ({"global_pool": "avg"}, {"global_pool": "token"})
WITHOUT_AUXILIARY = ({"aux_logits": False},)


# in-place arithmetic of initialisers, which changes no shape
INITIALISING = frozenset(
    f"{name}_" for name in ("uniform", "normal", "fill", "zero", "mul", "add", "sub", "div", "erfinv", "clamp", "copy")
)


class WithoutValues(TorchFunctionMode):
    """Builds a network without drawing its weights, which takes most of the time.

    Args:
        only_parameters: buffers keep their values; for a network whose parameters are all loaded afterwards.
    """

    def __init__(self, only_parameters: bool = False) -> None:
        super().__init__()
        self.kind = nn.Parameter if only_parameters else torch.Tensor

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        target = args[0] if args else given.get("tensor")
        if getattr(func, "__name__", "") in INITIALISING and isinstance(target, self.kind):
            return target
        return func(*args, **given)


@dataclass(frozen=True)
class Family:
    """A library's builder of architectures: names of the arguments for classes, channels and size."""

    build: Callable[..., nn.Module]
    chans: str | None
    size: str


def build_timm(name: str, **kwargs: Any) -> nn.Module:
    """timm's network of that name, without weights."""
    return timm.create_model(name, pretrained=False, **kwargs)


def build_torchvision(name: str, **kwargs: Any) -> nn.Module:
    """torchvision's network of that name (with or without its prefix), without weights."""
    from torchvision.models import get_model

    return get_model(name.removeprefix(TORCHVISION), weights=None, **kwargs)


def family_of(name: str) -> Family:
    """The library of a name: torchvision where it has the prefix, else timm."""
    if name.startswith(TORCHVISION):
        return Family(build_torchvision, None, "image_size")
    return Family(build_timm, "in_chans", "img_size")


def build_shapes(name: str, **kwargs: Any) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of the network's tensors, or None where it cannot be built so."""
    for device in ("meta", "cpu"):  # nearly always the first
        try:
            with warnings.catch_warnings(), torch.device(device), WithoutValues():
                warnings.simplefilter("ignore")
                return read_shapes(family_of(name).build(name, **kwargs).state_dict())
        except NotImplementedError:  # noqa: PERF203 - its constructor reads numbers off a tensor; unused memory costs nothing
            continue
        except Exception:  # a constructor may dislike any of the arguments; the caller tries others
            return None
    return None


def measure_architecture(name: str, kwargs: Mapping[str, Any] | None = None) -> Entry | None:
    """The index entry of `name` built with `kwargs`, or None where it has no classifier or cannot be built."""
    family, given = family_of(name), dict(kwargs or {})
    default = build_shapes(name, num_classes=N_CLASSES[0], **given)
    if default is None:
        return None
    other = build_shapes(name, num_classes=N_CLASSES[1], **given)
    classes = _changed_dims(default, other)
    if not classes:
        return None
    chans = {}
    if family.chans is not None:
        chans = _changed_dims(
            default, build_shapes(name, num_classes=N_CLASSES[0], **{family.chans: N_CHANS[1]}, **given)
        )
    sizes, rule = _measure_sizes(name, family, default, given)
    fixed = mask_dims(default, classes, chans, sizes)
    return Entry(
        name=name,
        kwargs=given,
        names_hash=hash_names(default),
        fixed_hash=hash_shapes(fixed),
        default_hash=hash_shapes(mask_dims(default, classes, chans)),
        sketch=sketch_shapes(fixed),
        classes=classes,
        chans=chans,
        sizes=sizes,
        chan_unit=next((default[name][dims[0]] for name, dims in chans.items()), N_CHANS[0]) // N_CHANS[0],
        rule=rule,
        default_size=_default_size(name),
        order_hash=hash_order(default),
    )


def measure_all(name: str) -> list[Entry]:
    """The entry of `name`, and of each pooling or auxiliary output that gives it other tensors."""
    plain = measure_architecture(name)
    if plain is None:
        return []
    entries, measured = [plain], {plain.names_hash}
    for variant in WITHOUT_AUXILIARY if name.startswith(TORCHVISION) else POOLINGS:
        shapes = build_shapes(name, num_classes=N_CLASSES[0], **variant)
        if shapes is None or hash_names(shapes) in measured:
            continue
        entry = measure_architecture(name, variant)
        if entry is not None:
            entries.append(entry)
            measured.add(entry.names_hash)
    return entries


def _measure_sizes(
    name: str, family: Family, default: Shapes, given: Mapping[str, Any]
) -> tuple[dict[str, tuple[int, ...]], SizeRule | None]:
    """Dims that follow the image's size, and how the first such side grows with it."""
    size = _default_size(name)
    if size is None:
        return {}, None
    build = {
        side: build_shapes(name, num_classes=N_CLASSES[0], **{family.size: side}, **given)
        for side in (*(factor * size for factor in SIZE_FACTORS), SMALL_SIZE)
    }
    changed: dict[str, tuple[int, ...]] = {}
    for side, shapes in build.items():
        for tensor, dims in _changed_dims(default, shapes).items():
            if side == size:
                return {}, None  # the constructor does not build its default from that argument
            changed[tensor] = tuple(sorted({*changed.get(tensor, ()), *dims}))
    return changed, _find_rule(size, build, changed)


def _find_rule(
    size: int, build: Mapping[int, Shapes | None], changed: Mapping[str, tuple[int, ...]]
) -> SizeRule | None:
    sides = tuple(factor * size for factor in SIZE_FACTORS)
    grown = [shapes for side in sides if (shapes := build[side]) is not None]
    if len(grown) < len(sides):
        return None
    for tensor, dims in changed.items():
        for dim in dims:
            values = tuple(shapes[tensor][dim] for shapes in grown)
            if len(set(values)) == len(values):
                return SizeRule(tensor, dim, sides, values)
    return None


def _changed_dims(shapes: Shapes, changed: Shapes | None) -> dict[str, tuple[int, ...]]:
    """Dims whose sides differ; nothing where the two have other tensors altogether."""
    if changed is None or shapes.keys() != changed.keys():
        return {}
    return {
        name: tuple(i for i, (a, b) in enumerate(zip(shape, changed[name], strict=True)) if a != b)
        for name, shape in shapes.items()
        if shape != changed[name] and len(shape) == len(changed[name])
    }


def _default_size(name: str) -> int | None:
    if name.startswith(TORCHVISION):
        return 224
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    size = getattr(config, "input_size", None)
    return int(size[-1]) if size else None
