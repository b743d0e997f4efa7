"""Folders as Hugging Face and timm write them: config.json beside the weights, what images need in either."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salve_audit.errors import CheckpointError
from salve_audit.inputs.labels.class_names import read_class_names
from salve_audit.inputs.model.formats.partial import describe_config
from salve_audit.inputs.model.formats.processor import Processor, read_processor
from salve_audit.results.transform import TRANSFORM_FIELDS

CONFIG, PREPROCESSOR, ADAPTER = "config.json", "preprocessor_config.json", "adapter_config.json"
PROCESSORS = "processor_config.json"  # of a class for images and texts, which holds the other
WEIGHT_FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin", "model.bin")
SHARDED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
LARGEST_JSON = 32 << 20  # bytes


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
        places: where some of `args` come from, in words, where that is not their name in the file.
        is_flipped: its processor gives blue first.
    """

    label: str
    config: Mapping[str, Any] = field(default_factory=dict)
    arch: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    files: str = CONFIG
    places: Mapping[str, str] = field(default_factory=dict)
    is_flipped: bool = False


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
        return _read_transformers(config, *_find_processor(folder))
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


def _find_processor(folder: Path) -> tuple[Mapping[str, Any], str]:
    """The settings of the image processor, and their file; empty where there are none."""
    own = read_json(folder / PREPROCESSOR)
    inner = {} if own else read_json(folder / PROCESSORS).get("image_processor")
    return (inner, PROCESSORS) if isinstance(inner, dict) and inner else (own, PREPROCESSOR if own else CONFIG)


def _read_transformers(config: Mapping[str, Any], processor: Mapping[str, Any], file: str) -> Hub:
    names = read_class_names(config.get("id2label")) or read_class_names(config.get("label2id"))
    if names and all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        names = None  # what the library fills in where nobody named the classes
    side = config.get("image_size")
    read = read_processor(processor, file, side) if processor else Processor({}, {}, False)
    args, places = dict(read.args), dict(read.places)
    if "input_size" not in args and isinstance(side, int):
        args["img_size"], places["input_size"] = side, f"{CONFIG}.image_size"
    return Hub("Hugging Face folder", config, None, args, names, file, places, read.is_flipped)
