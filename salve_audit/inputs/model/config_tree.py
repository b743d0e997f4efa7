"""Settings in the nested configurations that training scripts keep: Lightning's, Hydra's, yacs's, dictionaries."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from salve_audit.inputs.model.settings import (
    FEATURES,
    FIELD_KEYS,
    OTHER_KEYS,
    RESIZE_KEYS,
    SIZE_OF_IMAGES,
    Settings,
    as_args,
    canonical,
    read_size,
    translate_settings,
)
from salve_audit.inputs.model.timm_names import read_timm_name
from salve_audit.inputs.names import words_of

# a section is gone into where a word of its name is one of these: data_cfg, hyper_parameters, val_transforms
OF_IMAGES = frozenset(
    {
        "data", "dataset", "datasets", "datamodule", "dm", "loader", "dataloader", "transform", "transforms", "tfms",
        "preprocess", "preprocessing", "preprocessor", "processor", "image", "images", "img", "input", "inputs", "aug",
        "augs", "augmentation", "augmentations", "normalize", "normalise", "normalization", "normalisation", "norm",
        "stats", "pipeline",
    }
)  # fmt: skip
OF_NORMALISATION = frozenset({"normalize", "normalise", "normalization", "normalisation", "norm", "stats"})
OF_NETWORK = frozenset({"model", "net", "network", "backbone", "encoder", "arch", "architecture", "timm"})
OF_EVALUATION = frozenset({"test", "eval", "val", "valid", "validation", "inference", "predict"})
OF_TRAINING = frozenset({"train", "training"})
OF_SETTINGS = frozenset(
    {
        "cfg", "config", "configs", "conf", "configuration", "hyper", "hyperparameters", "hparams", "hp", "opt", "opts",
        "option", "options", "settings", "params", "args", "arguments", "kwargs", "flags", "meta", "metadata", "info",
        "common", "general", "base", "default", "defaults", "global", "exp", "experiment", "run", "init",
    }
)  # fmt: skip
SECTIONS = OF_IMAGES | OF_NETWORK | OF_EVALUATION | OF_TRAINING | OF_SETTINGS
NO_SECTIONS = frozenset(
    {
        "optim",
        "optimizer",
        "optimizers",
        "scheduler",
        "scaler",
        "logger",
        "callbacks",
        "loops",
        "teacher",
        "ema",
        "state",
    }
)
ARCH_KEYS = frozenset(
    map(
        canonical,
        (
            "arch", "architecture", "model", "model_name", "backbone", "encoder", "net", "network", "timm_model",
            "timm_name", "timm_model_name", "model_arch", "model_type", "base_model", "backbone_name", "encoder_name",
            "net_name", "arch_name", "model_id", "feature_extractor",
        ),
    )
)  # fmt: skip
NAMES_OF_NETWORKS = frozenset({"name", "type", "variant", "id"})  # in a section about the network
# what is taken of settings that are not timm's ``args``, of which everything is
TAKEN = frozenset(map(canonical, {*RESIZE_KEYS, *SIZE_OF_IMAGES}.union(*FIELD_KEYS.values(), *OTHER_KEYS.values())))
DEEPEST = 5
MOST_TENSORS = 4  # of a section; more are weights
MOST_ITEMS = 64  # of a list of sections
REFERENCE = re.compile(r"\$\{(\.*)([\w.\-]+)\}")  # OmegaConf's interpolation
MOST_STEPS = 8


class Setting(NamedTuple):
    """A value and where it stands: the names of the sections, its own name."""

    sections: tuple[str, ...]
    name: str
    value: Any

    @property
    def place(self) -> str:
        """The sections as a dotted path."""
        return ".".join(self.sections)


def find_settings(outer: Mapping[Any, Any]) -> Settings:
    """``args``, over what other scripts' settings say of the images; sections about images over others."""
    settings = Settings()
    sections: dict[tuple[str, ...], dict[str, Any]] = {}
    for setting in walk_settings(outer):
        name = canonical(setting.name)
        if (name in TAKEN or name.startswith(FEATURES)) and _is_plain(setting.value):
            sections.setdefault(setting.sections, {})[setting.name] = setting.value
    for names in sorted(sections, key=_rank):
        place = ".".join(names)
        is_of_images = bool(words_of(place) & (OF_IMAGES | OF_EVALUATION))
        settings = _merge(settings, translate_settings(sections[names], place, is_of_images))
    return _merge(settings, translate_settings(as_args(outer.get("args")), "args"))


