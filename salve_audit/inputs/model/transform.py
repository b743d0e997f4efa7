"""The transform from image to tensor: by the checkpoint's settings, else the architecture's, field by field."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.classifier import ORIENTATION
from salve_audit.inputs.model.formats.sidecar import sidecar_of
from salve_audit.inputs.model.network import Network
from salve_audit.inputs.model.pixel_range import in_words, rescale_bytes
from salve_audit.inputs.model.settings import is_said, read_interpolation, read_numbers, read_share, read_size
from salve_audit.inputs.model.weights import Checkpoint
from salve_audit.results.decisions import Decision
from salve_audit.results.transform import STORED, TRANSFORM_FIELDS, UPRIGHT, TransformSpec

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")
ORIENTATIONS = (STORED, UPRIGHT)
LARGEST = 4096  # pixels a side; beyond it a setting is an accident, and would fill the memory
USUAL = {"crop_mode": "center", "orientation": STORED}  # what nothing states, and needs no source
IN_WORDS = {"input_size": "input size", "crop_pct": "crop", "crop_mode": "crop mode"}
FROM_CHECKPOINT = "checkpoint"
CHOICES: Mapping[str, tuple[str, ...]] = {
    "interpolation": INTERPOLATIONS, "crop_mode": CROP_MODES, "orientation": ORIENTATIONS,
}  # fmt: skip


class Said(NamedTuple):
    """A setting, what it comes from in a few words, and where exactly it stands."""

    value: Any
    source: str
    place: str


class Prepared(NamedTuple):
    """The transform, and the readings that it is a choice between."""

    spec: TransformSpec
    decisions: tuple[Decision, ...]


def resolve_transform(checkpoint: Checkpoint, network: Network) -> Prepared:
    """The evaluation transform that the checkpoint's settings ask for.

    Each field comes from the JSON file beside the checkpoint, else from the checkpoint's settings, else from the
    conventions of the script that wrote it, else from the user's file (attributes of those names of the function or
    its module), else from timm's data config; ``source`` says which. A crop mode or an orientation that nothing
    states is the usual one and needs no source.

    Raises:
        CheckpointError: a setting makes no sense, or the network takes neither 1 nor 3 channels.
    """
    try:
        return _resolve(checkpoint, network)
    except (TypeError, ValueError, ArithmeticError) as error:
        beside = sidecar_of(checkpoint.path).name
        hint = f'{beside} beside it may say it otherwise, for instance {{"input_size": [3, 224, 224]}}'
        raise CheckpointError(str(checkpoint.path), f"its settings make no transform: {error}", hint=hint) from error


def _resolve(checkpoint: Checkpoint, network: Network) -> Prepared:
    default = dict(resolve_model_data_config(network.model))  # type: ignore[no-untyped-call]
    default.update(network.defaults)
    n_channels = _count_channels(network)
    said = {name: _find_setting(name, checkpoint, network, default) for name in TRANSFORM_FIELDS}
    values = {name: _read_value(name, setting) for name, setting in said.items()}
    size = values["input_size"]
    if len(size) == 2 or said["input_size"].source == network.default_source:
        values["input_size"] = (n_channels, *size[-2:])
    beside = checkpoint.sidecar.name
    notes = {name: text for name, text in checkpoint.conflicts.items() if said[name].source != beside}
    notes |= _rescale(values)
    for name in ("mean", "std"):
        values[name] = _per_channel(values[name], n_channels)
    silent = [name for name in USUAL if said[name].source == network.default_source and values[name] == USUAL[name]]
    sources = {name: setting.source for name, setting in said.items() if name not in silent}
    spec = _checked_spec(values, _name_sources(sources), n_channels)
    compared = {name: default.get(name) for name in TRANSFORM_FIELDS} if checkpoint.origin.label else {}
    decisions = _decide(spec, {name: said[name] for name in said if name not in silent}, compared, notes)
    return Prepared(spec, tuple(decisions))


def _find_setting(name: str, checkpoint: Checkpoint, network: Network, default: Mapping[str, Any]) -> Said:
    """The setting `name` from the most telling of the places that state it."""
    beside, own = checkpoint.sidecar, _own_settings(checkpoint, network)
    conventions = f"convention of {checkpoint.origin.label}"
    for source, place, settings in (
        (beside.name, beside.name, beside.settings),
        (FROM_CHECKPOINT, checkpoint.places.get(name, FROM_CHECKPOINT), own),
        (conventions, conventions, checkpoint.conventions),
        (network.declared_by, network.declared_by, network.declared),
    ):
        if is_said(settings.get(name)):
            return Said(settings[name], source, place)
    value = default.get(name)
    return Said(USUAL.get(name) if value is None else value, network.default_source, network.default_source)


def _read_value(name: str, setting: Said) -> Any:
    """The value in the form that `TransformSpec` has; errors name the setting and where it stands."""
    readers: Mapping[str, Callable[[Any], Any]] = {
        "input_size": read_size, "mean": read_numbers, "std": read_numbers, "crop_pct": read_share,
        "interpolation": read_interpolation,
    }  # fmt: skip
    try:
        return readers.get(name, str)(setting.value)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{setting.place} is {setting.value!r} ({error})") from error


def _rescale(values: dict[str, Any]) -> dict[str, str]:
    """Brings a mean and a standard deviation for pixels in 0..255 to 0..1; a note for each that was.

    Raises:
        ValueError: they are Caffe's, whose networks take blue first.
    """
    moments = rescale_bytes(values["mean"], values["std"])
    if moments.blue_first:
        raise ValueError(
            f"mean {values['mean']} is that of networks that take blue first, in 0 to 255; images are given red first "
            "here (--arch FILE.py:FUNCTION can turn the channels around before the network)"
        )
    values["mean"], values["std"] = moments.mean, moments.std
    return {"mean": moments.note} if moments.note else {}


def _decide(
    spec: TransformSpec, said: Mapping[str, Said], default: Mapping[str, Any], notes: Mapping[str, str]
) -> Iterator[Decision]:
    """A line for each part of the transform; where a convention was taken, what the architecture's default is."""
    size = "x".join(map(str, spec.input_size))
    normalised = f"{in_words(spec.mean)}; {in_words(spec.std)}"
    shown = {
        "input_size": ("input size", size), "crop_pct": ("crop", f"{spec.crop_pct:.4g} of the side"),
        "crop_mode": ("crop mode", spec.crop_mode), "interpolation": ("interpolation", spec.interpolation),
        "mean": ("mean, std", normalised), "orientation": (ORIENTATION, spec.orientation),
    }  # fmt: skip
    for name, (what, taken) in shown.items():
        if name not in said:
            continue
        place, conflict = said[name].place, notes.get(name, notes.get("std", "") if name == "mean" else "")
        if name == "mean" and said["std"].place != place:
            place = f"{place}; {said['std'].place}"
        other = default.get(name)
        if not conflict and said[name].source.startswith("convention") and other is not None:
            own = {"mean": spec.mean, "input_size": spec.input_size}.get(name, getattr(spec, name))
            if not _equal(own, other):
                conflict = f"the architecture's own default is {_shown(name, other)}"
        yield Decision(what, taken, place, conflict)


