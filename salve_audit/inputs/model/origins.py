"""The training script that wrote a checkpoint, by the keys that it leaves, and its conventions.

What a script does in every run (the evaluation transform, the order of classes) it seldom writes down. Each script is
one `Origin` record; what the file itself says wins over it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from salve_audit.inputs.labels.matching import SORTED_ORDER, TIMM_ORDER, UNKNOWN_ORDER, ClassOrder
from salve_audit.inputs.model.settings import crop_share, is_said, read_size
from salve_audit.results.transform import UPRIGHT

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
INCEPTION = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
LARGE = 384  # pixels; from there ConvNeXt's script squashes images
MAX_CONFIG = 1 << 20  # characters
Args = Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """A training script.

    Attributes:
        label: in words; empty: not known.
        convention: how it numbers class folders: `TIMM_ORDER`, `SORTED_ORDER`, or empty where it is not known.
        is_origin: whether a file with these top-level values and args is its.
        prepare: the evaluation transform that it builds from its args, where they do not say it themselves.
    """

    label: str = ""
    convention: str = ""
    is_origin: Callable[[Args, Args], bool] = lambda outer, args: False
    prepare: Callable[[Args, Args], dict[str, Any]] = lambda outer, args: {}

    @property
    def class_order(self) -> ClassOrder:
        """How it numbers class folders, for `match_classes`."""
        return ClassOrder(self.convention, self.label) if self.convention else UNKNOWN_ORDER


UNKNOWN = Origin()


def find_origin(outer: Mapping[Any, Any], args: Args) -> Origin:
    """The script that wrote a checkpoint with these top-level values and settings."""
    named = {key: value for key, value in outer.items() if isinstance(key, str)}
    return next((origin for origin in ORIGINS if origin.is_origin(named, args)), UNKNOWN)


def _prepare_torchvision(outer: Args, args: Args) -> dict[str, Any]:
    is_inception = args.get("model") == "inception_v3"
    crop, resized = (299, 342) if is_inception else (224, 256)
    crop = _side(args, ("val_crop_size",)) or crop
    resized = max(crop, _side(args, ("val_resize_size",)) or resized)
    return {
        "input_size": (crop, crop),
        "crop_pct": crop_share(crop, resized),
        "interpolation": "bilinear",
        **IMAGENET,
    }


def _prepare_deit(outer: Args, args: Args) -> dict[str, Any]:
    """DeiT's, BEiT's, MAE's and ConvNeXt's scripts: ``int(256 / 224 * size)``, then the centre, bicubic."""
    size = _side(args, ("input_size", "img_size")) or 224
    values: dict[str, Any] = {"input_size": (size, size), "interpolation": "bicubic"}
    values |= INCEPTION if args.get("imagenet_default_mean_and_std") is False else IMAGENET
    is_convnext, is_mae = "crop_pct" in args, "blr" in args
    if is_convnext and size >= LARGE:
        return {**values, "crop_pct": 1.0, "crop_mode": "squash"}
    if is_mae and size > 224:
        return {**values, "crop_pct": 1.0}
    return {**values, "crop_pct": crop_share(size, int(256 / 224 * size))}


def _prepare_examples(outer: Args, args: Args) -> dict[str, Any]:
    return {"input_size": (224, 224), "crop_pct": crop_share(224, 256), "interpolation": "bilinear", **IMAGENET}


def _prepare_openmmlab(outer: Args, args: Args) -> dict[str, Any]:
    """The last pipeline in the configuration that the file keeps as text, which is parsed and never run."""
    text = outer["meta"].get("cfg") or outer["meta"].get("config")
    if not isinstance(text, str) or len(text) > MAX_CONFIG:
        return {}
    values: dict[str, Any] = {}
    for name in ("mean", "std"):
        number = _find_literal(text, name)
        if number is not None:
            values[name] = number
    crop, resized = _find_literal(text, "crop_size", last=True), _find_literal(text, "scale", last=True)
    if isinstance(crop, (int, tuple, list)):
        values["input_size"] = read_size(crop)
        whole = resized if isinstance(resized, int) else None
        if whole and whole >= values["input_size"][-1]:
            values["crop_pct"] = crop_share(values["input_size"][-1], whole)
    interpolation = re.findall(r"interpolation\s*=\s*['\"](\w+)['\"]", text)
    return {**values, **({"interpolation": interpolation[-1]} if interpolation else {})}


def _find_literal(text: str, name: str, last: bool = False) -> Any:
    places = re.findall(rf"\b{name}\s*=\s*(\[[^\]]*\]|\([^)]*\)|[\d.]+)", text)
    try:
        return ast.literal_eval(places[-1 if last else 0]) if places else None
    except (ValueError, SyntaxError):
        return None


def _side(args: Args, names: tuple[str, ...]) -> int:
    value = next((args[name] for name in names if is_said(args.get(name))), None)
    return 0 if value is None else read_size(value)[-1]


def _is_timm(outer: Args, args: Args) -> bool:
    written = "arch" in outer and "version" in outer and "model" in args
    return written or {"train_interpolation", "class_map", "crop_pct"} <= set(args)


def _is_torchvision(outer: Args, args: Args) -> bool:
    return "val_crop_size" in args or "val_resize_size" in args or {"lr_step_size", "data_path", "model"} <= set(args)


def _is_deit(outer: Args, args: Args) -> bool:
    return "nb_classes" in args and ("input_size" in args or "data_path" in args or "data_set" in args)


def _is_example(outer: Args, args: Args) -> bool:
    best = any(key in outer for key in ("best_acc1", "best_prec1", "best_acc"))
    return not args and best and {"epoch", "arch", "state_dict"} <= set(outer)


def _is_openmmlab(outer: Args, args: Args) -> bool:
    meta = outer.get("meta")
    marks = ("dataset_meta", "CLASSES", "mmengine_version", "mmcls_version", "mmpretrain_version", "mmcv_version")
    return isinstance(meta, Mapping) and any(mark in meta for mark in marks)


TIMM = Origin("timm's train.py", TIMM_ORDER, _is_timm)
TORCHVISION_SCRIPT = Origin("torchvision's references", SORTED_ORDER, _is_torchvision, _prepare_torchvision)
HUGGING_FACE = Origin(
    "Hugging Face's image datasets", SORTED_ORDER, prepare=lambda outer, args: {"orientation": UPRIGHT}
)
ORIGINS = (
    TORCHVISION_SCRIPT,
    Origin("the scripts of DeiT, MAE and ConvNeXt", SORTED_ORDER, _is_deit, _prepare_deit),
    Origin("OpenMMLab", SORTED_ORDER, _is_openmmlab, _prepare_openmmlab),
    TIMM,
    Origin("PyTorch's ImageNet example", SORTED_ORDER, _is_example, _prepare_examples),
)
