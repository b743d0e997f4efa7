"""Whole networks from files that are programs, loaded after ``--trust-model``: their code runs here.

Such a file does not say how images are prepared; that may stand in a JSON file of the same name beside it
(``model.pt`` and ``model.json``) with input_size, mean, std, interpolation, crop_pct, crop_mode, orientation and
class_names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.formats.exported import load_exported
from salve_audit.inputs.model.formats.hub import read_json
from salve_audit.inputs.model.formats.sidecar import ALSO_KNOWN, SETTINGS, read_settings, sidecar_of
from salve_audit.inputs.model.formats.sniff import FileKind
from salve_audit.inputs.model.formats.torchscript import load_torchscript
from salve_audit.inputs.model.network import Network

if TYPE_CHECKING:
    from salve_audit.inputs.model.weights import Checkpoint

GENERAL = "timm's general default"


@dataclass(frozen=True)
class LoadedProgram:
    """A network that was loaded by running code of its file.

    Attributes:
        network: with its weights.
        class_names: by the JSON file beside it, or None.
        notes: what the reader of a report should know.
    """

    network: Network
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]


def load_program(checkpoint: Checkpoint) -> LoadedProgram:
    """The network in a trusted file.

    Raises:
        CheckpointError: it cannot be loaded, or does not end with a linear layer.
    """
    path = checkpoint.path
    settings, names = _read_sidecar(path)
    declared_by, default_source = sidecar_of(path).name, GENERAL
    if checkpoint.module is not None:
        model: nn.Module = checkpoint.module.float().cpu()
        name = f"{type(model).__module__}.{type(model).__qualname__}"
        if hasattr(model, "pretrained_cfg"):
            default_source = "architecture default (timm)"
    elif checkpoint.kind is FileKind.TORCHSCRIPT:
        model, name = load_torchscript(path)
    else:
        model, name, input_size = load_exported(path)
        if input_size is not None and "input_size" not in settings:
            declared_by = f"{declared_by} and the program" if settings else "the program"
            settings["input_size"] = input_size
    notes = [f"code in {path.name} was run to load it (--trust-model)"]
    if "input_size" not in settings:
        notes.append(f"the file does not say the images' size; {sidecar_of(path).name} beside it may (input_size)")
    network = Network(
        model,
        name,
        f"{name} {checkpoint.sha256}",
        declared=settings,
        declared_by=declared_by,
        default_source=default_source,
        trusted_code=True,
    )
    return LoadedProgram(network, names, tuple(notes))


def _read_sidecar(path: Path) -> tuple[dict[str, Any], tuple[str, ...] | None]:
    """Settings and class names from the JSON file beside `path`; nothing where there is none."""
    file = sidecar_of(path)
    settings = read_json(file)
    unknown = sorted(set(settings) - ALSO_KNOWN)
    if unknown:
        hint = f"known: {', '.join(SETTINGS)}"
        raise CheckpointError(str(file), f"has an unknown setting {unknown[0]!r}", hint=hint)
    beside = read_settings(file, settings)
    return dict(beside.settings), beside.class_names
