"""The head of any network: proposed by what its layers can be, decided by what one forward pass shows."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from salve_audit.errors import HeadError
from salve_audit.inputs.model.head.forms import FORMS
from salve_audit.inputs.model.head.reader import ENDINGS, HeadReader
from salve_audit.inputs.model.head.trace import HINT, Trace, trace
from salve_audit.inputs.model.head.verification import VERIFIED_WITHIN, measure_error, relative_error
from salve_audit.inputs.reasons import nearest_names

MOST_AVERAGED = 4  # layers whose outputs are averaged
NAMED_LAST = 3  # modules that an error names


def find_head(
    model: nn.Module, input_size: tuple[int, ...], path: str = "model", head: str | None = None
) -> HeadReader:
    """The layers that make the network's logits, and how.

    A timm network whose classifier is a plain linear layer says it. Otherwise a random batch is traced, and the last
    layer (or layers, averaged) of a known form whose folded weights give the network's output is taken.
    `verify_head` verifies it on real images.

    Args:
        model: in eval mode on the CPU.
        input_size: (channels, height, width).
        path: for messages.
        head: dotted path of the layer, or several with commas; None: found by itself.

    Raises:
        HeadError: there is no such layer; names what the network ends with.
        CheckpointError: the network cannot run on an image of that size.
    """
    name = None if head else _ask(model)
    if name is not None:
        return with_notes(HeadReader("linear", (name,)), model)
    batch = torch.randn(2, *input_size, generator=torch.Generator().manual_seed(0))
    names = check_names(model, head, path) if head else _propose(model, batch, path)
    if names:
        traced = trace(model, names, batch, path)
        matches = (_match(reader, model, traced) for reader in _readings(model, traced))
        best = next((reader for reader in matches if reader is not None), None)
        if best is not None:
            return with_notes(best, model)
        if head:
            measure_error(HeadReader(_first_form(model, names, path), tuple(names)), model, traced, path)
    why = f"no linear layer makes its output; it ends with {_name_last(model)}"
    raise HeadError(path, why, hint=HINT)


def check_names(model: nn.Module, head: str, path: str) -> list[str]:
    """The dotted paths in `head`, each a layer that can be a head.

    Raises:
        HeadError: there is no such module, or it is another kind of layer.
    """
    modules = dict(model.named_modules())
    linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    names = [name.strip() for name in head.split(",")]
    for name in names:
        if name not in modules:
            near = nearest_names(name, linear) or linear[-NAMED_LAST:]
            hint = f"linear layers there: {', '.join(near)}" if near else None
            raise HeadError(path, f"has no module {name!r}", hint=hint)
        if not any(form.accepts(modules[name]) for form in FORMS.values()):
            kind = type(modules[name]).__name__
            hint = f"linear layers there: {', '.join(linear[-NAMED_LAST:])}" if linear else None
            raise HeadError(path, f"its module {name!r} is of type {kind}, no linear layer", hint=hint)
    return names


def with_notes(reader: HeadReader, model: nn.Module) -> HeadReader:
    """The reader with what a report should say about its kind."""
    name = " and ".join(repr(module_name) for module_name in reader.modules)
    notes = []
    if len(reader.modules) > 1:
        notes.append(f"the logits are the average of the layers {name}; their inputs are audited side by side")
    if reader.form == "convolution":
        notes.append(f"the head {name} is a 1x1 convolution; its inputs are averaged over the pixels, which is exact")
    if reader.form.startswith("cosine"):
        notes.append(
            f"the head {name} compares directions: activations are audited at length 1, and the factor "
            f"{reader.scale:.6g} is folded into the normalised weights"
        )
    container = _find_mlp(model, reader.modules)
    if container:
        notes.append(
            f"the head {container!r} is an MLP; its last linear layer {name} is audited, with that one's inputs"
        )
    if reader.count_outputs(model) == 1:
        notes.append("the network has one output; its sign decides between the first class and the second")
    if reader.ending:
        notes.append(f"the network ends with {reader.ending}; thresholds are about the logits before it")
    return dataclasses.replace(reader, notes=tuple(notes))


def _ask(model: nn.Module) -> str | None:
    """The name of the plain linear layer that a timm network calls its classifier."""
    ask: Any = getattr(model, "get_classifier", None)
    layer = ask() if callable(ask) else None
    own = type(layer) is nn.Linear or type(layer).__module__.startswith("timm.")  # else its forward may be another
    plain = own and isinstance(layer, nn.Linear) and "weight" in layer._parameters  # no parametrisation
    return next((name for name, module in model.named_modules() if module is layer), None) if plain else None


def _propose(model: nn.Module, batch: Tensor, path: str) -> list[str]:
    """Every layer that could be a head: one row of weights for each of the network's outputs."""
    named = [(name, module) for name, module in model.named_modules() if name]
    able = [(name, module, form) for name, module in named for form in FORMS.values() if form.accepts(module)]
    if not able:
        return []
    k = trace(model, (), batch, path).output.shape[1]
    return list(dict.fromkeys(name for name, module, form in able if form.count_rows(module) == k))


