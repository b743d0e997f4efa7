"""A state_dict's keys against a network's: prefixes of wrappers, what is missing, what is too much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.reasons import nearest_names

PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning and the like
N_RELATIVES = 25  # timm names of the same family whose keys are tried for the hint
POPULAR = (
    "resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "resnext50_32x4d", "densenet121",
    "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "swin_tiny_patch4_window7_224",
    "convnext_tiny", "efficientnet_b0", "mobilenetv3_large_100", "mobilenetv2_100", "regnety_016", "vgg16",
)  # fmt: skip


def strip_prefixes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`state` without the wrappers' prefixes, however they are stacked."""
    return _prefix_levels(state)[-1][1]


def _prefix_levels(state: Mapping[str, torch.Tensor]) -> list[tuple[str, dict[str, torch.Tensor]]]:
    """(stripped prefix, state) from nothing stripped to all; a prefix counts when every key has it."""
    stripped, current = "", dict(state)
    levels = [(stripped, current)]
    while True:
        prefix = next((one for one in PREFIXES if all(key.startswith(one) for key in current)), None)
        if prefix is None:
            return levels
        stripped, current = stripped + prefix, {key[len(prefix) :]: value for key, value in current.items()}
        levels.append((stripped, current))


def align_prefix(state: Mapping[str, torch.Tensor], model: nn.Module) -> tuple[str, dict[str, torch.Tensor]]:
    """The stripped prefix and the state whose keys fit `model` best.

    The user's own class may have a part called ``model``, so as much is stripped as fits, not all there is.
    """
    own = model.state_dict().keys()
    levels = _prefix_levels(state)
    return max(levels, key=lambda level: (len(own & level[1].keys()), len(level[0])))


def load_state(
    path: str,
    architecture: str,
    model: nn.Module,
    state: Mapping[str, torch.Tensor],
    kwargs: Mapping[str, Any],
) -> None:
    """Copies `state` into `model`, cast to the model's own types.

    Raises:
        CheckpointError: keys or shapes do not fit (the first of each kind is named), or a weight is infinite.
    """
    own = model.state_dict()
    # checkpoints from before torch 0.4.1 lack these counters, which evaluation does not use
    counters = {key: own[key] for key in own if key.endswith(".num_batches_tracked") and key not in state}
    state = {**state, **counters}
    problems = _describe_misfit(state, own)
    if problems:
        why = f"its keys do not fit {architecture}: {'; '.join(problems)}"
        raise CheckpointError(path, why, hint=_suggest_architecture(architecture, state, kwargs))
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            kind = "NaN" if bool(torch.isnan(value).any()) else "infinite values"
            raise CheckpointError(path, f"the tensor {key!r} has {kind}", hint="training has diverged?")
    model.load_state_dict(state, strict=True)


def _describe_misfit(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> list[str]:
    missing = [f"missing {key!r}" for key in own if key not in state]
    unexpected = [f"unexpected {key!r}" for key in state if key not in own]
    misshaped = [
        f"{key!r} is {tuple(value.shape)}, expected {tuple(own[key].shape)}"
        for key, value in state.items()
        if key in own and value.shape != own[key].shape
    ]
    return [
        f"{problem[0]}{f' (and {len(problem) - 1} more)' if len(problem) > 1 else ''}"
        for problem in (missing, unexpected, misshaped)
        if problem
    ]


def _suggest_architecture(
    architecture: str, state: Mapping[str, torch.Tensor], kwargs: Mapping[str, Any]
) -> str | None:
    """The timm architecture whose keys and shapes fit `state` best, among relatives and popular ones."""
    name = architecture.rpartition(":")[2]
    candidates = dict.fromkeys([*nearest_names(name, timm.list_models(), n=N_RELATIVES), *POPULAR])
    best, fitting = "", 0
    for one in candidates:
        n_same, n_own = _count_fitting(one, state, kwargs)
        if n_same == n_own == len(state):
            return f"its keys are those of timm's {one!r}: --arch {one}"
        if n_same > fitting and one != architecture:
            best, fitting = one, n_same
    if fitting < len(state) / 2:
        return "no timm architecture near that name fits; --arch FILE.py:FUNCTION runs your own class"
    return f"nearest timm name by its keys: {best} ({fitting} of {len(state)} fit)"


def _count_fitting(name: str, state: Mapping[str, torch.Tensor], kwargs: Mapping[str, Any]) -> tuple[int, int]:
    """How many of `state`'s tensors the architecture has in the same shape, and how many it has."""
    try:
        with torch.device("meta"):
            own = timm.create_model(name, pretrained=False, **kwargs).state_dict()
    except Exception:  # not every architecture can be built from these arguments; it is a hint only
        return 0, 0
    return sum(key in own and own[key].shape == value.shape for key, value in state.items()), len(own)
