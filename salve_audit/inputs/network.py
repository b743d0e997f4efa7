"""An architecture's name to a network without its weights: timm's, or a function in the user's own file."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.keys import strip_prefixes
from salve_audit.inputs.reasons import nearest_names, summarise_error
from salve_audit.inputs.weights import Checkpoint

TRANSFORM_FIELDS = ("input_size", "mean", "std", "interpolation", "crop_pct")
# a checkpoint's settings may shape the network, never fetch or open something
REFUSED_KWARGS = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}


@dataclass(frozen=True)
class Network:
    """A freshly built network, before its weights are loaded.

    Attributes:
        model: with random weights.
        architecture: timm name or ``FILE.py:FUNCTION``.
        build_key: what besides the weights determines the network (arguments, the user's source), as text.
        kwargs: the model_kwargs it was built with.
        declared: transform settings that the user's file states, empty for timm.
        trusted_code: code named by the user was run.
    """

    model: nn.Module
    architecture: str
    build_key: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)
    trusted_code: bool = False


def build_network(checkpoint: Checkpoint, arch: str | None) -> Network:
    """Builds the architecture that `arch` or else the checkpoint names.

    Only `arch`, which comes from the user, may name a file to run; a checkpoint may name timm
    architectures alone. torch's random state is left as it was.

    Raises:
        CheckpointError: no architecture is named, it is unknown, or it cannot be built.
    """
    name = arch or checkpoint.arch
    if name is None:
        hint = "say it with --arch NAME (timm) or --arch FILE.py:FUNCTION"
        raise CheckpointError(str(checkpoint.path), "does not say its architecture", hint=hint)
    with torch.random.fork_rng(devices=[]):
        if arch is not None and arch.rpartition(":")[0].endswith(".py"):
            return _build_from_file(checkpoint, arch)
        return _build_timm(checkpoint, name)


def count_head_rows(state: Mapping[str, torch.Tensor], names: tuple[str, ...] = ()) -> int | None:
    """Number of classes by the weights: rows of the named layer, else of the last matrix there is."""
    state = strip_prefixes(state)
    for name in names:
        weight = state.get(f"{name}.weight")
        if weight is not None and weight.ndim > 0:
            return int(weight.shape[0])
    matrices = [value for key, value in state.items() if key.endswith("weight") and value.ndim == 2]
    return int(matrices[-1].shape[0]) if matrices else None


def _build_timm(checkpoint: Checkpoint, name: str) -> Network:
    path = str(checkpoint.path)
    if ":" in name or "/" in name or not timm.is_model(name):
        near = nearest_names(name.partition(".")[0], timm.list_models())
        hint = f"nearest timm names: {', '.join(near)}" if near else "--arch FILE.py:FUNCTION runs your own class"
        raise CheckpointError(path, f"unknown architecture {name!r}", hint=hint)
    kwargs = timm_kwargs(checkpoint, name)
    try:
        model = timm.create_model(name, pretrained=False, **kwargs)
    except Exception as error:  # whatever the checkpoint's own settings lead the constructor into
        why = f"timm cannot build {name!r} with the checkpoint's settings ({summarise_error(error)})"
        raise CheckpointError(path, why) from error
    key = json.dumps({"timm": timm.__version__, "name": name, "kwargs": kwargs}, sort_keys=True, default=str)
    return Network(model, name, key, kwargs)


def timm_kwargs(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """Arguments for ``timm.create_model``: the checkpoint's own, and what its weights' shapes tell.

    Raises:
        CheckpointError: its model_kwargs ask for more than the shape of a network.
    """
    args = checkpoint.args
    given = args.get("model_kwargs") or {}
    if not isinstance(given, Mapping):
        raise CheckpointError(str(checkpoint.path), f"its model_kwargs are of type {type(given).__name__}, no mapping")
    kwargs = dict(given)
    refused = sorted(REFUSED_KWARGS & set(kwargs))
    if refused:
        raise CheckpointError(str(checkpoint.path), f"its model_kwargs may not set {refused[0]!r}")
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    classifier = getattr(cfg, "classifier", None) or ()
    n_classes = args.get("num_classes") or count_head_rows(
        checkpoint.state, (classifier,) if isinstance(classifier, str) else tuple(classifier)
    )
    if n_classes:
        kwargs.setdefault("num_classes", n_classes)
    first = strip_prefixes(checkpoint.state).get(f"{getattr(cfg, 'first_conv', None)}.weight")
    in_chans = args.get("in_chans") or (first.shape[1] if first is not None and first.ndim == 4 else None)
    if in_chans and in_chans != 3:
        kwargs.setdefault("in_chans", in_chans)
    if args.get("gp"):  # timm's train.py calls the pooling so
        kwargs.setdefault("global_pool", args["gp"])
    return kwargs


def _build_from_file(checkpoint: Checkpoint, arch: str) -> Network:
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
    return Network(model, arch, key, {}, declared, trusted_code=True)


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
