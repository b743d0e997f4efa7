"""Image processors of Hugging Face as timm's settings: their own values, over what their class has where they lack one.

Newer files leave out what is the class's default, older ones what the class does not have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from salve_audit.inputs.model.settings import PIL_FILTERS, crop_share

RESCALED = 1 / 255  # what pixels are multiplied with, unless a processor says another factor
CONVNEXT_CROP = 224 / 256
LEVIT = 256 / 224
LARGE_CONVNEXT = 384  # from this size on, ConvNeXt's processor squashes images instead of cropping them
FLIP = "do_flip_channel_order"  # blue first
KIND = re.compile(r"(?:Image(?:Processor|Processing)|FeatureExtractor)(?:Fast|Pil)?$")
IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
CLIP = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
BICUBIC = {"resample": 3}


class Processor(NamedTuple):
    """What a processor does: settings under timm's names, where they come from in words, and the channels' order."""

    args: dict[str, Any]
    places: dict[str, str]
    is_flipped: bool


def _by_edge(edge: int, crop: int) -> dict[str, Any]:
    return {"size": {"shortest_edge": edge}, "do_center_crop": True, "crop_size": {"height": crop, "width": crop}}


def _squashed(side: int) -> dict[str, Any]:
    return {"size": {"height": side, "width": side}}


# of transformers' classes for image classification, by their names without ImageProcessor
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "Beit": {**HALF, **BICUBIC, **_squashed(224)},
    "Bit": {**CLIP, **BICUBIC, **_by_edge(224, 224)},
    "CLIP": {**CLIP, **BICUBIC, **_by_edge(224, 224)},
    "ConvNext": {**HALF, **BICUBIC, "size": {"shortest_edge": 384}},
    "DINOv3ViT": {**IMAGENET, **_squashed(224)},
    "DeiT": {**HALF, **BICUBIC, **_by_edge(256, 224), **_squashed(256)},
    "EfficientNet": {**HALF, **BICUBIC, **_squashed(346)},
    "ImageGPT": {**HALF, **_squashed(256)},
    "Levit": {**IMAGENET, **BICUBIC, **_by_edge(224, 224)},
    "MobileNetV1": {**HALF, **_by_edge(256, 224)},
    "MobileNetV2": {**HALF, **_by_edge(256, 224)},
    "MobileViT": {"do_normalize": False, FLIP: True, **BICUBIC, **_by_edge(224, 256)},
    "Perceiver": {**IMAGENET, **BICUBIC, **_squashed(224), "do_center_crop": True, "crop_size": 256},
    "PoolFormer": {**IMAGENET, **BICUBIC, **_by_edge(224, 224), "crop_pct": 0.9},
    "Pvt": {**IMAGENET, **BICUBIC, **_squashed(224)},
    "Segformer": {**IMAGENET, **_squashed(512)},
    "Siglip": {**HALF, **BICUBIC, **_squashed(224)},
    "Siglip2": {**HALF},
    "TextNet": {**IMAGENET, "size": {"shortest_edge": 640}},
    "ViT": {**HALF, **_squashed(224)},
}


def read_processor(own: Mapping[str, Any], file: str, side: Any = None) -> Processor:
    """An image processor's settings as timm's: resized to `size`, or by the shorter edge, then cropped.

    Args:
        own: what the file says.
        file: its name.
        side: of the network's images, where it is known; a class's default for another one is not taken.
    """
    kind = _name_kind(own)
    defaults = DEFAULTS.get(KIND.sub("", kind), {})
    processor = {**defaults, **{key: value for key, value in own.items() if value is not None}}
    args: dict[str, Any] = {}
    args["mean"], args["std"] = _read_normalisation(processor)
    if "EfficientNet" in kind and processor.get("include_top", True) and args["std"] is not None:
        args["std"] = tuple(side * side for side in args["std"])  # its class divides by it twice
    args["interpolation"] = PIL_FILTERS.get(processor.get("resample", 2))
    sizes = _read_sizes(processor, kind)
    if own.get("size") is not None or not isinstance(side, int) or sizes.get("input_size", (side,))[-1] == side:
        args |= sizes
    of_class = f"default of {kind}, {file} does not say it"
    places = {
        name: of_class
        for name, key in (("mean", "image_mean"), ("std", "image_std"), ("interpolation", "resample"))
        if own.get(key) is None and key in defaults
    }
    places |= dict.fromkeys(("input_size", "crop_pct", "crop_mode"), of_class) if own.get("size") is None else {}
    if not processor.get("do_normalize", True):
        why = file if own.get("do_normalize") is not None else kind
        places |= dict.fromkeys(("mean", "std"), f"{why} does not normalise")
    is_flipped = bool(processor.get(FLIP, False))
    said = {key: value for key, value in args.items() if value is not None}
    return Processor(said, {name: words for name, words in places.items() if name in said}, is_flipped)


def _name_kind(processor: Mapping[str, Any]) -> str:
    return str(processor.get("image_processor_type") or processor.get("feature_extractor_type") or "")


def _read_sizes(processor: Mapping[str, Any], kind: str) -> dict[str, Any]:
    size, is_squashed = _read_size(processor.get("size"))
    if size is None:
        return {}
    crop_pct = processor.get("crop_pct")
    if "ConvNext" in kind:  # its one number is the shorter edge, and its crop has a default
        crop_pct, is_squashed = crop_pct or CONVNEXT_CROP, False
    crop, _ = _read_size(processor.get("crop_size") if processor.get("do_center_crop") else None)
    if "Levit" in kind and not is_squashed:  # its shorter edge is that of ImageNet's usual crop
        size = (int(size[0] * LEVIT), int(size[1] * LEVIT))
    if crop is not None and "Perceiver" in kind:  # it crops before it resizes
        side, share, is_squashed = size, min(1.0, size[0] / crop[0]), False
    elif crop is not None and crop == size and crop_pct:  # PoolFormer's edge is the crop's
        side, share = crop, float(crop_pct)
    elif crop is not None and crop[0] <= size[0]:
        side, share = crop, crop_share(crop[0], size[0])
    elif crop_pct and not is_squashed and size[0] < LARGE_CONVNEXT:
        side, share = size, float(crop_pct)
    else:
        side, share, is_squashed = size, 1.0, is_squashed or bool(crop_pct)
    mean, _ = _read_normalisation(processor)
    channels, mode = len(mean or (0, 0, 0)), "squash" if is_squashed else "center"
    return {"input_size": (channels, *side), "crop_pct": share, "crop_mode": mode}


def _read_normalisation(processor: Mapping[str, Any]) -> tuple[Any, Any]:
    """Mean and standard deviation for pixels in 0..1, whatever the processor multiplies pixels with before."""
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if processor.get("do_normalize", True):
        mean, std = processor.get("image_mean"), processor.get("image_std")  # type: ignore[assignment]
    factor = processor.get("rescale_factor", RESCALED) if processor.get("do_rescale", True) else 1.0
    offset = 1.0 if processor.get("rescale_offset") else 0.0  # x * factor - 1
    if not isinstance(factor, (int, float)) or factor <= 0 or (math.isclose(factor, RESCALED) and not offset):
        return mean, std
    scale = factor / RESCALED
    known = isinstance(mean, (list, tuple)) and isinstance(std, (list, tuple))
    return ([(m + offset) / scale for m in mean], [s / scale for s in std]) if known else (mean, std)


def _read_size(size: Any) -> tuple[tuple[int, int] | None, bool]:
    """(height, width), and whether both sides are given, so that images are squashed into them."""
    if isinstance(size, int):
        return (size, size), True
    if isinstance(size, dict) and isinstance(size.get("shortest_edge"), int):
        return (size["shortest_edge"], size["shortest_edge"]), False
    if isinstance(size, dict) and isinstance(size.get("height"), int) and isinstance(size.get("width"), int):
        return (size["height"], size["width"]), True
    return None, False
