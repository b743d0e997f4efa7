"""The network that a checkpoint's weights belong to, by their names and shapes; never by a list alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import timm
import torch
from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.adapted import find_adapted
from salve_audit.inputs.model.formats.nesting import Weights
from salve_audit.inputs.model.formats.transformers_folder import describe_family, is_classifier, load_hub_classifier
from salve_audit.inputs.model.inference.by_order import Ordered, match_by_order
from salve_audit.inputs.model.inference.huggingface import Translation, translate
from salve_audit.inputs.model.inference.index import Index, load_index
from salve_audit.inputs.model.inference.match import Fit, find_fits, fit_named
from salve_audit.inputs.model.inference.measure import TORCHVISION
from salve_audit.inputs.model.inference.papers import convert_by_timm, translate_paper
from salve_audit.inputs.model.inference.signature import read_shapes
from salve_audit.inputs.model.keys import (
    View,
    best_view,
    list_grafts,
    list_inner_heads,
    list_views,
    list_without_auxiliary,
)
from salve_audit.inputs.model.misfit import explain_misfit
from salve_audit.inputs.model.network import (
    Network,
    add_kwargs_of_shapes,
    build_from_file,
    build_known,
    given_kwargs,
    is_known,
    names_file,
)
from salve_audit.inputs.model.timm_names import TimmName, read_timm_name, show_tags, tagged_transform
from salve_audit.inputs.model.traceless import apply_epsilons, rescaling_kwargs
from salve_audit.inputs.model.weights import Checkpoint
from salve_audit.results.decisions import Decision

ARCH_HINT = "say it with --arch NAME (timm) or --arch FILE.py:FUNCTION"
N_NAMED = 4
GENERAL = "timm's general default"
ALIKE = 0.9  # of the tensors' names, for another prefix to hold a second network
ALSO_FIT = "the same tensors also fit"  # other networks, whose logits are others: an audit warns of it


@dataclass(frozen=True)
class Identified:
    """A network and the weights for it.

    Attributes:
        network: built, without the weights.
        state: under the network's names.
        weights_key: where in the file they were.
        notes: what the reader of a report should know of it.
        decisions: readings of the file that were chosen between.
    """

    network: Network
    state: Mapping[str, torch.Tensor]
    weights_key: str
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One way to see one of the checkpoint's weights, and the architectures that have exactly these tensors."""

    weights: Weights
    view: View
    translation: Translation | None
    fits: tuple[Fit, ...]

    @property
    def state(self) -> Mapping[str, torch.Tensor]:
        return self.translation.state if self.translation else self.view.state


def identify(checkpoint: Checkpoint, arch: str | None) -> Identified:
    """The network that `arch` or the checkpoint names, or that its tensors show, and the weights for it.

    Raises:
        CheckpointError: no architecture is named and none fits, or the named one is unknown or cannot be built.
    """
    if arch is not None and names_file(arch):
        return _align(checkpoint, build_from_file(checkpoint, arch))
    if arch is not None and arch.endswith(".py"):
        raise CheckpointError(f"--arch {arch}", "names a file, but no function in it", hint=f"--arch {arch}:FUNCTION")
    named = _read_name(checkpoint, arch)
    return _apply_settings(checkpoint, _apply_tag(_identify(checkpoint, arch, named), named))


def _read_name(checkpoint: Checkpoint, arch: str | None) -> TimmName | None:
    """The name of timm that `arch` or the checkpoint says.

    Raises:
        CheckpointError: timm does not have the tag in `arch`.
    """
    name = arch or checkpoint.arch
    named = None if name is None else read_timm_name(name)
    if arch is not None and named is not None and not named.has_known_tag:
        why = f"timm {timm.__version__} has no weights tagged {named.tag!r} for {named.architecture}"
        raise CheckpointError(f"--arch {arch}", why, hint=f"its tags: {show_tags(named.architecture) or 'none'}")
    return named