def _readings(model: nn.Module, traced: Trace) -> Iterator[HeadReader]:
    """Readers to try, the last layer run first; single layers before averages, plain forms before cosines."""
    k = traced.output.shape[1]
    for form_name, form in FORMS.items():
        accepted = [name for name in traced.calls if form.accepts(model.get_submodule(name))]
        fitting = [name for name in accepted if form.count_rows(model.get_submodule(name)) == k]
        for n_layers in range(1, MOST_AVERAGED + 1):
            last = fitting[-2 * MOST_AVERAGED :] if n_layers > 1 else fitting
            for modules in itertools.combinations(reversed(last), n_layers):
                yield HeadReader(form_name, modules[::-1])


def _match(reader: HeadReader, model: nn.Module, traced: Trace) -> HeadReader | None:
    """The reader with its ending and scale, if it gives the traced output."""
    inputs = {name: traced.calls[name].inputs for name in reader.modules}
    try:
        acts = reader.read(inputs, len(traced.output), "model")
    except HeadError:
        return None
    if reader.form.startswith("cosine"):
        reader = _scaled(reader, model, acts, traced)
    weight, bias = reader.weigh(model)
    if acts.shape[1] != weight.shape[1]:
        return None
    logits = acts @ weight.T + bias
    for ending, function in ENDINGS.items():
        if ending.endswith("softmax") and logits.shape[1] == 1:
            continue  # one output through softmax is always 1
        if relative_error(function(logits), traced.output) <= VERIFIED_WITHIN:
            per_label = ending == "sigmoid" and logits.shape[1] > 1
            return dataclasses.replace(reader, ending=ending, per_label=per_label)
    return None


def _scaled(reader: HeadReader, model: nn.Module, acts: Tensor, traced: Trace) -> HeadReader:
    """The reader with the factor on its cosines: the least-squares one, which `_match` then has to confirm."""
    weight, bias = reader.weigh(model)
    if acts.shape[1] != weight.shape[1]:
        return reader
    cosines = (acts @ weight.T).double()
    targets = (traced.output, traced.calls[reader.modules[0]].outputs[0])  # the factor may follow outside the layer
    for target, biased in itertools.product(targets, (True, False)):
        if target.shape != cosines.shape:
            continue
        shift = bias * biased
        scale = float((cosines * (target - shift)).sum() / cosines.square().sum())
        if scale and relative_error((scale * cosines + shift).float(), target.float()) <= VERIFIED_WITHIN:
            return dataclasses.replace(reader, scale=scale, biased=biased)
    return reader


def _first_form(model: nn.Module, names: Sequence[str], path: str) -> str:
    for key, form in FORMS.items():
        if all(form.accepts(model.get_submodule(name)) for name in names):
            return key
    raise HeadError(path, f"its modules {', '.join(names)} are of different kinds and cannot be averaged")


def _find_mlp(model: nn.Module, names: Sequence[str]) -> str | None:
    """The part around the head's layers that holds another linear layer and little else; None: no MLP."""
    parent_name = names[-1].rpartition(".")[0]
    parent = model.get_submodule(parent_name)
    if not parent_name and not isinstance(parent, nn.Sequential):
        return None
    layers = [child for _, child in parent.named_modules() if not list(child.children())]
    heads = [model.get_submodule(name) for name in names]
    others = [layer for layer in layers if isinstance(layer, nn.Linear) and not any(layer is head for head in heads)]
    if not others or any(isinstance(layer, nn.modules.conv._ConvNd) for layer in layers):
        return None
    return parent_name or "network"


def _name_last(model: nn.Module) -> str:
    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    named = [f"{name!r} ({type(module).__name__})" if name else type(module).__name__ for name, module in leaves]
    return ", ".join(named[-NAMED_LAST:])
