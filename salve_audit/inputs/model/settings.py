"""Settings of training scripts under the names that `TransformSpec` has: one vocabulary for many scripts' words."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# the likeliest first; the first that says something is taken
FIELD_KEYS: Mapping[str, tuple[str, ...]] = {
    "input_size": (
        "input_size", "img_size", "image_size", "imgsz", "imsize", "im_size", "val_crop_size", "eval_crop_size",
        "test_crop_size", "crop_size", "resolution", "image_resolution", "img_resolution", "input_resolution",
        "img_dim", "image_dim", "im_dim", "input_shape", "img_shape", "image_shape", "img_sz", "image_sz", "img_res",
        "image_res", "input_res", "input_image_size", "target_size", "eval_size", "eval_img_size", "eval_image_size",
        "val_img_size", "val_image_size", "test_img_size", "test_image_size", "eval_resolution", "val_resolution",
        "test_resolution", "image_side", "img_side",
    ),
    "mean": ("mean", "image_mean", "img_mean", "norm_mean", "normalize_mean", "pixel_mean", "dataset_mean", "rgb_mean"),
    "std": ("std", "image_std", "img_std", "norm_std", "normalize_std", "pixel_std", "dataset_std", "rgb_std"),
    "interpolation": (
        "interpolation", "val_interpolation", "eval_interpolation", "test_interpolation", "resample", "interp",
    ),
    "crop_pct": ("crop_pct", "eval_crop_ratio", "eval_crop_pct", "test_crop_ratio", "val_crop_ratio", "crop_ratio"),
    "crop_mode": ("crop_mode",),
    "orientation": ("orientation",),
}  # fmt: skip
RESIZE_KEYS = ("val_resize_size", "eval_resize_size", "test_resize_size", "resize_size", "resize")
OTHER_KEYS: Mapping[str, tuple[str, ...]] = {
    "num_classes": ("num_classes", "nb_classes", "n_classes", "num_labels", "num_class"),
    "in_chans": ("in_chans", "in_channels", "input_channels", "n_channels"),
    "bn_eps": ("bn_eps", "bn_epsilon", "batch_norm_eps", "batch_norm_epsilon"),
    "layer_norm_eps": ("layer_norm_eps", "layer_norm_epsilon", "ln_eps"),
    "transform_input": ("transform_input",),
}
SIZE_OF_IMAGES = ("size",)  # in a section about images alone; elsewhere it may be that of a network
FEATURES = ("outputsize", "hidden")  # beside these an input_size is a number of features
PIL_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
SAME_FILTERS = {
    "linear": "bilinear",
    "cubic": "bicubic",
    "lanczos3": "lanczos",
    "lanczos4": "lanczos",
    "antialias": "lanczos",
    "area": "box",
    "nearest_exact": "nearest",
}
FOR_TRAINING = "random"  # an interpolation drawn anew for each image
PERCENT = 10  # a share of 10 and more is one of a hundred


@dataclass(frozen=True)
class Settings:
    """What a file says of its network and of the images.

    Attributes:
        args: values under timm's names; further settings under the file's own.
        places: for each transform setting the words for where it stands, for instance ``args.val_crop_size``.
        conflicts: for some of them, where else in the file it is another.
    """

    args: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, str] = field(default_factory=dict)


def as_args(args: Any) -> dict[str, Any]:
    """The names and values of a namespace or a dictionary; empty for anything else."""
    if isinstance(args, argparse.Namespace):
        return dict(vars(args))
    attributes = getattr(args, "attributes", None)  # of an object that was read without its class
    named = dict(attributes) if isinstance(attributes, Mapping) else {}
    items = {str(key): value for key, value in args.items()} if isinstance(args, Mapping) else {}
    return {**named, **items}


def is_said(value: Any) -> bool:
    """True for a setting with a value; timm's training script saves options that were not given as empty texts."""
    empty = isinstance(value, (str, list, tuple, Mapping)) and not value
    return value is not None and not empty and not is_open(value)


def is_open(value: Any) -> bool:
    """True for OmegaConf's words for a value that another place gives, ``${data.size}``, or nothing yet, ``???``."""
    return isinstance(value, str) and ("${" in value or value == "???")


def canonical(name: str) -> str:
    """`name` without case and separators: ``imageSize``, ``IMAGE_SIZE`` and ``image-size`` are one."""
    return name.lower().replace("_", "").replace("-", "")