def _apply_tag(identified: Identified, named: TimmName | None) -> Identified:
    """The network with the transform of the tag in its name, where the name says one."""
    if named is None or not named.tag or identified.network.architecture != named.architecture:
        return identified
    if not named.has_known_tag:
        note = f"the file calls itself {named.full!r}; timm {timm.__version__} does not know this tag of weights"
        return replace(identified, notes=(*identified.notes, f"{note}, whose transform may be another"))
    source = f"default of {named.full} (timm)"
    network = replace(identified.network, defaults=tagged_transform(named), default_source=source)
    return replace(identified, network=network)


def _identify(checkpoint: Checkpoint, arch: str | None, named: TimmName | None) -> Identified:
    """The network, by the names, the shapes and at last by the order of the tensors."""
    name = named.architecture if named is not None else arch or checkpoint.arch
    index, kwargs = load_index(), given_kwargs(checkpoint)
    known = name if name is not None and is_known(name) else None
    if known is not None:
        candidate = next(list_candidates(checkpoint, index, known), None)
        if candidate is not None:
            return _build(checkpoint, candidate, kwargs)
    may_guess = arch is None and not checkpoint.args.get("model_kwargs")
    if may_guess:
        candidate = next(list_candidates(checkpoint, index), None)
        if candidate is not None:
            identified = _build(checkpoint, candidate, kwargs)
            return replace(identified, notes=(*_explain_guess(candidate, checkpoint, index), *identified.notes))
    if known is not None or may_guess:
        resembled = _resemble(checkpoint, index, known, kwargs) or _load_hub(checkpoint)
        if resembled is not None:
            return resembled
    if name is None:
        raise _unknown(checkpoint)
    if is_known(name):
        add_kwargs_of_shapes(kwargs, name, _strip_all(checkpoint.state, name))
    return _align(checkpoint, build_known(str(checkpoint.path), name, kwargs))


def _apply_settings(checkpoint: Checkpoint, identified: Identified) -> Identified:
    network, decisions = apply_epsilons(identified.network, checkpoint.args)
    return replace(identified, network=network, decisions=(*identified.decisions, *decisions))


def _unknown(checkpoint: Checkpoint) -> CheckpointError:
    """The error for tensors that are no known network's, with what they come nearest to."""
    misfit = explain_misfit(_see_all(checkpoint))
    named = checkpoint.config.get("model_type")
    says = f"says {named!r} in config.json" if isinstance(named, str) else "does not say its architecture"
    why = misfit.why or f"{says}, and its {len(checkpoint.state)} tensors fit none of timm or torchvision"
    return CheckpointError(str(checkpoint.path), why, hint=f"{ARCH_HINT}; {misfit.hint}")


def _resemble(
    checkpoint: Checkpoint, index: Index, name: str | None, kwargs: Mapping[str, object]
) -> Identified | None:
    """A network with another head or first layer than the architecture's, or with foreign names in its order."""
    path, views = str(checkpoint.path), [view for view in list_views(checkpoint.state) if len(view.state) > 1]
    adapted = find_adapted(path, index, views, name, kwargs)
    if adapted is not None:
        notes = adapted.view.describe()
        return Identified(
            adapted.network, adapted.state, checkpoint.weights[0].key, tuple(notes), decisions=adapted.decisions
        )
    for view in views:
        ordered = match_by_order(index, view.state, name, checkpoint.path.stem)
        if ordered is not None:
            network = build_known(path, ordered.fit.name, ordered.fit.kwargs)
            return Identified(
                network,
                ordered.state,
                checkpoint.weights[0].key,
                (*view.describe(), *_note_order(ordered)),
                decisions=(_decide_order(ordered, len(view.state)),),
            )
    return None


def _decide_order(ordered: Ordered, n_tensors: int) -> Decision:
    why = f"the names of its {n_tensors} tensors are foreign, their shapes and order are exactly these"
    conflict = "activations, strides and paddings leave no trace in shapes; a low accuracy would say that they differ"
    return Decision("architecture", ordered.fit.name, why, conflict)


def _note_order(ordered: Ordered) -> Iterator[str]:
    if ordered.others:
        more = f" and {len(ordered.others) - N_NAMED} more" if len(ordered.others) > N_NAMED else ""
        yield f"{ALSO_FIT} {', '.join(ordered.others[:N_NAMED])}{more}; if it is one of these, say so with --arch"