def find_arch(outer: Mapping[Any, Any]) -> str | None:
    """A timm name in settings that are not timm's own, the shallowest; other words there may mean anything."""
    for setting in sorted(walk_settings(outer), key=lambda setting: len(setting.sections)):
        is_named_so = canonical(setting.name) in ARCH_KEYS or (
            canonical(setting.name) in NAMES_OF_NETWORKS and bool(words_of(setting.sections[-1:]) & OF_NETWORK)
        )
        if is_named_so and isinstance(setting.value, str) and read_timm_name(setting.value) is not None:
            return setting.value
    return None


def walk_settings(outer: Mapping[Any, Any]) -> Iterator[Setting]:
    """The settings at the top level and in all sections, with references to others followed."""
    yield from _walk({key: value for key, value in outer.items() if isinstance(key, str)}, (), ())


def _walk(values: Mapping[str, Any], sections: tuple[str, ...], above: tuple[Any, ...]) -> Iterator[Setting]:
    here = (*above, values)
    for key, given in values.items():
        value = _follow(given, here)
        if _is_section(value):
            if len(sections) < DEEPEST and _is_named_as_section(key) and not _is_weights(value):
                yield from _walk(as_args(value), (*sections, key), here)
        elif isinstance(value, (list, tuple)) and value and all(map(_is_section, value[:MOST_ITEMS])):
            if len(sections) < DEEPEST and _is_named_as_section(key):
                for number, item in enumerate(value[:MOST_ITEMS]):
                    yield from _walk(as_args(item), (*sections, f"{key}[{number}]"), here)
        elif words_of(key) & OF_NORMALISATION and _is_pair(value):
            yield Setting((*sections, key), "mean", value[0])
            yield Setting((*sections, key), "std", value[1])
        else:
            yield Setting(sections, key, value)


def _is_section(value: Any) -> bool:
    """True for names with values; not for what was read without its class and has but arguments, as an enum."""
    if isinstance(value, argparse.Namespace):
        return True
    has_arguments = bool(getattr(value, "arguments", ()))
    return (isinstance(value, Mapping) or hasattr(value, "attributes")) and bool(as_args(value) or not has_arguments)


def _is_pair(value: Any) -> bool:
    """True for a mean and a standard deviation, of several channels each."""
    pair = value.tolist() if hasattr(value, "tolist") else value
    return isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(each, (list, tuple)) for each in pair)


def _is_named_as_section(key: str) -> bool:
    words = words_of(key)
    return bool(words & SECTIONS) and not words & NO_SECTIONS


def _is_weights(value: Any) -> bool:
    return sum(isinstance(item, torch.Tensor) for item in as_args(value).values()) > MOST_TENSORS


def _follow(value: Any, above: Sequence[Mapping[str, Any]]) -> Any:
    """The value that ``${data.size}`` names; the text itself where it names none."""
    given = value
    for _ in range(MOST_STEPS):
        reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if reference is None:
            return value
        tops = above[::-1] if reference[1] else above
        places = (_look_up(top, reference[2].split(".")) for top in tops)
        value = next((place for place in places if place is not None), None)
        if value is None:
            return given
    return given


def _look_up(top: Mapping[str, Any], names: Sequence[str]) -> Any:
    value: Any = top
    for name in names:
        value = as_args(value).get(name)
    return value


def _rank(sections: tuple[str, ...]) -> tuple[int, int]:
    """The order in which settings count, the last most: of training, at the top, of anything, of images, of tests."""
    words = words_of(sections)
    ranks = (OF_TRAINING, SECTIONS, OF_IMAGES, OF_EVALUATION)
    if words & OF_TRAINING and not words & OF_EVALUATION:
        return 0, len(sections)
    return max((rank for rank, known in enumerate(ranks) if words & known), default=1), -len(sections)


def _merge(first: Settings, second: Settings) -> Settings:
    """Both, the second over the first; where they differ in a transform's setting, that is a conflict."""
    conflicts = {**first.conflicts, **second.conflicts}
    for name in second.places:
        is_other = name in first.places and not _is_same(name, first.args[name], second.args[name])
        if is_other and not words_of(first.places[name]) & OF_TRAINING:
            conflicts[name] = f"{first.places[name]} is {_shown(first.args[name])}"
    return Settings({**first.args, **second.args}, {**first.places, **second.places}, conflicts)


def _is_same(name: str, first: Any, second: Any) -> bool:
    if name != "input_size":
        return str(first) == str(second)
    try:
        return read_size(first)[-2:] == read_size(second)[-2:]
    except (TypeError, ValueError, ArithmeticError):
        return str(first) == str(second)


def _shown(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:40]}..."


def _is_plain(value: Any) -> bool:
    """True for numbers and texts, lists, arrays and what was read without its class of them."""
    values = value if isinstance(value, (list, tuple)) and value else [value]
    is_left = isinstance(getattr(value, "arguments", None), tuple)
    return is_left or hasattr(value, "tolist") or all(isinstance(item, (int, float, str)) for item in values)