def _equal(own: Any, other: Any) -> bool:
    if isinstance(own, tuple) and isinstance(other, (list, tuple)):
        return len(own) == len(other) and all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(own, other, strict=True))
    return math.isclose(own, other, abs_tol=1e-3) if isinstance(own, float) else bool(own == other)


def _shown(name: str, value: Any) -> str:
    if name == "input_size":
        return "x".join(map(str, value))
    if isinstance(value, str):
        return value
    return in_words(value) if isinstance(value, (list, tuple)) else f"{value:.4g}"


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


def _own_settings(checkpoint: Checkpoint, network: Network) -> Mapping[str, Any]:
    """The checkpoint's settings; model_kwargs may carry the size too."""
    size = network.kwargs.get("img_size") or network.kwargs.get("image_size")
    is_explicit = checkpoint.places.get("input_size", "").endswith("input_size")
    return checkpoint.args if size is None or is_explicit else {**checkpoint.args, "input_size": size}


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
    size, mean, std, crop_pct = (values[name] for name in ("input_size", "mean", "std", "crop_pct"))
    if n_channels not in (1, 3):
        raise ValueError(f"the network takes {n_channels} channels, images have 1 or 3")
    if len(size) != 3 or size[0] != n_channels or not all(0 < side <= LARGEST for side in size[1:]):
        raise ValueError(f"input size {size} is not ({n_channels}, height, width)")
    if len(mean) != n_channels or len(std) != n_channels:
        raise ValueError(f"{len(mean)} means and {len(std)} standard deviations for {n_channels} channels")
    if not all(math.isfinite(number) for number in (*mean, *std)) or min(std) <= 0:
        raise ValueError(f"mean {mean} or standard deviation {std} is not usable")
    for name, allowed in CHOICES.items():
        if values[name] not in allowed:
            raise ValueError(f"{name} {values[name]!r} is not one of {', '.join(allowed)}")
    if not 0 < crop_pct <= 1:
        raise ValueError(f"crop_pct {crop_pct} is not in (0, 1]")
    return TransformSpec(
        input_size=(size[0], size[1], size[2]),
        mean=mean,
        std=std,
        interpolation=values["interpolation"],
        crop_pct=crop_pct,
        source=source,
        crop_mode=values["crop_mode"],
        orientation=values["orientation"],
    )


def _name_sources(sources: Mapping[str, str]) -> str:
    """One source as it is, several as ``input size, mean: checkpoint; crop: architecture default (timm)``."""
    distinct = list(dict.fromkeys(sources.values()))
    if len(distinct) == 1:
        return distinct[0]
    fields = {
        source: ", ".join(IN_WORDS.get(name, name) for name in sources if sources[name] == source)
        for source in distinct
    }
    return "; ".join(f"{names}: {source}" for source, names in fields.items())
