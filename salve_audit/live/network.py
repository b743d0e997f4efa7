"""A live module as a `Classifier`: a float32 copy on the CPU with its head found, and the device it came from."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salve_audit.activations.fingerprint import hash_weights
from salve_audit.errors import UsageError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.exact import exact_convolutions
from salve_audit.inputs.model.head.search import find_head
from salve_audit.inputs.model.head.trace import trace
from salve_audit.inputs.reasons import summarise_error
from salve_audit.live.hooks import find_foreign_hooks
from salve_audit.live.module import copy_module, find_part, require_module
from salve_audit.results.subject import LIVE
from salve_audit.results.transform import TransformSpec

MOST_NAMED = 3  # modules with hooks
PROBED = 4  # images whose outputs stand for the module's code in the key of the cache


@dataclass(frozen=True)
class LiveNetwork:
    """A module that was opened.

    Attributes:
        classifier: a float32 copy of what is run, on the CPU.
        part: name of the child of the module that is run; empty: the module itself.
        device: of the module.
    """

    classifier: Classifier
    part: str
    device: torch.device


def open_network(
    model: object,
    batch: Tensor,
    spec: TransformSpec,
    head: str | None = None,
    name: str | None = None,
    likely: str | None = None,
) -> LiveNetwork:
    """Copies a module, finds its head and hashes it; the module stays as it is.

    Args:
        model: a module, or one wrapped by DataParallel, DistributedDataParallel or torch.compile.
        batch: (n, c, h, w) prepared images, on the CPU.
        spec: how they were prepared.
        head: dotted path of the final linear layer; None: found by itself.
        name: in reports; None: the class's.
        likely: the head that an audit found, which is taken if the module has it.

    Raises:
        UsageError: it is no module, or has no parameters.
        HeadError: there is no head.
        CheckpointError: it cannot be copied or run.
    """
    given = require_module(model)
    name = name or type(given).__name__
    device = find_device(given)
    copied = copy_module(given, name, hooks=False).to("cpu").float().eval().requires_grad_(False)
    part = find_part(copied, batch[:1], name)
    network = copied.get_submodule(part.name)
    modules = dict(network.named_modules())
    if head is None and likely is not None and all(part_name in modules for part_name in likely.split(",")):
        head = likely
    with exact_convolutions():
        reader = find_head(network, tuple(batch.shape[1:]), name, _within(head, part.name, modules))
        outputs = trace(network, (), batch[:PROBED], name).output
    notes = (*((part.note,) if part.note else ()), *_describe_type(given), *_describe_hooks(given), *reader.notes)
    classifier = Classifier(
        model=network,
        architecture=describe_architecture(network),
        format=LIVE,
        path=Path(name.replace("/", "-")),  # no folder
        sha256=hash_weights(network),
        head_name=reader.name,
        transform=spec,
        class_names=find_labels(network),
        trusted_code=False,
        notes=notes,
        build_key=_describe_code(network, outputs),
        head_reader=reader,
    )
    return LiveNetwork(replace(classifier, class_names=_fitting(classifier)), part.name, device)


def find_device(model: nn.Module) -> torch.device:
    """The device of a module's parameters.

    Raises:
        UsageError: it has none, or they have no values yet.
    """
    tensor = next(iter(model.parameters()), None)
    if tensor is None:
        raise UsageError("model", f"{type(model).__name__} has no parameters")
    if tensor.device.type == "meta":
        raise UsageError("model", f"{type(model).__name__} has no values yet (device meta)")
    return tensor.device


def describe_architecture(network: nn.Module) -> str:
    """The name that timm or Hugging Face gives a network, else its class."""
    timm_config = getattr(network, "pretrained_cfg", None)
    if isinstance(timm_config, Mapping) and isinstance(timm_config.get("architecture"), str):
        return str(timm_config["architecture"])
    return f"{type(network).__module__}.{type(network).__qualname__}".removeprefix("__main__.")


def find_labels(network: nn.Module) -> tuple[str, ...] | None:
    """Names of the outputs that a Hugging Face configuration holds; None: none, or placeholders."""
    config = getattr(network, "config", None)
    labels: Any = getattr(config, "id2label", None)
    if not isinstance(labels, Mapping) or not all(isinstance(key, int) for key in labels):
        return None
    names = tuple(str(labels[key]) for key in sorted(labels))
    return None if all(text == f"LABEL_{index}" for index, text in enumerate(names)) else names


def _fitting(classifier: Classifier) -> tuple[str, ...] | None:
    names = classifier.class_names
    return names if names is not None and len(names) == classifier.n_outputs else None


def _within(head: str | None, part: str, modules: Mapping[str, nn.Module]) -> str | None:
    """The head's path within the part that is run, and without the names of wrappers."""
    for prefix in (f"{part}.", "module.", "_orig_mod."):
        if head is not None and head not in modules:
            head = head.removeprefix(prefix)
    return head


def _describe_type(model: nn.Module) -> tuple[str, ...]:
    kinds = {str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()} - {"float32"}
    return (f"the module's weights are {', '.join(sorted(kinds))}; it is audited in float32",) if kinds else ()


def _describe_hooks(model: nn.Module) -> tuple[str, ...]:
    """A note on the hooks that the copy lacks."""
    places = list(dict.fromkeys(hook.path or "the module itself" for hook in find_foreign_hooks(model)))
    if not places:
        return ()
    named = ", ".join(places[:MOST_NAMED]) + (" ..." if len(places) > MOST_NAMED else "")
    return (f"hooks that were put on the module ({named}) are not run; it is audited without what they change",)


def _describe_code(network: nn.Module, outputs: Tensor) -> str:
    """What besides weights makes the network, for the key of the cache: its layers, their code, and what it returns."""
    kinds = {type(module) for module in network.modules()}
    sources = {f"{kind.__module__}.{kind.__qualname__}": _hash_source(kind) for kind in kinds}
    returned = hashlib.sha256(outputs.numpy().tobytes()).hexdigest()
    return json.dumps({"layers": repr(network), "sources": sources, "outputs": returned}, sort_keys=True)


def _hash_source(kind: type) -> str:
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()
    except (OSError, TypeError) as error:  # typed into a notebook, or built in
        return summarise_error(error)
