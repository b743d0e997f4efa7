"""Names of Hugging Face transformers turned into timm's: ViT, DeiT, ResNet, Swin, ConvNeXt and ConvNeXtV2.

A translation is no evidence by itself: the renamed tensors must be exactly those of a timm network, see `match`. Both
namings are known, that of files on the hub and that of transformers 5 in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Rules = tuple[tuple[str, str], ...]
PLAIN_ACTIVATIONS = {"resnet": "relu"}  # all others have the exact gelu
NO_CONFIG = "without config.json the number of attention heads, which no shape shows, is taken to be timm's"
QKV = ("q", "k", "v")
CONVNEXTV2_TINY = 96  # channels of the first layer, below which timm's MLPs are 1x1 convolutions

ATTENTION: Rules = (
    (r"attention\.(?:attention|self)\.(query|key|value)\.", r"attn.\1."),
    (r"attention\.(q|k|v)_proj\.", r"attn.\1."),
    (r"attention\.output\.dense\.", "attn.proj."),
    (r"attention\.o_proj\.", "attn.proj."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"(?<=\d\.)output\.dense\.", "mlp.fc2."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
)
VIT: Rules = (
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    *ATTENTION,
    (r"^layernorm\.", "norm."),
    (r"^(?:cls_)?classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
)
SWIN: Rules = (
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"embeddings\.norm\.", "patch_embed.norm."),
    (r"attention\.(?:self|relative_position_bias)\.(relative_position_\w+)$", r"attn.\1"),
    *ATTENTION,
    (r"encoder\.layers\.", "layers."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head.fc."),
)
CONVNEXT: Rules = (
    (r"embeddings\.patch_embeddings\.", "stem.0."),
    (r"embeddings\.layernorm\.", "stem.1."),
    (r"encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
    (r"encoder\.stages\.(\d+)\.layers\.", r"stages.\1.blocks."),
    (r"layer_scale_parameter$", "gamma"),
    (r"(?<=\d\.)dwconv\.", "conv_dw."),
    (r"(?<=\d\.)layernorm\.", "norm."),
    (r"(?<=\d\.)pwconv1\.", "mlp.fc1."),
    (r"(?<=\d\.)pwconv2\.", "mlp.fc2."),
    (r"(?<=\d\.)grn\.", "mlp.grn."),
    (r"^layernorm\.", "head.norm."),
    (r"^classifier\.", "head.fc."),
)
RESNET: Rules = (
    (r"embedder\.embedder\.convolution\.", "conv1."),
    (r"embedder\.embedder\.normalization\.", "bn1."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
    (r"^classifier\.1\.", "fc."),
)
RULES: Mapping[str, Rules] = {
    "vit": VIT, "deit": VIT, "swin": SWIN, "convnext": CONVNEXT, "convnextv2": CONVNEXT, "resnet": RESNET,
}  # fmt: skip
LABELS = {
    "vit": "ViT", "deit": "DeiT", "swin": "Swin", "convnext": "ConvNeXt", "convnextv2": "ConvNeXtV2",
    "resnet": "ResNet",
}  # fmt: skip
# the library's own defaults, which differ from timm's; None: the same
NORM_EPS = {"vit": 1e-12, "deit": 1e-12, "swin": 1e-5, "convnext": 1e-12, "convnextv2": 1e-12, "resnet": None}


@dataclass(frozen=True)
class Translation:
    """A state_dict under timm's names.

    Attributes:
        label: of the family, in words.
        state: names as timm has them to tensors.
        shapes_state: what to look up, where the network needs `kwargs` to have the rest.
        kwargs: arguments for timm beside those of the shapes.
        norm_eps: epsilon of the LayerNorms, or None where timm's is right.
        norm_names: whether a layer of that name has this epsilon.
        n_heads: attention heads by config.json, or None.
        notes: what is not known without config.json.
    """

    label: str
    state: dict[str, torch.Tensor]
    shapes_state: dict[str, torch.Tensor]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    norm_eps: float | None = None
    norm_names: Callable[[str], bool] = lambda _: True
    n_heads: int | None = None
    notes: tuple[str, ...] = ()

    def adjust(self, model: nn.Module) -> None:
        """Gives the norms of `model` the epsilon that the library computes with."""
        if self.norm_eps is not None:
            for name, module in model.named_modules():
                if isinstance(module, nn.LayerNorm) and self.norm_names(name):
                    module.eps = self.norm_eps


def translate(state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> Translation | None:
    """`state` under timm's names, or None where it is of none of the families.

    Raises:
        ValueError: config.json asks for what timm's network does not do.
    """
    family = next((prefix for prefix in RULES if any(name.startswith(f"{prefix}.") for name in state)), None)
    if family is None:
        return None
    if config.get("model_type") == family:
        _check_config(family, config)
    else:
        config = {}
    named = {}
    for name, value in state.items():
        short = _rename(family, name.removeprefix(f"{family}."))
        if not short.startswith("pooler."):  # of the bare encoder; no classifier uses it
            named[short] = value
    named = _fuse(named)
    if family == "convnextv2":
        named = reshape_convnextv2(named)
    eps = config.get("layer_norm_eps", NORM_EPS[family])
    heads = config.get("num_attention_heads")
    last_only = family.startswith("convnext")
    shapes_state, kwargs = _split_register(named) if family == "deit" else (named, {})
    return Translation(
        label=f"Hugging Face {LABELS[family]}",
        state=named,
        shapes_state=shapes_state,
        kwargs=kwargs,
        norm_eps=None if NORM_EPS[family] is None else float(eps),
        norm_names=(lambda name: name == "head.norm") if last_only else (lambda _: True),
        n_heads=heads if isinstance(heads, int) and family in ("vit", "deit") else None,
        notes=() if config or family not in ("vit", "deit") else (NO_CONFIG,),
    )


def _check_config(family: str, config: Mapping[str, Any]) -> None:
    expected = PLAIN_ACTIVATIONS.get(family, "gelu")
    given = config.get("hidden_act", expected)
    if given != expected:
        raise ValueError(f"hidden_act {given!r}, timm's network has {expected!r}")
    if config.get("downsample_in_bottleneck"):
        raise ValueError("downsample_in_bottleneck, timm's network has the stride in the 3x3 convolution")
    if config.get("use_absolute_embeddings"):
        raise ValueError("use_absolute_embeddings, timm's network has none")


def _rename(family: str, name: str) -> str:
    for pattern, replacement in RULES[family]:
        name = re.sub(pattern, replacement, name)
    if family == "swin":  # merging belongs to the stage before it there, to the stage after it in timm
        return re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name)
    if family == "resnet":
        name = re.sub(r"^encoder\.stages\.(\d+)\.layers\.", lambda m: f"layer{int(m[1]) + 1}.", name)
        name = re.sub(r"\.layer\.(\d+)\.convolution", lambda m: f".conv{int(m[1]) + 1}", name)
        return re.sub(r"\.layer\.(\d+)\.normalization", lambda m: f".bn{int(m[1]) + 1}", name)
    return name


def _fuse(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Queries, keys and values as one tensor, in this order."""
    fused: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in state.items():
        match = re.fullmatch(r"(.*\.attn)\.(q|k|v)(?:uery|ey|alue)?\.(weight|bias)", name)
        if match is None:
            fused[name] = value
        else:
            parts.setdefault(f"{match[1]}.qkv.{match[3]}", {})[match[2]] = value
    for name, three in parts.items():
        if set(three) == set(QKV) and len({tuple(tensor.shape) for tensor in three.values()}) == 1:
            fused[name] = torch.cat([three[part] for part in QKV])
        else:
            fused.update({f"{name}.{part}": value for part, value in three.items()})  # fits nothing, as it should
    return fused


def reshape_convnextv2(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm has ConvNeXtV2's normalisation as vectors, and its small networks' MLPs as 1x1 convolutions."""
    first = state.get("stem.0.weight")
    if first is None or first.ndim != 4:
        return state
    is_small = len(first) < CONVNEXTV2_TINY
    return {
        name: value.flatten()
        if ".grn." in name
        else value[:, :, None, None]
        if is_small and re.search(r"\.mlp\.fc[12]\.weight$", name) and value.ndim == 2
        else value
        for name, value in state.items()
    }


def _split_register(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """DeiT's second token: with a head of its own timm's distilled network, without one a register token."""
    token = state.pop("embeddings.distillation_token", None)
    if token is None:
        return state, {}
    if "head_dist.weight" in state or token.ndim != 3:
        state["dist_token"] = token
        return state, {}
    state["reg_token"] = token
    without = {name: value for name, value in state.items() if name != "reg_token"}
    if "pos_embed" in without and without["pos_embed"].ndim == 3:
        without["pos_embed"] = without["pos_embed"][:, 1:]
    return without, {"reg_tokens": token.shape[1]}
