"""A network whose tensors have foreign names, recognised by the shapes of all of them in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from salve_audit.inputs.model.inference.index import Entry, Index
from salve_audit.inputs.model.inference.match import Fit, rank_fits
from salve_audit.inputs.model.inference.measure import TORCHVISION, build_shapes
from salve_audit.inputs.model.inference.signature import Shapes, hash_order, is_derived, read_shapes

LEAST = 8  # tensors; a few layers are in order anywhere
# names of TensorFlow's ports, whose padding and epsilon timm's networks with the prefix tf_ have
TENSORFLOW = ("_conv_stem.", "_blocks.0.", "_depthwise_conv")
TF_PREFIX = "tf_"


class Ordered(NamedTuple):
    """A network with these shapes in this order, the tensors under its names, and others that have them too."""

    fit: Fit
    state: dict[str, torch.Tensor]
    others: tuple[str, ...]


def match_by_order(
    index: Index, state: Mapping[str, torch.Tensor], name: str | None = None, said: str = ""
) -> Ordered | None:
    """The architecture, or `name` itself, that has exactly the shapes of `state` in their order; None: there is none.

    Names do not count, so that this is no proof: activations, strides and paddings leave no trace in shapes.
    """
    shapes = read_shapes(state)
    if len(shapes) < LEAST:
        return None
    entries = index.by_order.get(hash_order(shapes), ())
    fits = [_fit(entry, shapes) for entry in entries if name is None or entry.name == name]
    ranked = rank_fits([fit for fit in fits if fit is not None], said)
    if any(any(mark in key for mark in TENSORFLOW) for key in shapes):
        ranked.sort(key=lambda fit: not fit.name.startswith(TF_PREFIX))
    for place, fit in enumerate(ranked):
        named = _rename(fit, shapes, state)
        if named is not None:
            return Ordered(fit, named, tuple(other.name for other in ranked[place + 1 :]))
    return None


def _fit(entry: Entry, shapes: Shapes) -> Fit | None:
    sides = list(shapes.values())
    matrices = [shape for shape in sides if len(shape) == 2]
    kernels = [shape for shape in sides if len(shape) == 4]
    if not matrices:
        return None
    n_chans = kernels[0][1] if kernels and entry.chans else 3
    return None if entry.name.startswith(TORCHVISION) and n_chans != 3 else Fit(entry, matrices[-1][0], n_chans, None)


def _rename(fit: Fit, shapes: Shapes, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    own = build_shapes(fit.name, **fit.kwargs)
    if own is None or list(own.values()) != list(shapes.values()):
        return None
    if list(own) == list(shapes):
        return None  # the names fit too; that this did not match before has another reason
    learnt: Sequence[torch.Tensor] = [value for key, value in state.items() if not is_derived(key)]
    return dict(zip(own, learnt, strict=True))
