"""A state_dict's names against a network's: the wrappers' prefixes, what is missing, what is too much."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.inference.signature import is_derived
from salve_audit.inputs.model.misfit import suggest_architecture

# torch.compile, FSDP, activation checkpointing and DeepSpeed put these between any two parts of a name
WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
HEAD_NAMES = ("fc", "head", "classifier", "head.fc", "last_linear", "heads.head")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_logits.", "aux.")
LEAST_SHARE = 0.2  # of the tensors, for a prefix to be tried where no architecture is known
N_NAMED = 3
N_PREFIXES = 16  # tried on a network that is known
DEEPEST = 16  # parts of a name looked at


@dataclass(frozen=True)
class View:
    """A state_dict as it looks without a prefix.

    Attributes:
        prefix: what is stripped of the names; empty where they are as in the file.
        state: the tensors that have it, under their shorter names.
        left_out: names of those that do not.
        head: where the final layer was taken from, if it lay outside the prefix.
        auxiliary: some of `left_out` are outputs that only training has.
    """

    prefix: str
    state: Mapping[str, torch.Tensor]
    left_out: Mapping[str, torch.Tensor]
    head: str | None = None
    auxiliary: bool = False

    def describe(self) -> Iterator[str]:
        """Notes on the view for the reader of a report."""
        if self.prefix:
            yield f"the prefix {self.prefix!r} was stripped from the weights' names"
        if self.head:
            inside = bool(self.prefix) and not self.head.startswith(self.prefix)
            where = f", beside the network below {self.prefix!r}" if inside else ""
            missing = (
                "" if inside else "; what may stand before it there (a dropout, ...) has no weights, taken as nothing"
            )
            yield f"the final layer was taken from {self.head!r}{where}{missing}"
        if self.left_out:
            names = ", ".join(list(self.left_out)[:N_NAMED])
            more = f" and {len(self.left_out) - N_NAMED} more" if len(self.left_out) > N_NAMED else ""
            what = "auxiliary outputs of training" if self.auxiliary else f"tensors outside {self.prefix!r}"
            yield f"{what} were left out: {names}{more}"


def list_views(state: Mapping[str, torch.Tensor]) -> Iterator[View]:
    """`state` as it is, then without each prefix that many of its names share, the commonest first."""
    for plain in _without_wrappers(state):
        yield plain
        shares: Counter[str] = Counter()
        for name in plain.state:
            parts = name.split(".", DEEPEST)
            shares.update({".".join(parts[:depth]) + "." for depth in range(1, len(parts))})
        common = {prefix: n for prefix, n in shares.items() if n >= LEAST_SHARE * len(state)}
        for prefix in sorted(common, key=lambda name: (-common[name], len(name))):
            yield _without_prefix(plain, prefix, state)


def list_grafts(view: View) -> Iterator[View]:
    """`view` with the single linear layer that lies outside it as its final layer, under each usual name."""
    weights = [name for name, value in view.left_out.items() if name.endswith(".weight") and value.ndim == 2]
    if len(weights) != 1:
        return
    source = weights[0].removesuffix(".weight")
    layer = {name: view.left_out[name] for name in (f"{source}.weight", f"{source}.bias") if name in view.left_out}
    if len(layer) < len(view.left_out):
        return
    for head in HEAD_NAMES:
        renamed = {f"{head}{name.removeprefix(source)}": value for name, value in layer.items()}
        yield View(view.prefix, {**view.state, **renamed}, {}, head=source)


def list_inner_heads(view: View) -> Iterator[View]:
    """`view` with the one linear layer in a Sequential (``fc.1`` after a dropout) as the final layer itself."""
    for head in HEAD_NAMES:
        inside = {name: value for name, value in view.state.items() if name.startswith(f"{head}.")}
        weights = [name for name, value in inside.items() if name.endswith(".weight") and value.ndim == 2]
        source = weights[0].removesuffix(".weight") if len(weights) == 1 else ""
        if not source.removeprefix(f"{head}.").isdigit() or not inside.keys() <= {f"{source}.weight", f"{source}.bias"}:
            continue
        others = {name: value for name, value in view.state.items() if name not in inside}
        renamed = {f"{head}{name.removeprefix(source)}": value for name, value in inside.items()}
        yield View(view.prefix, {**others, **renamed}, view.left_out, head=f"{view.prefix}{source}")


def list_without_auxiliary(view: View) -> Iterator[View]:
    """`view` without the outputs that only training has: GoogLeNet's and Inception's, which keep 1,000 classes."""
    extra = {name: value for name, value in view.state.items() if name.startswith(AUXILIARY)}
    if extra:
        own = {name: value for name, value in view.state.items() if name not in extra}
        yield View(view.prefix, own, {**view.left_out, **extra}, view.head, auxiliary=True)


def best_view(state: Mapping[str, torch.Tensor], model: nn.Module) -> tuple[View, int]:
    """The view of `state` that fits `model` best, and how many tensors fit in name and shape.

    The user's own class may have a part called ``model``, so that is stripped which fits, not all there is.
    """
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}

    def count(view: View) -> tuple[int, int, int]:
        shared = own.keys() & view.state.keys()
        return sum(own[name] == tuple(view.state[name].shape) for name in shared), len(shared), -len(view.left_out)

    views: list[View] = []
    for plain in _without_wrappers(state):
        matching: Counter[str] = Counter()
        for name in plain.state:
            parts = name.split(".", DEEPEST)
            matching.update(
                ".".join(parts[:depth]) + "." for depth in range(1, len(parts)) if ".".join(parts[depth:]) in own
            )
        views.append(plain)
        views.extend(_without_prefix(plain, prefix, state) for prefix, _ in matching.most_common(N_PREFIXES))
    view = max(views, key=count)
    return view, count(view)[0]


def _without_wrappers(state: Mapping[str, torch.Tensor]) -> Iterator[View]:
    """`state` as it is, and without the parts of its names that only wrappers have."""
    yield View("", state, {})
    bare = {".".join(part for part in name.split(".") if part not in WRAPPERS): name for name in state}
    if len(bare) == len(state) and any(short != name for short, name in bare.items()):
        short = {name: state[long] for name, long in bare.items()}
        yield View(_find_stripped(state, short), short, {})


def _without_prefix(plain: View, prefix: str, original: Mapping[str, torch.Tensor]) -> View:
    inside = {name[len(prefix) :]: value for name, value in plain.state.items() if name.startswith(prefix)}
    outside = {name: value for name, value in plain.state.items() if not name.startswith(prefix)}
    is_plain = plain.state is original
    return View(prefix if is_plain else _find_stripped(original, inside) or prefix, inside, outside)


def load_state(path: str, architecture: str, model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copies `state` into `model`, cast to the model's own types.

    Raises:
        CheckpointError: keys or shapes do not fit (the first of each kind is named), or a weight is infinite.
    """
    own = model.state_dict()
    # counters and lookup tables: versions of a library keep them or not, and every network computes its own
    known = {key: value for key, value in state.items() if key in own or not is_derived(key)}
    known.update({key: own[key] for key in own if is_derived(key) and key not in state})
    problems = _describe_misfit(known, own)
    if problems:
        why = f"its keys do not fit {architecture}: {'; '.join(problems)}"
        raise CheckpointError(path, why, hint=suggest_architecture(view.state for view in list_views(state)))
    for key, value in known.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            kind = "NaN" if bool(torch.isnan(value).any()) else "infinite values"
            raise CheckpointError(path, f"the tensor {key!r} has {kind}", hint="training has diverged?")
    ordered = OrderedDict(known)
    ordered._metadata = own._metadata  # type: ignore[attr-defined]  # versions of layers; some refuse to load without
    model.load_state_dict(ordered, strict=True)


def _find_stripped(state: Mapping[str, torch.Tensor], shorter: Mapping[str, torch.Tensor]) -> str:
    """The prefix of the first name of `state`, compared with the same tensor's name in `shorter`; for messages only."""
    names = {id(value): name for name, value in shorter.items()}
    for name, value in state.items():
        short = names.get(id(value))
        if short is not None and name.endswith(short):
            return name.removesuffix(short)
    return ""


def _describe_misfit(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> list[str]:
    missing = [f"missing {key!r}" for key in own if key not in state]
    unexpected = [f"unexpected {key!r}" for key in state if key not in own]
    misshaped = [
        f"{key!r} is {tuple(value.shape)}, expected {tuple(own[key].shape)}"
        for key, value in state.items()
        if key in own and value.shape != own[key].shape
    ]
    return [
        f"{problem[0]}{f' (and {len(problem) - 1} more)' if len(problem) > 1 else ''}"
        for problem in (missing, unexpected, misshaped)
        if problem
    ]
