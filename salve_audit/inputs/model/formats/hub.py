"""Folders as Hugging Face and timm write them: config.json beside the weights, what images need in either."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salve_audit.errors import CheckpointError
from salve_audit.inputs.labels.class_names import read_class_names
from salve_audit.inputs.model.formats.partial import describe_config
from salve_audit.inputs.model.settings import PIL_FILTERS, crop_share
from salve_audit.results.transform import TRANSFORM_FIELDS

CONFIG, PREPROCESSOR, ADAPTER = "config.json", "preprocessor_config.json", "adapter_config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin", "model.bin")
SHARDED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
LARGEST_JSON = 32 << 20  # bytes
RESCALED = 1 / 255  # what pixels are multiplied with, unless a processor says another factor
CONVNEXT_CROP = 224 / 256
LARGE_CONVNEXT = 384  # from this size on, ConvNeXt's processor squashes images instead of cropping them


@dataclass(frozen=True)
class Hub:
    """The configuration of a folder.

    Attributes:
        label: ``timm folder`` or ``Hugging Face folder``.
        config: config.json as it is, empty where there is none.
        arch: timm's name, where the folder is timm's.
        args: transform settings and model_kwargs under the names that checkpoints use.
        class_names: in output order, or None.
        files: the names of the files that `args` come from.
    """

    label: str
    config: Mapping[str, Any] = field(default_factory=dict)
    arch: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    files: str = CONFIG


def find_weight_files(folder: Path) -> tuple[Path, ...]:
    """The file with the folder's weights, or all its shards.

    Raises:
        CheckpointError: there is none, several unknown ones, or a shard is missing.
    """
    partial = describe_config(read_json(folder / CONFIG), read_json(folder / ADAPTER))
    if partial is not None:
        raise CheckpointError(str(folder), partial.what, hint=partial.remedy)
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return (folder / name,)
    for name in SHARDED:
        if (folder / name).is_file():
            return _list_shards(folder / name)
    others = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if len(others) == 1:
        return (others[0],)
    if others:
        names = ", ".join(file.name for file in others[:5])
        raise CheckpointError(str(folder), f"is a folder with {len(others)} checkpoints: {names}", hint="name one")
    hint = "expected a checkpoint file, or a folder with config.json and model.safetensors or pytorch_model.bin"
    raise CheckpointError(str(folder), "is a folder without weights", hint=hint)


def read_hub(folder: Path) -> Hub:
    """Reads config.json and preprocessor_config.json in `folder`.

    Raises:
        CheckpointError: one of them is no JSON object.
    """
    config = read_json(folder / CONFIG)
    if "architecture" in config:
        return _read_timm(config)
    if "model_type" in config:
        return _read_transformers(config, read_json(folder / PREPROCESSOR))
    return Hub("folder", config)


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; empty where there is no such file.

    Raises:
        CheckpointError: it is no JSON object, or too large to be one of a model's settings.
    """
    try:
        if file.exists() and not file.is_file():  # a pipe would keep whoever opens it waiting
            raise CheckpointError(str(file), "is no plain file")
        if file.stat().st_size > LARGEST_JSON:
            raise CheckpointError(str(file), f"has over {LARGEST_JSON >> 20} MB, too much for settings")
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CheckpointError(str(file), f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(str(file), "is no JSON") from error
    if not isinstance(content, dict):
        raise CheckpointError(str(file), f"holds a JSON {type(content).__name__}, expected an object")
    return content


def _list_shards(index: Path) -> tuple[Path, ...]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise CheckpointError(str(index), "has no weight_map")
    names = sorted(set(places.values()))
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise CheckpointError(str(index), f"names a shard {name!r} that is not in its folder")
    return tuple(index.parent / name for name in names)


def _read_timm(config: Mapping[str, Any]) -> Hub:
    inner = config.get("pretrained_cfg")
    settings = {**config, **(inner if isinstance(inner, dict) else {})}
    args = {name: settings[name] for name in TRANSFORM_FIELDS if settings.get(name) is not None}
    if config.get("model_args"):
        args["model_kwargs"] = config["model_args"]
    names = next(filter(None, (read_class_names(settings.get(key)) for key in ("label_names", "class_names"))), None)
    return Hub("timm folder", config, str(config["architecture"]), args, names)


def _read_transformers(config: Mapping[str, Any], processor: Mapping[str, Any]) -> Hub:
    names = read_class_names(config.get("id2label")) or read_class_names(config.get("label2id"))
    if names and all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        names = None  # what the library fills in where nobody named the classes
    args = _read_processor(processor) if processor else {}
    if "input_size" not in args and isinstance(config.get("image_size"), int):
        args["img_size"] = config["image_size"]
    return Hub("Hugging Face folder", config, None, args, names, PREPROCESSOR if processor else CONFIG)


def _read_processor(processor: Mapping[str, Any]) -> dict[str, Any]:
    """An image processor's settings as timm's: resized to `size`, or by the shorter edge, then cropped."""
    args: dict[str, Any] = {}
    args["mean"], args["std"] = _read_normalisation(processor)
    args["interpolation"] = PIL_FILTERS.get(processor.get("resample", 2))
    size, is_squashed = _read_size(processor.get("size"))
    crop_pct = processor.get("crop_pct")
    kind = f"{processor.get('image_processor_type')} {processor.get('feature_extractor_type')}"
    if "ConvNext" in kind:  # its one number is the shorter edge, and its crop has a default
        crop_pct, is_squashed = crop_pct or CONVNEXT_CROP, False
    crop, _ = _read_size(processor.get("crop_size") if processor.get("do_center_crop") else None)
    channels = len(args["mean"] or (0, 0, 0))
    if size is None:
        return {key: value for key, value in args.items() if value is not None}
    if crop is not None and crop[0] <= size[0]:
        side, share = crop, crop_share(crop[0], size[0])
    elif crop_pct and not is_squashed and size[0] < LARGE_CONVNEXT:
        side, share = size, float(crop_pct)
    else:
        side, share, is_squashed = size, 1.0, is_squashed or bool(crop_pct)
    args.update(input_size=(channels, *side), crop_pct=share, crop_mode="squash" if is_squashed else "center")
    return {key: value for key, value in args.items() if value is not None}


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