def _load_hub(checkpoint: Checkpoint) -> Identified | None:
    """A Hugging Face folder of another family, loaded by transformers' own class."""
    config, path = checkpoint.config, checkpoint.path
    if "model_type" not in config or not path.is_dir():
        return None
    if not is_classifier(config):
        why = f"is {describe_family(config)}, which has no classifier for images"
        raise CheckpointError(str(path), why, hint="save the fine-tuned ...ForImageClassification")
    model, name, key = load_hub_classifier(path, config, checkpoint.is_flipped)
    n_channels = config.get("num_channels", 3)
    kwargs = {"in_chans": n_channels} if isinstance(n_channels, int) and n_channels != 3 else {}
    network = Network(model, f"transformers:{name}", key, kwargs, default_source=GENERAL)
    decision = Decision("architecture", name, "config.json names it; loaded by transformers' own class")
    return Identified(network, dict(model.state_dict()), checkpoint.weights[0].key, decisions=(decision,))


def list_candidates(checkpoint: Checkpoint, index: Index, name: str | None = None) -> Iterator[Candidate]:
    """Candidates for the architecture `name`, or for any, the likeliest place and the plainest view first."""
    said = checkpoint.path.stem
    for weights in checkpoint.weights:
        for plain in list_views(weights.state):
            for view in (plain, *list_grafts(plain), *list_inner_heads(plain), *list_without_auxiliary(plain)):
                translation = _translate(checkpoint, view)
                shapes = read_shapes(translation.shapes_state if translation else view.state)
                if name is None:
                    fits = find_fits(index, shapes, said)
                else:
                    named = fit_named(index, name, shapes)
                    fits = () if named is None else (named,)
                if fits and not _continues(view, fits[0].n_classes):
                    yield Candidate(weights, view, translation, fits)


def _see_all(checkpoint: Checkpoint) -> Iterator[Mapping[str, torch.Tensor]]:
    """The weights to take first without each prefix, renamed where another library's names are known."""
    for view in list_views(checkpoint.state):
        translation = _translate(checkpoint, view)
        yield translation.shapes_state if translation else view.state
        if view.left_out and translation is None:  # what lies outside may be a head
            yield {**view.state, **view.left_out}


def _continues(view: View, n_classes: int) -> bool:
    """A matrix that was left out takes the network's outputs: then these are not yet the logits."""
    return any(value.ndim == 2 and value.shape[1] == n_classes for value in view.left_out.values())


def _translate(checkpoint: Checkpoint, view: View) -> Translation | None:
    try:
        return translate(view.state, checkpoint.config) or translate_paper(view.state)
    except ValueError as error:
        raise CheckpointError(str(checkpoint.path), f"its config.json asks for {error}") from error


def _build(checkpoint: Checkpoint, candidate: Candidate, kwargs: Mapping[str, object]) -> Identified:
    """The candidate's network; sizes by its shapes, all else by the checkpoint's settings."""
    path, fit, translation = str(checkpoint.path), candidate.fits[0], candidate.translation
    given = {**kwargs, **fit.kwargs} if not fit.name.startswith(TORCHVISION) else dict(fit.kwargs)
    rescaling, decisions = rescaling_kwargs(checkpoint, fit.name)
    given |= rescaling
    if fit.n_chans == 3:
        given.pop("in_chans", None)
    if translation is None:
        network = build_known(path, fit.name, given)
    else:
        network = _build_translated(path, fit, {**given, **translation.kwargs}, translation)
    notes = tuple(_describe(checkpoint, candidate))
    return Identified(network, candidate.state, candidate.weights.key, notes, decisions)


def _build_translated(path: str, fit: Fit, kwargs: dict[str, object], translation: Translation) -> Network:
    network = build_known(path, fit.name, kwargs)
    if translation.n_heads is not None and translation.n_heads != _count_heads(network.model):
        network = build_known(path, fit.name, {**kwargs, "num_heads": translation.n_heads})
    translation.adjust(network.model)
    key = {"build": network.build_key, "norm_eps": translation.norm_eps}
    return replace(network, build_key=json.dumps(key, sort_keys=True))


