"""The JSON file beside a checkpoint, with what the checkpoint does not say of images and classes.

``model.json`` beside ``model.pt`` may have input_size, mean, std, interpolation, crop_pct, crop_mode and class_names.
It is what the user says, and wins over the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.formats.hub import read_json
from salve_audit.results.transform import TRANSFORM_FIELDS

SETTINGS = (*TRANSFORM_FIELDS, "class_names")
MAX_NAMED = 3


@dataclass(frozen=True)
class Sidecar:
    """Settings from the file `name`; `note` where there is such a file that is something else."""

    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    note: str | None = None


def sidecar_of(path: Path) -> Path:
    """Path of the JSON file that belongs to the checkpoint `path`."""
    return path.with_suffix(".json")


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
    unknown = [name for name in settings if name not in SETTINGS]
    if unknown or not settings:
        shown = ", ".join(unknown[:MAX_NAMED]) or "nothing"
        return Sidecar(
            note=f"{file.name} beside the checkpoint holds other things ({shown}); nothing was taken from it"
        )
    names = settings.pop("class_names", None)
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise CheckpointError(str(file), "has class_names that are no list of texts")
    return Sidecar(file.name, settings, tuple(names) if names else None)
