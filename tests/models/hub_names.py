"""timm's tensors under the names that Hugging Face transformers writes, for tests of the way back.

Written from transformers' own state_dicts; `scripts/check_huggingface_names.py` compares with the library itself.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

State = dict[str, torch.Tensor]
PARTS = ("query", "key", "value")
VIT = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj.": "vit.embeddings.patch_embeddings.projection.",
    "norm.": "vit.layernorm.",
    "head.": "classifier.",
}
BLOCK = {
    "norm1.": "layernorm_before.",
    "norm2.": "layernorm_after.",
    "attn.proj.": "attention.output.dense.",
    "mlp.fc1.": "intermediate.dense.",
    "mlp.fc2.": "output.dense.",
}
SWIN = {
    "patch_embed.proj.": "swin.embeddings.patch_embeddings.projection.",
    "patch_embed.norm.": "swin.embeddings.norm.",
    "norm.": "swin.layernorm.",
    "head.fc.": "classifier.",
}
CONVNEXT = {
    "stem.0.": "convnext.embeddings.patch_embeddings.",
    "stem.1.": "convnext.embeddings.layernorm.",
    "head.norm.": "convnext.layernorm.",
    "head.fc.": "classifier.",
}
CONVNEXT_BLOCK = {
    "conv_dw.": "dwconv.",
    "norm.": "layernorm.",
    "mlp.fc1.": "pwconv1.",
    "mlp.fc2.": "pwconv2.",
    "gamma": "layer_scale_parameter",
}


def as_vit(state: State) -> State:
    """State under the names of ``ViTForImageClassification``."""
    named = {}
    for name, value in state.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.*)", name)
        if block is None:
            named[_swap(name, VIT)] = value
        else:
            named.update(_block(f"vit.encoder.layer.{block[1]}.", "attention.attention.", block[2], value))
    return named


def as_deit(state: State) -> State:
    """State under the names of ``DeiTForImageClassification``, or ``...WithTeacher`` where it has two heads."""
    heads = {"dist_token": "vit.embeddings.distillation_token", "head_dist.": "distillation_classifier."}
    named = as_vit({name: value for name, value in state.items() if not name.startswith(tuple(heads))})
    named.update({_swap(name, heads): value for name, value in state.items() if name.startswith(tuple(heads))})
    teacher = "dist_token" in state
    return {_rename_deit(name, teacher): value for name, value in named.items()}


def _rename_deit(name: str, teacher: bool) -> str:
    if teacher and name.startswith("classifier."):
        return f"cls_{name}"
    return re.sub(r"^vit\.", "deit.", name)


def as_swin(state: State) -> State:
    """State under the names of ``SwinForImageClassification``."""
    named = {}
    for name, value in state.items():
        block = re.fullmatch(r"layers\.(\d+)\.blocks\.(\d+)\.(.*)", name)
        merging = re.fullmatch(r"layers\.(\d+)\.downsample\.(.*)", name)
        if block:
            place = f"swin.encoder.layers.{block[1]}.blocks.{block[2]}."
            named.update(_block(place, "attention.self.", block[3], value))
        elif merging:
            named[f"swin.encoder.layers.{int(merging[1]) - 1}.downsample.{merging[2]}"] = value
        else:
            named[_swap(name, SWIN)] = value
    return named


def as_convnext(state: State) -> State:
    """State under the names of ``ConvNextForImageClassification``."""
    named = {}
    for name, value in state.items():
        block = re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.(.*)", name)
        between = re.fullmatch(r"stages\.(\d+)\.downsample\.(.*)", name)
        if block:
            inner = _swap(block[3], CONVNEXT_BLOCK)
            named[f"convnext.encoder.stages.{block[1]}.layers.{block[2]}.{inner}"] = value
        elif between:
            named[f"convnext.encoder.stages.{between[1]}.downsampling_layer.{between[2]}"] = value
        else:
            named[_swap(name, CONVNEXT)] = value
    return named


def as_resnet(state: State) -> State:
    """State under the names of ``ResNetForImageClassification``."""
    named = {}
    for name, value in state.items():
        block = re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.*)", name)
        if block is None:
            first = {
                "conv1.": "resnet.embedder.embedder.convolution.",
                "bn1.": "resnet.embedder.embedder.normalization.",
            }
            named[_swap(name, {**first, "fc.": "classifier.1."})] = value
            continue
        stage, layer, kind, number, rest = block.groups()
        place = f"resnet.encoder.stages.{int(stage) - 1}.layers.{layer}."
        is_convolution = kind == "conv" or (kind == "downsample." and number == "0")
        part = "convolution" if is_convolution else "normalization"
        inner = "shortcut" if kind == "downsample." else f"layer.{int(number) - 1}"
        named[f"{place}{inner}.{part}.{rest}"] = value
    return named


def _block(place: str, attention: str, inner: str, value: torch.Tensor) -> State:
    if inner.startswith("attn.qkv."):
        kind = inner.removeprefix("attn.qkv.")
        return {f"{place}{attention}{part}.{kind}": third for part, third in zip(PARTS, value.chunk(3), strict=True)}
    if inner.startswith("attn.relative"):
        return {f"{place}{attention}{inner.removeprefix('attn.')}": value}
    return {place + _swap(inner, BLOCK): value}


def _swap(name: str, names: dict[str, str]) -> str:
    start = max((prefix for prefix in names if name.startswith(prefix)), key=len)
    return names[start] + name.removeprefix(start)


def write_vit_folder(named: State, folder: Path) -> None:
    """A folder of two shards with their index and a config.json, of `as_vit`'s names, three heads and 32 pixels."""
    folder.mkdir()
    shards = {"a.safetensors": sorted(named)[:70], "b.safetensors": sorted(named)[70:]}
    for name, own in shards.items():
        save_file({key: named[key].contiguous() for key in own}, folder / name)
    index = {"weight_map": {key: name for name, own in shards.items() for key in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {"model_type": "vit", "num_attention_heads": 3, "image_size": 32, "layer_norm_eps": 1e-6}
    (folder / "config.json").write_text(json.dumps(config))
