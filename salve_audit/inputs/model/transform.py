"""The transform from image to tensor: by the checkpoint's settings, else the architecture's, field by field."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.network import Network
from salve_audit.inputs.model.weights import Checkpoint
from salve_audit.results.transform import TRANSFORM_FIELDS, TransformSpec

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")
LARGEST = 4096  # pixels a side; beyond it a setting is an accident, and would fill the memory
USUAL_CROP_MODE = "center"
IN_WORDS = {"input_size": "input size", "crop_pct": "crop", "crop_mode": "crop mode"}
FROM_CHECKPOINT = "checkpoint"


def resolve_transform(checkpoint: Checkpoint, network: Network) -> TransformSpec:
    """The evaluation transform that the checkpoint's settings ask for.

    Each field comes from the JSON file beside the checkpoint, else from the checkpoint's ``args``, else from the
    user's file (attributes of those names of the function or its module), else from timm's data config; ``source``
    says which. A crop mode that nothing states is the centre crop and needs no source.

    Raises:
        CheckpointError: a setting makes no sense, or the network takes neither 1 nor 3 channels.
    """
    try:
        return _resolve(checkpoint, network)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(str(checkpoint.path), f"its settings make no transform: {error}") from error


def _resolve(checkpoint: Checkpoint, network: Network) -> TransformSpec:
    default = dict(resolve_model_data_config(network.model))  # type: ignore[no-untyped-call]
    default.update(network.defaults)
    n_channels = _count_channels(network)
    own = _own_settings(checkpoint, network, n_channels)
    values, sources = {}, {}
    for name in TRANSFORM_FIELDS:
        values[name], sources[name] = default.get(name), network.default_source
        for source, settings in (
            (network.declared_by, network.declared),
            (FROM_CHECKPOINT, own),
            (checkpoint.sidecar.name, checkpoint.sidecar.settings),
        ):
            if _is_said(settings.get(name)):
                values[name], sources[name] = settings[name], source
    if sources["input_size"] == network.default_source:
        values["input_size"] = (n_channels, *tuple(default["input_size"])[-2:])
    for name in ("mean", "std"):
        values[name] = _per_channel(values[name], n_channels)
    if sources["crop_mode"] == network.default_source:
        values["crop_mode"] = values["crop_mode"] or USUAL_CROP_MODE
        if values["crop_mode"] == USUAL_CROP_MODE:
            del sources["crop_mode"]
    return _checked_spec(values, _in_words(sources), n_channels)


def build_transform(spec: TransformSpec) -> Callable[[Image.Image], torch.Tensor]:
    """timm's evaluation transform: image -> (channels, height, width) float32."""
    transform: Callable[[Image.Image], torch.Tensor] = create_transform(
        input_size=spec.input_size,
        is_training=False,
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        crop_pct=spec.crop_pct,
        crop_mode=spec.crop_mode,
    )
    return transform


def _is_said(value: Any) -> bool:
    """True for a setting with a value; timm's training script saves options that were not given as empty texts."""
    return value is not None and not (isinstance(value, str) and not value)


def _count_channels(network: Network) -> int:
    declared = network.declared.get("input_size")
    if declared is not None and len(declared) == 3:
        return int(declared[0])
    if not network.trusted_code:
        return int(network.kwargs.get("in_chans", 3))
    convolutions = (module for module in network.model.modules() if isinstance(module, torch.nn.Conv2d))
    first = next(convolutions, None)
    if first is not None:
        return int(first.in_channels)
    # of a program without layers
    kernels = [parameter for parameter in network.model.parameters() if parameter.ndim == 4]
    return int(kernels[0].shape[1]) if kernels and kernels[0].shape[1] == 1 else 3


def _own_settings(checkpoint: Checkpoint, network: Network, n_channels: int) -> Mapping[str, Any]:
    """The checkpoint's args under TransformSpec's names; model_kwargs may carry the size too."""
    args = dict(checkpoint.args)
    if args.get("input_size") is None:
        size = network.kwargs.get("img_size") or network.kwargs.get("image_size") or args.get("img_size")
        if size is not None:
            sides = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
            args["input_size"] = (n_channels, *sides)
    return args


def _per_channel(values: Any, n_channels: int) -> Any:
    """One value for all channels, or the average of three for a grey image."""
    if not isinstance(values, (list, tuple)):
        values = (values,)
    if len(values) == 1:
        return tuple(values) * n_channels
    if n_channels == 1:
        return (sum(values) / len(values),)
    return tuple(values)


def _checked_spec(values: Mapping[str, Any], source: str, n_channels: int) -> TransformSpec:
    size = tuple(int(side) for side in values["input_size"])
    mean, std = (tuple(float(number) for number in values[name]) for name in ("mean", "std"))
    crop_pct = float(values["crop_pct"])
    interpolation, crop_mode = str(values["interpolation"]), str(values["crop_mode"])
    if n_channels not in (1, 3):
        raise ValueError(f"the network takes {n_channels} channels, images have 1 or 3")
    if len(size) != 3 or size[0] != n_channels or not all(0 < side <= LARGEST for side in size[1:]):
        raise ValueError(f"input size {size} is not ({n_channels}, height, width)")
    if len(mean) != n_channels or len(std) != n_channels:
        raise ValueError(f"{len(mean)} means and {len(std)} standard deviations for {n_channels} channels")
    if not all(math.isfinite(number) for number in (*mean, *std)) or min(std) <= 0:
        raise ValueError(f"mean {mean} or standard deviation {std} is not usable")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation!r} is not one of {', '.join(INTERPOLATIONS)}")
    if crop_mode not in CROP_MODES:
        raise ValueError(f"crop_mode {crop_mode!r} is not one of {', '.join(CROP_MODES)}")
    if not 0 < crop_pct <= 1:
        raise ValueError(f"crop_pct {crop_pct} is not in (0, 1]")
    return TransformSpec((size[0], size[1], size[2]), mean, std, interpolation, crop_pct, source, crop_mode)


def _in_words(sources: Mapping[str, str]) -> str:
    """One source as it is, several as ``input size, mean: checkpoint; crop: architecture default (timm)``."""
    distinct = list(dict.fromkeys(sources.values()))
    if len(distinct) == 1:
        return distinct[0]
    fields = {
        source: ", ".join(IN_WORDS.get(name, name) for name in sources if sources[name] == source)
        for source in distinct
    }
    return "; ".join(f"{names}: {source}" for source, names in fields.items())