def translate_settings(values: Mapping[str, Any], place: str, is_of_images: bool = False) -> Settings:
    """`values` with the settings of the transform under its own names too, where they have others.

    Args:
        values: the settings of one place.
        place: where they stand; empty: at the top.
        is_of_images: a ``size`` there is the images'.
    """
    args, places = dict(values), {}
    keys_of = {canonical(key): key for key in reversed([*values]) if is_said(values[key])}
    if any(key.startswith(FEATURES) for key in keys_of):
        keys_of.pop("inputsize", None)
    conflicts = {**_list_open(values, place), **_drop_random(args, keys_of, place)}
    sizes = (*FIELD_KEYS["input_size"], *(SIZE_OF_IMAGES if is_of_images else ()))
    for name, known in {**FIELD_KEYS, "input_size": sizes}.items():
        key = _first_said(keys_of, known)
        if key is not None:
            args[name], places[name] = values[key], _join(place, key)
    for name, known in OTHER_KEYS.items():
        key = _first_said(keys_of, known)
        if key is not None:
            args.setdefault(name, values[key])
    resized = _first_said(keys_of, RESIZE_KEYS)
    if resized is not None and "input_size" in places and "crop_pct" not in places:
        crop, whole = read_size(args["input_size"])[-1], read_size(values[resized])[-1]
        if 0 < crop <= whole:
            args["crop_pct"], places["crop_pct"] = crop_share(crop, whole), _join(place, resized)
    return Settings(args, places, {name: text for name, text in conflicts.items() if name not in places})


def _list_open(values: Mapping[str, Any], place: str) -> dict[str, str]:
    """For each setting of the transform that is given elsewhere, but nowhere in the file, what it says."""
    field_of = {canonical(known): name for name, keys in FIELD_KEYS.items() for known in keys}
    return {
        field_of[canonical(key)]: f"{_join(place, key)} is {value}, which is not in the file"
        for key, value in values.items()
        if is_open(value) and canonical(key) in field_of
    }


def _drop_random(args: dict[str, Any], keys_of: dict[str, str], place: str) -> dict[str, str]:
    """Leaves out interpolations that are drawn at random, which is for training, and says so."""
    conflicts = {}
    for known in map(canonical, FIELD_KEYS["interpolation"]):
        if known in keys_of and str(args[keys_of[known]]).lower() == FOR_TRAINING:
            key = keys_of.pop(known)
            del args[key]
            conflicts["interpolation"] = f"{_join(place, key)} is {FOR_TRAINING}, which is for training"
    return conflicts


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _first_said(keys_of: Mapping[str, str], known: Iterable[str]) -> str | None:
    """The key of the file for the first of the `known` names that has a value."""
    return next((keys_of[canonical(name)] for name in known if canonical(name) in keys_of), None)


def crop_share(crop: int, resized: int) -> float:
    """The share ``crop / resized`` for which timm resizes the shorter side to exactly `resized`."""
    share = crop / resized
    while math.floor(crop / share) < resized:  # a rounding error below
        share = math.nextafter(share, 0.0)
    return share


def read_size(value: Any) -> tuple[int, ...]:
    """(height, width) or (channels, height, width), from one number, two or three, or a text of them.

    Raises:
        ValueError, TypeError: it is none.
    """
    value = _unwrap(value)
    if isinstance(value, str):
        value = [float(part) for part in re.findall(r"-?[\d.]+", value)] or float(value)
    sides = [value] if isinstance(value, (int, float)) else list(value)
    whole = tuple(int(side) for side in sides)
    if any(side != number for side, number in zip(sides, whole, strict=True)):
        raise ValueError(f"{value} is no whole number of pixels")
    if len(whole) == 1:
        return whole * 2
    if len(whole) == 3 and whole[0] not in (1, 3) and whole[2] in (1, 3):
        return (whole[2], whole[0], whole[1])  # (height, width, channels)
    return whole


def read_numbers(value: Any) -> tuple[float, ...]:
    """One number per channel, from a list, an array, one number, or a text of numbers."""
    value = _unwrap(value)
    if isinstance(value, str):
        value = [float(part) for part in value.replace(",", " ").strip("()[] ").split()]
    return tuple(float(number) for number in (value if isinstance(value, (list, tuple)) else (value,)))


def read_share(value: Any) -> float:
    """A share in 0..1; of a hundred where it is 10 or more."""
    share = float(_unwrap(value))
    return share / 100 if PERCENT <= share <= 100 else share


def read_interpolation(value: Any) -> str:
    """timm's name of a filter, from torchvision's, Pillow's number, or another library's word."""
    value = _unwrap(value)
    if isinstance(value, (list, tuple)) and len(value) == 1:  # an enum that was read without its class
        value = value[0]
    if isinstance(value, int) and not isinstance(value, bool):
        return PIL_FILTERS.get(value, str(value))
    word = str(getattr(value, "value", value)).lower().rpartition(".")[2].removeprefix("inter_").replace("-", "_")
    return SAME_FILTERS.get(word, word)


def _unwrap(value: Any) -> Any:
    """The plain value of an array, a tensor, or of an object that was read without its class."""
    arguments = getattr(value, "arguments", None)
    if isinstance(arguments, tuple):
        return list(arguments) if len(arguments) != 1 else arguments[0]
    return value.tolist() if hasattr(value, "tolist") else value
