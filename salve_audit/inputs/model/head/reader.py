"""The head of a network: its layers, its activations read from them, and its weights as one matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.errors import HeadError
from salve_audit.inputs.model.head.forms import FORMS
from salve_audit.inputs.model.head.linear import LinearHead, fold_one_output
from salve_audit.inputs.model.head.trace import HINT

# what a network may do with its logits before it returns them
ENDINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(1),
    "log-softmax": lambda logits: logits.log_softmax(1),
    "sigmoid": lambda logits: logits.sigmoid(),
}


@dataclass(frozen=True)
class HeadReader:
    """Reads the head's inputs and weights from a network.

    Attributes:
        form: of its layers, a name out of `FORMS`.
        modules: dotted paths. Of several layers, with the outputs averaged, acts are the inputs side by side
            (n, m d) and weights ``[W_1 ... W_m] / m``.
        ending: what the network does with the logits, a name out of `ENDINGS`.
        per_label: the outputs do not exclude each other.
        scale: of a cosine head: the factor (inverse temperature) on the cosines.
        biased: the layers' biases are used; some keep one that they ignore.
        notes: what the reader of a report should know.
    """

    form: str
    modules: tuple[str, ...]
    ending: str = ""
    per_label: bool = False
    scale: float = 1.0
    biased: bool = True
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The layers as ``--head`` takes them."""
        return ",".join(self.modules)

    @property
    def key(self) -> str:
        """All of the head that changes the activations, as text; a plain linear layer's name alone."""
        return self.name if self.form == "linear" else f"{self.form}:{self.name}"

    def read(self, inputs: Mapping[str, Sequence[Tensor]], n: int, path: str) -> Float[Tensor, "n d"]:
        """Activations from what each layer was given, call by call, for `n` images.

        Raises:
            HeadError: a layer did not run, ran more than once, or was not given one vector (or map) per image.
        """
        return torch.cat([self._read_one(name, inputs.get(name, ()), n, path) for name in self.modules], dim=1)

    def _read_one(self, name: str, calls: Sequence[Tensor], n: int, path: str) -> Float[Tensor, "n d"]:
        if not calls:
            raise HeadError(path, f"its layer {name!r} is not used in a forward pass", hint=HINT)
        if len(calls) > 1:
            raise HeadError(path, f"its layer {name!r} is used {len(calls)} times in a forward pass", hint=HINT)
        acts = FORMS[self.form].read(calls[0])
        if acts is None or len(acts) != n:
            shape = " x ".join(str(side) for side in calls[0].shape)
            why = f"the input of its layer {name!r} is {shape} for {n} images, expected one vector each"
            raise HeadError(path, why, hint=HINT)
        return acts

    def weigh(self, model: nn.Module) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
        """Weights and biases in float32, one row per output of the network."""
        form, layers = FORMS[self.form], [model.get_submodule(name) for name in self.modules]
        weights = [form.weigh(layer) for layer in layers]
        biases = [form.offset(layer, len(weight)) for layer, weight in zip(layers, weights, strict=True)]
        return torch.cat(weights, dim=1) * (self.scale / len(layers)), torch.stack(biases).mean(0) * self.biased

    def fold(self, model: nn.Module) -> LinearHead:
        """The head that the audit works on: copies of the weights, two rows where the network has one output."""
        weight, bias = self.weigh(model)
        head = LinearHead(np.array(weight.numpy(), order="C"), np.array(bias.numpy()), self.name)
        return fold_one_output(head) if head.n_classes == 1 else head

    def count_classes(self, model: nn.Module) -> int:
        """Rows of the folded head."""
        n_outputs = self.count_outputs(model)
        return 2 if n_outputs == 1 else n_outputs

    def count_outputs(self, model: nn.Module) -> int:
        """The network's outputs."""
        return FORMS[self.form].count_rows(model.get_submodule(self.modules[0]))

    def describe(self, model: nn.Module) -> str:
        """The head in one line, for ``inspect``."""
        layers = "; ".join(f"{name}: {_first_line(model.get_submodule(name))}" for name in self.modules)
        extras = [
            *([f"{len(self.modules)} layers averaged"] if len(self.modules) > 1 else []),
            *([f"cosines times {self.scale:.6g}"] if self.form.startswith("cosine") else []),
            *([f"then {self.ending}"] if self.ending else []),
            *(["judged per label"] if self.per_label else []),
        ]
        return f"{layers} ({', '.join(extras)})" if extras else layers


def _first_line(module: nn.Module) -> str:
    return str(module).partition("\n")[0].rstrip("(")
