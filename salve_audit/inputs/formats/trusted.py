"""Whole networks from files that are programs, loaded after ``--trust-model``: their code runs here.

What such a file does not say, how pictures are prepared, may stand in a JSON file of the same name beside it
(``model.pt`` and ``model.json``) with input_size, mean, std, interpolation, crop_pct, crop_mode and class_names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.formats.exported import load_exported
from salve_audit.inputs.formats.hub import TRANSFORM_FIELDS, read_json
from salve_audit.inputs.formats.sniff import Kind
from salve_audit.inputs.formats.torchscript import load_torchscript
from salve_audit.inputs.network import Network

if TYPE_CHECKING:
    from salve_audit.inputs.weights import Checkpoint

GENERAL = "general default of 224 pixels and ImageNet's mean: the file does not say"


def load_program(checkpoint: Checkpoint) -> Network:
    """The network in a trusted file.

    Raises:
        CheckpointError: it cannot be loaded, or does not end with a linear layer.
    """
    path = checkpoint.path
    declared, declared_by = _read_sidecar(path)
    if checkpoint.module is not None:
        model: nn.Module = checkpoint.module.float().cpu()
        name = f"{type(model).__module__}.{type(model).__qualname__}"
        general = "architecture default (timm)" if hasattr(model, "pretrained_cfg") else GENERAL
    elif checkpoint.kind is Kind.TORCHSCRIPT:
        model, name = load_torchscript(path)
        general = GENERAL
    else:
        model, name, input_size = load_exported(path)
        if input_size is not None and "input_size" not in declared:
            declared, declared_by = {**declared, "input_size": input_size}, declared_by or path.name
        general = GENERAL
    key = f"{name} {checkpoint.sha256}"
    return Network(model, name, key, {}, declared, declared_by, default_source=general, trusted_code=True)


def _read_sidecar(path: Path) -> tuple[dict[str, Any], str]:
    """Settings from the JSON file beside `path`, and its name; nothing where there is none."""
    file = path.with_suffix(".json")
    settings: Mapping[str, Any] = read_json(file)
    unknown = sorted(set(settings) - {*TRANSFORM_FIELDS, "class_names"})
    if unknown:
        hint = f"known: {', '.join((*TRANSFORM_FIELDS, 'class_names'))}"
        raise CheckpointError(str(file), f"has an unknown setting {unknown[0]!r}", hint=hint)
    return {name: settings[name] for name in TRANSFORM_FIELDS if name in settings}, file.name
