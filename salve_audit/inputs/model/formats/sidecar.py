"""The JSON file beside a checkpoint, with what the checkpoint does not say of images and classes.

``model.json`` beside ``model.pt`` may have input_size, mean, std, interpolation, crop_pct, crop_mode, orientation and
class_names, under these or under other scripts' names. It is what the user says, and wins over the checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salve_audit.errors import CheckpointError
from salve_audit.inputs.labels.class_names import NAME_KEYS, NamedClasses, read_class_names
from salve_audit.inputs.model.formats.hub import read_json
from salve_audit.inputs.model.settings import FIELD_KEYS, RESIZE_KEYS, translate_settings
from salve_audit.results.transform import TRANSFORM_FIELDS

TRANSFORM_INPUT = "transform_input"  # of torchvision's GoogLeNet and Inception v3
SETTINGS = (*TRANSFORM_FIELDS, "class_names")
ALSO_KNOWN = frozenset({*RESIZE_KEYS, TRANSFORM_INPUT}).union(SETTINGS, NAME_KEYS, *FIELD_KEYS.values())
# a checkpoint's endings, of which there may be several: model_best.pth.tar
ENDINGS = frozenset(
    {".pt", ".pth", ".tar", ".ckpt", ".bin", ".safetensors", ".onnx", ".th", ".pkl", ".pickle", ".model"}
)
MAX_NAMED = 3
NAME_FILES = ("classes.txt", "labels.txt", "class_names.txt", "names.txt")
LARGEST_TEXT = 8 << 20  # bytes


@dataclass(frozen=True)
class Sidecar:
    """Settings from the file `name`; `note` where there is such a file that is something else.

    `transform_input` is what it says of torchvision's networks that rescale images themselves.
    """

    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    note: str | None = None
    transform_input: bool | None = None


def sidecar_of(path: Path) -> Path:
    """Path of the JSON file that belongs to the checkpoint `path`: one that is there, else the plainest name."""
    bare = path.name
    while Path(bare).suffix.lower() in ENDINGS:
        bare = Path(bare).stem
    names = (f"{bare or path.stem}.json", f"{path.stem}.json", f"{path.name}.json")
    places = [path.with_name(name) for name in names]
    return next((place for place in places if place.is_file()), places[0])


def read_sidecar(path: Path) -> Sidecar:
    """Settings beside the checkpoint `path`; none where there is no such file, or one of something else.

    Training scripts keep their own JSON beside a checkpoint, so that a file with other keys is left alone, and said.

    Raises:
        CheckpointError: its class names are no list of texts.
    """
    file = sidecar_of(path)
    if path.is_dir() or file == path or not file.is_file():
        return Sidecar()
    try:
        settings = read_json(file)
    except CheckpointError as error:
        return Sidecar(note=f"{file.name} beside the checkpoint {error.why}; nothing was taken from it")
    unknown = [name for name in settings if name not in ALSO_KNOWN]
    if unknown or not settings:
        names = read_class_names(settings)  # index -> name, or name -> index, and nothing else
        if names is not None:
            return Sidecar(file.name, class_names=names)
        shown = ", ".join(unknown[:MAX_NAMED]) or "nothing"
        return Sidecar(
            note=f"{file.name} beside the checkpoint holds other things ({shown}); nothing was taken from it"
        )
    return read_settings(file, settings)


def read_name_files(path: Path) -> tuple[NamedClasses, ...]:
    """Lines of ``model.txt``, ``classes.txt`` and the like beside the checkpoint, numbers in front left out."""
    beside = sidecar_of(path).with_suffix(".txt").name
    folder = path if path.is_dir() else path.parent
    files = [folder / name for name in (beside, *NAME_FILES)]
    return tuple(listed for file in files if (listed := _read_lines(file)) is not None)


def _read_lines(file: Path) -> NamedClasses | None:
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_TEXT:
            return None
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError):  # not for us, or no text
        return None
    numbered = [re.fullmatch(r"(\d+)[\s:,]+(.+)", line) for line in lines]
    pairs = {int(match[1]): match[2] for match in numbered if match is not None and len(match[1]) < 10}
    if len(pairs) == len(lines) and set(pairs) in (set(range(len(lines))), set(range(1, len(lines) + 1))):
        lines = [pairs[number] for number in sorted(pairs)]
    is_list = len(lines) > 1 and len(set(lines)) == len(lines)
    return NamedClasses(f"{file.name} beside the checkpoint", tuple(lines)) if is_list else None


def read_settings(file: Path, settings: Mapping[str, Any]) -> Sidecar:
    """The transform's settings and the class names in the contents of `file`.

    Raises:
        CheckpointError: its class names are no names in output order.
    """
    key = next((key for key in NAME_KEYS if settings.get(key) is not None), None)
    names = None if key is None else read_class_names(settings[key])
    if key is not None and names is None:
        raise CheckpointError(str(file), f"has {key} that are no list of texts and no mapping of them to outputs")
    translated = translate_settings(settings, "")
    values = {name: translated.args[name] for name in translated.places}
    rescales = settings.get(TRANSFORM_INPUT)
    return Sidecar(file.name, values, names, transform_input=rescales if isinstance(rescales, bool) else None)
