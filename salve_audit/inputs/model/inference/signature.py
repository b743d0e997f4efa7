"""The compared part of a set of weights: names and shapes, without what a network computes by itself."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping

import torch

Shapes = Mapping[str, tuple[int, ...]]
# dims of a tensor that follow the number of classes, of channels or the image's size
WildDims = Mapping[str, tuple[int, ...]]

# Counters and lookup tables: rebuilt by every network, and kept in files by some versions of a library but not others.
DERIVED = frozenset(
    {
        "num_batches_tracked",
        "relative_position_index",
        "relative_coords_table",
        "attn_mask",
        "position_ids",
        "total_ops",
        "total_params",
    }
)
ANY = -1
N_SKETCH = 16  # smallest hashes kept; enough to rank relatives
HASH_CHARS = 12  # 48 bits: a collision among 2,000 entries has a chance of 1e-8, and loading is strict anyway


def is_derived(name: str) -> bool:
    """True for a counter or lookup table that carries nothing learnt."""
    return name.rpartition(".")[2] in DERIVED


def read_shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all that is learnt, in the file's order."""
    return {name: tuple(value.shape) for name, value in state.items() if not is_derived(name)}


def mask_dims(shapes: Shapes, *wild: WildDims) -> dict[str, tuple[int, ...]]:
    """`shapes` with the `wild` dims replaced by `ANY`."""
    masked = dict(shapes)
    for dims_of in wild:
        for name, dims in dims_of.items():
            if name in masked:
                masked[name] = tuple(ANY if i in dims else side for i, side in enumerate(masked[name]))
    return masked


def hash_names(names: Iterable[str]) -> str:
    """One hash of a set of names."""
    return _hash("\n".join(sorted(names)))


def hash_shapes(shapes: Shapes) -> str:
    """One hash of a set of names and shapes."""
    return _hash("\n".join(f"{name} {shapes[name]}" for name in sorted(shapes)))


def hash_order(shapes: Shapes) -> str:
    """One hash of the shapes in their order, whatever the tensors are called.

    The sides that follow the number of classes (of the last matrix and its bias) and of channels (of the first
    convolution) are left out.
    """
    sides = list(shapes.values())
    last = max((place for place, shape in enumerate(sides) if len(shape) == 2), default=None)
    if last is not None:
        n_classes = sides[last][0]
        sides[last] = (ANY, *sides[last][1:])
        if last + 1 < len(sides) and sides[last + 1] == (n_classes,):
            sides[last + 1] = (ANY,)
    first = next((place for place, shape in enumerate(sides) if len(shape) == 4), None)
    if first is not None:
        sides[first] = (sides[first][0], ANY, *sides[first][2:])
    return _hash("\n".join(map(str, sides)))


def sketch_shapes(shapes: Shapes) -> tuple[str, ...]:
    """The smallest hashes of single (name, shape) pairs: two sets share as many as they are alike."""
    return tuple(heapq.nsmallest(N_SKETCH, (_hash(f"{name} {shape}")[:8] for name, shape in shapes.items())))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_CHARS // 2).hexdigest()
