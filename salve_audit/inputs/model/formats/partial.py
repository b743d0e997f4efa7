"""Weights that are not those of a whole classifier in floating point: adapters, quantised networks, other tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from salve_audit.inputs.foreign import Foreign

ADAPTER = re.compile(
    r"(^|[._])(lora_[AB]|lora_(up|down)|lora_embedding_[AB]|hada_w[12]_[ab]|lokr_w[12]|ia3_l|oft_[rs]|vera_lambda_[bd]|"
    r"boft_[RS]|adapter_(down|up)|prompt_embeddings)([._]|$)"
)
SURE = re.compile(r"(_packed_params|qweight|qzeros|SCB$|absmax|quant_map|bitsandbytes__|weight_scale)")
DETECTOR = re.compile(r"(^|\.)(roi_heads|rpn_head|rpn|bbox_head|bbox_embed|anchor_generator|mask_head|dfl)\.")
QUANTISED_TYPES = tuple(
    getattr(torch, name)
    for name in ("qint8", "quint8", "qint32", "float8_e4m3fn", "float8_e5m2")
    if hasattr(torch, name)
)
MERGE_HINT = "merge it into its base model (peft: model.merge_and_unload()) and save that"
FLOAT_HINT = "audit the network in floating point, before it was quantised"


def describe_partial_weights(state: Mapping[Any, Any]) -> Foreign | None:
    """What these weights are, where they are no classifier of their own; None: nothing speaks against it."""
    names = [name for name in state if isinstance(name, str)]
    adapters = sum(ADAPTER.search(name) is not None for name in names)
    if adapters:
        what = f"holds an adapter (LoRA or the like, {adapters} of its {len(names)} tensors), no whole network"
        return Foreign(what, MERGE_HINT)
    if any(_is_quantised(state[name]) for name in names) or any(SURE.search(name) for name in names):
        return Foreign("holds a quantised network, whose weights are not in floating point", FLOAT_HINT)
    if sum(DETECTOR.search(name) is not None for name in names) >= 2:
        return Foreign("holds an object detector (region or box heads), no image classifier")
    return None


def describe_config(config: Mapping[str, Any], adapter: Mapping[str, Any]) -> Foreign | None:
    """What a folder with these config.json and adapter_config.json holds, where that is no network of its own."""
    if adapter:
        kind = str(adapter.get("peft_type", "PEFT"))
        base = adapter.get("base_model_name_or_path") or "a base model that it does not name"
        return Foreign(f"holds an adapter ({kind}) of {base}, no whole network", MERGE_HINT)
    quantised = config.get("quantization_config")
    if isinstance(quantised, Mapping):
        method = quantised.get("quant_method") or "config.json has quantization_config"
        return Foreign(f"holds a quantised network ({method}), whose weights are not in floating point", FLOAT_HINT)
    return None


def _is_quantised(value: Any) -> bool:
    if isinstance(value, torch.dtype):
        return value in QUANTISED_TYPES
    return isinstance(value, torch.Tensor) and (value.is_quantized or value.dtype in QUANTISED_TYPES)
