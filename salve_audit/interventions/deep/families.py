"""Networks whose residual stream is known by their modules' names; nothing is believed before `stream` verifies it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from salve_audit.interventions.deep.writers import Writer

SHORTCUTS = ("downsample", "shortcut")  # what timm and torchvision, and many CIFAR networks, call it


@dataclass(frozen=True)
class Block:
    """One block: ``output = act(input + writers' outputs)``, or with the entry's output in the input's place.

    Attributes:
        name: dotted path; takes the stream and returns it.
        writers: their outputs are added to what comes in.
        entry: a layer whose output takes the place of what comes in, or None.
        rectified: a ReLU comes after the sum.
    """

    name: str
    writers: tuple[Writer, ...]
    entry: Writer | None = None
    rectified: bool = False

    @property
    def all_writers(self) -> tuple[Writer, ...]:
        """All writers in the order in which they run."""
        return self.writers if self.entry is None else (self.entry, *self.writers)


@dataclass(frozen=True)
class Skeleton:
    """Blocks and norms of a network as its names suggest them, not yet verified.

    Attributes:
        family: in words.
        blocks: those that may share the last stream, in order; the last one ends it.
        norms: dotted paths of LayerNorms that may lie between stream and head.
        below: what writes into the stream before the first block, in words.
    """

    family: str
    blocks: tuple[Block, ...]
    norms: tuple[str, ...]
    below: str


def guess_skeleton(model: nn.Module) -> Skeleton | None:
    """The skeleton by names and types; None: of no known family."""
    for guess in (_guess_resnet, _guess_transformer, _guess_convnext):
        skeleton = guess(model)
        if skeleton is not None:
            return skeleton
    return None


def _guess_resnet(model: nn.Module) -> Skeleton | None:
    stages = [name for name, _ in model.named_children() if re.fullmatch(r"layer\d", name)]
    if not stages:
        return None
    last = stages[-1]
    blocks = [_residual_block(f"{last}.{name}", block) for name, block in model.get_submodule(last).named_children()]
    known = [block for block in blocks if block is not None]
    if not known or len(known) < len(blocks):
        return None
    return Skeleton("ResNet", tuple(known), (), f"what comes into {known[0].name}")


def _residual_block(name: str, block: Any) -> Block | None:
    number = next((i for i in (3, 2) if hasattr(block, f"conv{i}")), None)
    if number is None or getattr(block, "se", None) is not None:
        return None
    writer = _convolution(f"{name}.conv{number}", f"{name}.bn{number}", block)
    if writer is None:
        return None
    entry = next((_shortcut(f"{name}.{own}", getattr(block, own)) for own in SHORTCUTS if hasattr(block, own)), None)
    return Block(name, (writer,), entry, rectified=True)


def _shortcut(name: str, shortcut: Any) -> Writer | None:
    """A convolution with its BatchNorm, maybe after pooling."""
    if not isinstance(shortcut, nn.Sequential) or len(shortcut) < 2:
        return None
    (conv, first), (norm, second) = list(shortcut.named_children())[-2:]
    return Writer(f"{name}.{conv}", f"{name}.{norm}", axis=1) if _are_affine(first, second) else None


def _convolution(layer: str, norm: str, block: nn.Module) -> Writer | None:
    parts = dict(block.named_children())
    first, second = (parts.get(name.rpartition(".")[2]) for name in (layer, norm))
    return Writer(layer, norm, axis=1) if _are_affine(first, second) else None


def _are_affine(conv: Any, norm: Any) -> bool:
    """A convolution and a BatchNorm that uses running statistics, both with weights of their own."""
    return (
        isinstance(conv, nn.Conv2d)
        and conv.groups == 1
        and type(norm) is nn.BatchNorm2d
        and norm.weight is not None
        and norm.running_var is not None
    )


def _guess_transformer(model: nn.Module) -> Skeleton | None:
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or not len(blocks):
        return None
    made = [_attention_block(f"blocks.{name}", block) for name, block in blocks.named_children()]
    known = [block for block in made if block is not None]
    if len(known) < len(made):
        return None
    return Skeleton("vision transformer", tuple(known), _find_norms(model, ("norm", "fc_norm")), "the embeddings")


def _attention_block(name: str, block: Any) -> Block | None:
    layers = {"attn.proj": ("ls1.gamma", "gamma_1"), "mlp.fc2": ("ls2.gamma", "gamma_2")}
    writers = []
    for layer, gates in layers.items():
        if not isinstance(_find(block, layer), nn.Linear):
            return None
        gate = next((name_of_gate for name_of_gate in gates if isinstance(_find(block, name_of_gate), Tensor)), None)
        writers.append(Writer(f"{name}.{layer}", gate=None if gate is None else f"{name}.{gate}"))
    return Block(name, tuple(writers))


def _guess_convnext(model: nn.Module) -> Skeleton | None:
    stages = getattr(model, "stages", None)
    if not isinstance(stages, nn.Sequential) or not len(stages):
        return None
    name, stage = f"stages.{len(stages) - 1}", stages[-1]
    blocks, opening = getattr(stage, "blocks", None), getattr(stage, "downsample", None)
    if not isinstance(blocks, nn.Sequential):
        return None
    made = [_convnext_block(f"{name}.blocks.{own}", block) for own, block in blocks.named_children()]
    known = [block for block in made if block is not None]
    if not known or len(known) < len(made):
        return None
    if isinstance(opening, nn.Sequential) and len(opening) and isinstance(opening[-1], nn.Conv2d):
        entry = Writer(f"{name}.downsample.{len(opening) - 1}", axis=1)
        known.insert(0, Block(f"{name}.downsample", (), entry))
    norms = _find_norms(model, ("norm_pre", "head.norm"))
    return Skeleton("ConvNeXt", tuple(known), norms, f"what comes into {known[0].name}")


def _convnext_block(name: str, block: Any) -> Block | None:
    layer = _find(block, "mlp.fc2")
    if not hasattr(block, "conv_dw") or not isinstance(layer, nn.Linear | nn.Conv2d):
        return None
    gate = f"{name}.gamma" if isinstance(getattr(block, "gamma", None), Tensor) else None
    return Block(name, (Writer(f"{name}.mlp.fc2", gate=gate, axis=1 if isinstance(layer, nn.Conv2d) else -1),))


def _find_norms(model: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if isinstance(_find(model, name), nn.LayerNorm))


def _find(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module
