"""Names of papers' own files and of older libraries turned into timm's: DenseNet, ConvNeXt, Swin, DINOv2.

A translation is no evidence by itself: the renamed tensors must be exactly those of a timm network, see `match`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import timm
import torch
from torch import nn

from salve_audit.inputs.model.inference.huggingface import Translation, reshape_convnextv2

Rules = tuple[tuple[str, str], ...]
DENSENET: Rules = ((r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),)
CONVNEXT: Rules = (
    (r"^downsample_layers\.0\.", "stem."),
    (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"^downsample_layers\.(\d+)\.(\d+)\.", r"stages.\1.downsample.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"^norm\.", "head.norm."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)
SWIN: Rules = ((r"^head\.(weight|bias)$", r"head.fc.\1"),)
DINO: Rules = (
    (r"^register_tokens$", "reg_token"),
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # blocks in chunks
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
    (r"^linear_head\.", "head."),
)


@dataclass(frozen=True)
class Paper:
    """A way of naming: how it is recognised, its rules, and what else changes."""

    label: str
    is_so: Callable[[Mapping[str, torch.Tensor]], bool]
    rules: Rules
    finish: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = lambda state: state


def translate_paper(state: Mapping[str, torch.Tensor]) -> Translation | None:
    """`state` under timm's names, or None where it has the names of none of these files."""
    paper = next((paper for paper in PAPERS if paper.is_so(state)), None)
    if paper is None:
        return None
    named = {}
    for name, value in state.items():
        for pattern, replacement in paper.rules:
            name = re.sub(pattern, replacement, name)
        named[name] = value
    named = paper.finish(named)
    return Translation(label=paper.label, state=named, shapes_state=named)


def convert_by_timm(architecture: str, model: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`state` as timm renames foreign files of this architecture; as it is where timm does not."""
    if not timm.is_model(architecture):
        return dict(state)
    module = sys.modules[timm.model_entrypoint(architecture.partition(".")[0]).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None:
        return dict(state)
    try:
        converted = convert(dict(state), model)
    except Exception:  # made for other files than this one
        return dict(state)
    if not isinstance(converted, dict) or any(
        name in state and value.numel() != state[name].numel() for name, value in converted.items()
    ):
        return dict(state)  # it would resample positions to another size of images
    return converted


def _shift_downsampling(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Merging belongs to the stage before it in Swin's files, to the stage after it in timm."""
    pattern = re.compile(r"^layers\.(\d+)\.downsample\.")
    return {pattern.sub(lambda m: f"layers.{int(m[1]) + 1}.downsample.", name): v for name, v in state.items()}


def _reshape_convnext(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The second version's tensors as timm has them; the first has none to be reshaped."""
    return reshape_convnextv2(state) if any(".grn." in name for name in state) else state


def _drop_mask(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the token of masked patches, of training alone; with registers the positions have no class token."""
    kept = {name: value for name, value in state.items() if name != "mask_token"}
    positions = kept.get("pos_embed")
    if "reg_token" in kept and positions is not None and positions.ndim == 3:
        grid = (positions.shape[1] - 1) ** 0.5
        if grid == int(grid):  # timm's networks with registers keep the class token's position in the token
            kept["cls_token"] = kept["cls_token"] + positions[:, :1]
            kept["pos_embed"] = positions[:, 1:]
    return kept


PAPERS = (
    Paper(
        "torchvision's older DenseNets",
        lambda state: any(re.search(r"denselayer\d+\.(norm|conv)\.[12]\.", name) for name in state),
        DENSENET,
    ),
    Paper(
        "ConvNeXt's own files",
        lambda state: "downsample_layers.0.0.weight" in state,
        CONVNEXT,
        _reshape_convnext,
    ),
    Paper(
        "Swin's own files",
        lambda state: "layers.0.downsample.reduction.weight" in state and "patch_embed.proj.weight" in state,
        SWIN,
        _shift_downsampling,
    ),
    Paper(
        "DINOv2's own files",
        lambda state: ("mask_token" in state and "blocks.0.ls1.gamma" in state) or "blocks.0.0.ls1.gamma" in state,
        DINO,
        _drop_mask,
    ),
)
