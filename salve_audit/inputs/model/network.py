"""A name to a network without weights: timm's, torchvision's, or a function in the user's own file."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.inference.measure import TORCHVISION, WithoutValues, build_timm, build_torchvision
from salve_audit.inputs.model.weights import Checkpoint
from salve_audit.inputs.reasons import nearest_names, summarise_error
from salve_audit.results.transform import TRANSFORM_FIELDS

# a checkpoint's settings may shape the network, never fetch or open something
REFUSED_KWARGS = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}


@dataclass(frozen=True)
class Network:
    """A freshly built network, before its weights are loaded.

    Attributes:
        model: with random weights (a whole network from a file has its own already).
        architecture: timm name, ``torchvision:NAME``, ``FILE.py:FUNCTION``, or what kind of program it is.
        build_key: what besides the weights determines the network (arguments, the user's source), as text.
        kwargs: the arguments it was built with.
        declared: transform settings that the user's file states, empty for timm.
        declared_by: name of that file.
        defaults: what the architecture's library says of images, over timm's general default.
        default_source: whose default that is, in words.
        trusted_code: code named by the user was run.
    """

    model: nn.Module
    architecture: str
    build_key: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)
    declared_by: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    default_source: str = "architecture default (timm)"
    trusted_code: bool = False


def names_file(arch: str | None) -> bool:
    """True for ``FILE.py:FUNCTION``, which only the user may give: naming the file is the consent to run it."""
    return arch is not None and arch.rpartition(":")[0].endswith(".py")


def is_known(name: str) -> bool:
    """True for a name of timm, or of torchvision with its prefix; False for a name that would be fetched."""
    if name.startswith(TORCHVISION):
        from torchvision.models import list_models

        return name.removeprefix(TORCHVISION) in list_models()
    return ":" not in name and "/" not in name and timm.is_model(name)


def build_known(path: str, name: str, kwargs: Mapping[str, Any]) -> Network:
    """The network of that name in timm or torchvision, its parameters not drawn: all of them are to be loaded.

    torch's random state is left as it was.

    Raises:
        CheckpointError: the name is unknown, or it cannot be built so.
    """
    if not is_known(name):
        near = nearest_names(name.partition(".")[0], timm.list_models())
        hint = f"nearest timm names: {', '.join(near)}" if near else "--arch FILE.py:FUNCTION runs your own class"
        raise CheckpointError(path, f"unknown architecture {name!r}", hint=hint)
    is_timm = not name.startswith(TORCHVISION)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), WithoutValues(only_parameters=True):
            warnings.simplefilter("ignore")  # libraries on their own defaults
            model = build_timm(name, **kwargs) if is_timm else build_torchvision(name, **kwargs)
    except Exception as error:  # whatever the checkpoint's own settings lead the constructor into
        library = "timm" if is_timm else "torchvision"
        why = f"{library} cannot build {name!r} with the checkpoint's settings ({summarise_error(error)})"
        raise CheckpointError(path, why) from error
    version = {"timm": timm.__version__} if is_timm else {"torchvision": metadata.version("torchvision")}
    key = json.dumps({**version, "name": name, "kwargs": dict(kwargs)}, sort_keys=True, default=str)
    if is_timm:
        return Network(model, name, key, kwargs)
    source = "architecture default (torchvision)"
    return Network(model, name, key, kwargs, defaults=_torchvision_defaults(name), default_source=source)


def given_kwargs(checkpoint: Checkpoint) -> dict[str, Any]:
    """Arguments for ``timm.create_model`` that the checkpoint's settings ask for.

    Raises:
        CheckpointError: its model_kwargs ask for more than the shape of a network.
    """
    given = checkpoint.args.get("model_kwargs") or {}
    if not isinstance(given, Mapping):
        raise CheckpointError(str(checkpoint.path), f"its model_kwargs are of type {type(given).__name__}, no mapping")
    kwargs = dict(given)
    refused = sorted(REFUSED_KWARGS & set(kwargs))
    if refused:
        raise CheckpointError(str(checkpoint.path), f"its model_kwargs may not set {refused[0]!r}")
    for argument, name in (("num_classes", "num_classes"), ("in_chans", "in_chans"), ("global_pool", "gp")):
        value = checkpoint.args.get(name)  # timm's train.py calls the pooling gp
        if value and not (name == "in_chans" and value == 3):
            kwargs.setdefault(argument, value)
    return kwargs


def add_kwargs_of_shapes(kwargs: dict[str, Any], name: str, state: Mapping[str, torch.Tensor]) -> None:
    """Adds the numbers of classes and channels that the layers in `state` show which timm names for `name`."""
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    classifier = getattr(cfg, "classifier", None) or ()
    n_classes = count_head_rows(state, (classifier,) if isinstance(classifier, str) else tuple(classifier))
    if n_classes:
        kwargs.setdefault("num_classes", n_classes)
    first = state.get(f"{getattr(cfg, 'first_conv', None)}.weight")
    if first is not None and first.ndim == 4 and first.shape[1] != 3:
        kwargs.setdefault("in_chans", first.shape[1])


def count_head_rows(state: Mapping[str, torch.Tensor], names: tuple[str, ...] = ()) -> int | None:
    """Number of classes by the weights: rows of the named layer, else of the last matrix there is."""
    for name in names:
        weight = state.get(f"{name}.weight")
        if weight is not None and weight.ndim > 0:
            return int(weight.shape[0])
    matrices = [value for key, value in state.items() if key.endswith("weight") and value.ndim == 2]
    return int(matrices[-1].shape[0]) if matrices else None


def _torchvision_defaults(name: str) -> dict[str, Any]:
    """The transform that torchvision's own weights of that name were evaluated with."""
    from torchvision.models import get_model_weights

    preset: Any = next(iter(get_model_weights(name.removeprefix(TORCHVISION)))).transforms()
    side, resized = preset.crop_size[0], preset.resize_size[0]
    return {
        "input_size": (3, side, side),
        "mean": tuple(preset.mean),
        "std": tuple(preset.std),
        "interpolation": preset.interpolation.value,
        "crop_pct": min(1.0, side / resized),
    }


def build_from_file(checkpoint: Checkpoint, arch: str) -> Network:
    """The network that the function ``FILE.py:FUNCTION`` returns. torch's random state is left as it was.

    Raises:
        CheckpointError: there is no such function, or it fails.
    """
    file_name, _, function_name = arch.rpartition(":")
    module, source = _import_file(Path(file_name))
    function = getattr(module, function_name, None)
    if not callable(function):
        near = nearest_names(function_name, (name for name in vars(module) if not name.startswith("_")))
        hint = f"nearest names there: {', '.join(near)}" if near else None
        raise CheckpointError(file_name, f"has no function {function_name!r}", hint=hint)
    n_classes = checkpoint.args.get("num_classes") or count_head_rows(checkpoint.state)
    accepts = "num_classes" in _parameters(function) and n_classes is not None
    kwargs = {"num_classes": n_classes} if accepts else {}
    try:
        with torch.random.fork_rng(devices=[]):
            model = function(**kwargs)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise CheckpointError(arch, f"calling it failed ({summarise_error(error)})") from error
    if not isinstance(model, nn.Module):
        raise CheckpointError(arch, f"returned {type(model).__name__}, expected a torch.nn.Module")
    declared = {
        name: getattr(holder, name)
        for holder in (module, function)  # the function's own attributes win
        for name in TRANSFORM_FIELDS
        if hasattr(holder, name)
    }
    key = json.dumps({"source": source, "function": function_name, "kwargs": kwargs}, sort_keys=True)
    source_name = Path(file_name).name
    general = "timm's general default"
    return Network(model, arch, key, {}, declared, source_name, default_source=general, trusted_code=True)


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # built-ins without a signature
        return {}


def _import_file(file: Path) -> tuple[Any, str]:
    """The module in `file` under a name of its own, and the sha256 of its source."""
    if not file.is_file():
        raise CheckpointError(str(file), "no such file", hint="--arch takes FILE.py:FUNCTION or a timm name")
    source = hashlib.sha256(file.read_bytes()).hexdigest()
    name = f"salve_audit_user_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, f"no import spec for {file}"
    assert spec.loader is not None, f"no loader for {file}"
    module = importlib.util.module_from_spec(spec)
    folder = str(file.resolve().parent)
    sys.modules[name] = module  # dataclasses and pickling look their module up there
    sys.path.insert(0, folder)  # as when Python runs the file: its neighbours can be imported
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        del sys.modules[name]
        raise CheckpointError(str(file), f"importing it failed ({summarise_error(error)})") from error
    finally:
        sys.path.remove(folder)
    return module, source
