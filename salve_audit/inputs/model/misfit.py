"""The nearest architecture of a checkpoint that fits none, and the sizes or the head in which it differs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch

from salve_audit.inputs.model.inference.index import Index, load_index
from salve_audit.inputs.model.inference.match import find_entry, find_fits, find_nearest
from salve_audit.inputs.model.inference.measure import build_shapes
from salve_audit.inputs.model.inference.signature import Shapes, mask_dims, read_shapes

OWN_CLASS = "--arch FILE.py:FUNCTION runs your own class"
NUMBERED = re.compile(r"(.*?)\.(\d+)\.")
N_NAMED = 3
N_FEW = 6  # tensors


class Misfit(NamedTuple):
    """What is nearest to tensors that fit nothing: what they are, where that is clear, and what to do."""

    hint: str
    why: str = ""


Describe = Callable[[Index, str, Shapes], "str | Misfit | None"]


def suggest_architecture(states: Iterable[Mapping[str, torch.Tensor]]) -> str:
    """The architecture whose names and shapes are those of one of the `states`, or come nearest, as a hint."""
    return explain_misfit(states).hint


def explain_misfit(states: Iterable[Mapping[str, torch.Tensor]]) -> Misfit:
    """The architecture whose names and shapes are those of one of the `states`, or come nearest.

    Args:
        states: one state_dict, seen with and without prefixes.
    """
    index = load_index()
    candidates = [read_shapes(state) for state in states]
    for shapes in candidates:
        fits = find_fits(index, shapes)
        if fits:
            return Misfit(f"its keys are those of timm's {fits[0].name!r}: --arch {fits[0].name}")
    nearest = [(near, shapes) for shapes in candidates if (near := find_nearest(index, shapes))]
    if not nearest:
        return Misfit(f"no known architecture is near; {OWN_CLASS}")
    name, n_fit, n_own = max((near for near, _ in nearest), key=lambda near: near[1])
    best = [shapes for near, shapes in nearest if near[:2] == (name, n_fit)]
    described: tuple[Describe, ...] = (_describe_head, _describe_headless, _describe_sizes, _describe_few)
    for describe in described:
        for shapes in best:
            said = describe(index, name, shapes)
            if said:
                return Misfit(said) if isinstance(said, str) else said
    return Misfit(f"nearest by its keys: {name} ({n_fit} of its {n_own} fit); {OWN_CLASS}")


def _describe_headless(index: Index, name: str, shapes: Shapes) -> Misfit | None:
    """A network of which only the final layer is missing: a backbone."""
    entry = find_entry(index, name)
    own = build_shapes(name, **entry.kwargs) or {}
    missing = [key for key in own if key not in shapes]
    heads = {key.rpartition(".")[0] for key in entry.classes}
    extra = [key for key in shapes if key not in own]
    if not missing or any(key.rpartition(".")[0] not in heads for key in missing) or _has_matrix(extra, shapes):
        return None
    why = f"has no final layer: it is a {name} without {' and '.join(map(repr, missing[:2]))}, a backbone"
    return Misfit("save it with its classifier (a linear probe, the fine-tuned network)", why)


def _has_matrix(keys: Iterable[str], shapes: Shapes) -> bool:
    return any(len(shapes[key]) == 2 for key in keys)


def _describe_few(index: Index, name: str, shapes: Shapes) -> str:
    """Names the tensors that differ, where they are few; empty where they are many."""
    entry = find_entry(index, name)
    wild = (entry.classes, entry.chans, entry.sizes)
    default = build_shapes(name, **entry.kwargs) or {}
    own, given = mask_dims(default, *wild), mask_dims(shapes, *wild)
    missing = [f"{key!r} is missing" for key in own if key not in given]
    extra = [f"{key!r} is more" for key in given if key not in own]
    other = [
        f"{key!r} is {_as_text(shapes[key])}, not {_as_text(default[key])}"
        for key, shape in given.items()
        if key in own and own[key] != shape
    ]
    differences = [*other, *missing, *extra]
    if not differences or len(differences) > N_FEW or len(differences) >= len(own):
        return ""
    silent = ""
    if any("conv" in text or "stem" in text for text in other):
        silent = "; the stride and the pooling behind it leave no trace in the file"
    return f"all but this is {name}: {', '.join(differences)}{silent}; {OWN_CLASS}"


def _as_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _describe_head(index: Index, name: str, shapes: Shapes) -> str:
    """Says that all but the head is the architecture's, and the head an MLP; empty where it is not so."""
    entry = find_entry(index, name)
    own = build_shapes(name, **entry.kwargs) or {}
    extra = [key for key in shapes if key not in own]
    missing = own.keys() - shapes.keys()
    heads = {key.rpartition(".")[0] for key in entry.classes}
    linear = [key for key in extra if key.endswith(".weight") and len(shapes[key]) == 2]
    if len(linear) < 2 or any(key.rpartition(".")[0] not in heads for key in missing):
        return ""
    roots = {key.partition(".")[0] for key in extra}
    if len(roots) > 1 or any(shapes[first][0] != shapes[second][1] for first, second in itertools.pairwise(linear)):
        return ""
    sizes = " -> ".join(str(side) for side in (shapes[linear[0]][1], *(shapes[key][0] for key in linear)))
    return (
        f"all but its head is {name}; the head {roots.pop()!r} is an MLP ({sizes}), and the file does not tell its "
        "activation: --arch FILE.py:FUNCTION takes a function that builds both"
    )


def _describe_sizes(index: Index, name: str, shapes: Shapes) -> str:
    """Names the sizes in which a network with the architecture's names differs from it; empty where none is known."""
    own = build_shapes(name, **find_entry(index, name).kwargs) or {}
    changes = [*_compare_depths(shapes, own), *_compare_patches(shapes, own), *_compare_windows(shapes, own)]
    if not changes or not shapes.keys() & own.keys():
        return ""
    return (
        f"nearest by its keys: {name} with another {', '.join(changes[:N_NAMED])}; a dict with 'arch', 'state_dict' "
        f"and 'args': {{'model_kwargs': ...}} says so, or {OWN_CLASS}"
    )


def _compare_depths(given: Shapes, own: Shapes) -> list[str]:
    here, there = _count_blocks(given), _count_blocks(own)
    outer = [key for key in here if key in there and here[key] != there[key]]
    return [f"depth ({here[key]} {key}, not {there[key]})" for key in outer]


def _count_blocks(shapes: Shapes) -> dict[str, int]:
    """Number of blocks in every list of layers, by the numbers in names."""
    counts: dict[str, int] = {}
    for key in shapes:
        match = NUMBERED.match(key)
        if match:
            counts[match.group(1)] = max(counts.get(match.group(1), 0), int(match.group(2)) + 1)
    return counts


def _compare_patches(given: Shapes, own: Shapes) -> list[str]:
    key = "patch_embed.proj.weight"
    if len(given.get(key, ())) != 4 or len(own.get(key, ())) != 4:
        return []
    here, there = given[key], own[key]
    patch = [f"patch size ({here[-1]}, not {there[-1]})"] if here[-1] != there[-1] else []
    return patch + ([f"width ({here[0]}, not {there[0]})"] if here[0] != there[0] else [])


def _compare_windows(given: Shapes, own: Shapes) -> list[str]:
    """Compares Swin's windows: a table has ``(2 w - 1) ** 2`` rows for windows of side w."""
    for key in given:
        if key.endswith("relative_position_bias_table") and key in own and given[key][0] != own[key][0]:
            here, there = (int((shapes[key][0] ** 0.5 + 1) // 2) for shapes in (given, own))
            return [f"window size ({here}, not {there})"]
    return []