def _count_heads(model: nn.Module) -> int | None:
    heads = (getattr(module, "num_heads", None) for module in model.modules())
    return next((int(n_heads) for n_heads in heads if isinstance(n_heads, int)), None)


def _align(checkpoint: Checkpoint, network: Network) -> Identified:
    """The weights and the view of them that fit `network` best; whether they fit it is for loading to say."""
    views = [(weights, *best_view(weights.state, network.model)) for weights in checkpoint.weights]
    weights, view, _ = max(views, key=lambda fit: fit[2])  # the first of equals
    candidate = Candidate(weights, view, None, ())
    notes = tuple(_describe(checkpoint, candidate))
    converted = convert_by_timm(network.architecture, network.model, view.state)
    if _fits(converted, network.model) and not _fits(view.state, network.model):
        notes = (*notes, f"its tensors were renamed as timm does it for foreign files of {network.architecture}")
        return Identified(network, converted, weights.key, notes)
    return Identified(network, view.state, weights.key, notes)


def _fits(state: Mapping[str, torch.Tensor], model: nn.Module) -> bool:
    """True for tensors with exactly the names and shapes of the network's own."""
    return read_shapes(state) == read_shapes(model.state_dict())


def _strip_all(state: Mapping[str, torch.Tensor], name: str) -> Mapping[str, torch.Tensor]:
    """The view of `state` that has the first layer and the classifier timm names for the architecture `name`."""
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    names = [
        f"{layer}.weight" for layer in (getattr(cfg, "first_conv", None), getattr(cfg, "classifier", None)) if layer
    ]
    return max(list_views(state), key=lambda view: sum(layer in view.state for layer in names)).state


def _describe(checkpoint: Checkpoint, candidate: Candidate) -> Iterator[str]:
    others = [place.key or "the top level" for place in checkpoint.weights if place is not candidate.weights]
    if others:
        key = candidate.weights.key or "the top level"
        yield f"the weights were taken from {key!r}; there are also {', '.join(others)} (--weights KEY chooses)"
    yield from candidate.view.describe()
    yield from _describe_twins(candidate)
    if candidate.translation is not None:
        yield f"its tensors have the names of {candidate.translation.label}; they were renamed to timm's"
        yield from candidate.translation.notes


def _describe_twins(candidate: Candidate) -> Iterator[str]:
    """Networks of the same names below other prefixes, for instance a running average or a teacher."""
    own = candidate.view.state.keys()
    probe = next(iter(own))
    prefixes = [name.removesuffix(probe) for name in candidate.view.left_out if name.endswith(f".{probe}")]
    for prefix in prefixes:
        shared = sum(f"{prefix}{name}" in candidate.view.left_out for name in own)
        if shared >= ALIKE * len(own):
            key = ".".join(part for part in (candidate.weights.key, prefix.rstrip(".")) if part)
            yield f"another network of {shared} such tensors lies below {prefix!r}: --weights {key} takes it instead"


def _explain_guess(candidate: Candidate, checkpoint: Checkpoint, index: Index) -> Iterator[str]:
    fit, *others = candidate.fits
    if checkpoint.arch is not None:
        yield f"the file calls itself {checkpoint.arch!r}, but its tensors are those of {fit.name}"
    else:
        says = checkpoint.config.get("model_type")
        named = f"config.json says {says!r}" if isinstance(says, str) else "the file does not name its architecture"
        yield f"{named}; its {len(candidate.state)} tensors are those of {fit.name}"
    if others:
        names = ", ".join(other.name for other in others[:N_NAMED])
        more = f" and {len(others) - N_NAMED} more" if len(others) > N_NAMED else ""
        yield f"{ALSO_FIT} {names}{more}; if it is one of these, say so with --arch"
    if not index.is_current:
        yield f"the index of architectures is that of timm {index.version}, {timm.__version__} is installed"
