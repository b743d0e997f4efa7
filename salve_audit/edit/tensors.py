"""An edited head taken apart into the network's own parameters: the way back through the folding of heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from salve_audit.edit.apply import EditedHead
from salve_audit.errors import HeadError, UsageError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.interventions.affine import AffineHead


def unfold(classifier: Classifier, edited: EditedHead, label: int | None) -> dict[str, np.ndarray]:
    """New values of the head's parameters, float64, by their names in the network; only those that change.

    The folding is undone exactly: of m averaged layers each takes m times its part, a convolution its kernel's shape,
    a single output the difference of its two rows. What an edit leaves alone keeps its bits.

    Args:
        classifier: whose head it is.
        edited: before and after, as it was audited.
        label: the output that was audited alone, or None.

    Raises:
        HeadError: the head cannot express the edit.
        UsageError: the edit changes nothing.
    """
    reader, model = classifier.reader, classifier.model
    check_form(classifier)
    weight, bias = (part.double().numpy() for part in reader.weigh(model))  # (k, d), (k,)
    rows = slice(None) if label is None else slice(label, label + 1)
    new_weight, new_bias = weight.copy(), bias.copy()
    new_weight[rows], new_bias[rows] = _replace(AffineHead(weight[rows], bias[rows]), edited)
    layers = [model.get_submodule(name) for name in reader.modules]
    values = dict(_split_weights(reader.modules, layers, weight, new_weight))
    values.update(_split_biases(classifier, layers, new_bias - bias))
    if not values:
        raise UsageError("edit", "changes nothing: the strength is too small, or the feature reaches no weight")
    return values


def check_form(classifier: Classifier) -> None:
    """Checks that an edit can be written into a head of this form.

    Raises:
        HeadError: it cannot.
    """
    if classifier.reader.form.startswith("cosine"):
        why = f"its head {classifier.head_name!r} compares directions: the length of its rows is fixed, edits change it"
        raise HeadError(str(classifier.path), why, hint="only heads that are linear in their weights can be edited")


def _replace(own: AffineHead, edited: EditedHead) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the rows that were audited; a single one stands against its negative (`fold_one_output`)."""
    before, after = edited.before, edited.after
    if len(own.weight) == len(after.weight):
        return after.weight, after.bias
    assert (len(own.weight), len(after.weight)) == (1, 2), "one output is audited as two classes"
    weight_kept = (before.weight == after.weight).all(axis=0)
    weight = np.where(weight_kept, own.weight, after.weight[1:] - after.weight[:1])
    bias_kept = (before.bias == after.bias).all()
    return weight, own.bias if bias_kept else after.bias[1:] - after.bias[:1]


def _split_weights(
    names: Sequence[str], layers: Sequence[nn.Module], weight: np.ndarray, new: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """The weight of every layer that changes; activations of averaged layers lie side by side."""
    start = 0
    for name, layer in zip(names, layers, strict=True):
        own = _parameter(layer, "weight")
        assert own is not None, f"the layer {name} has no weight"
        values = own.detach().double().cpu().numpy()
        part = slice(start, start + values[0].size)
        start = part.stop
        unchanged = weight[:, part] == new[:, part]
        if not unchanged.all():
            changed = np.where(unchanged, values.reshape(unchanged.shape), len(layers) * new[:, part])
            yield f"{name}.weight", changed.reshape(values.shape)


def _split_biases(
    classifier: Classifier, layers: Sequence[nn.Module], shift: Float[np.ndarray, " k"]
) -> Iterator[tuple[str, np.ndarray]]:
    """The bias of every layer that has one: together they move the average by `shift`."""
    if not shift.any():
        return
    biases = {
        f"{name}.bias": bias
        for name, layer in zip(classifier.reader.modules, layers, strict=True)
        if (bias := _parameter(layer, "bias")) is not None
    }
    if not biases:
        why = f"its head {classifier.head_name!r} has no bias, and this edit changes the bias"
        raise HeadError(str(classifier.path), why, hint="salve, ablation and rome change the weights alone")
    for name, bias in biases.items():
        values = bias.detach().double().cpu().numpy()
        yield name, np.where(shift == 0, values, values + shift * (len(layers) / len(biases)))


def _parameter(layer: nn.Module, name: str) -> Tensor | None:
    value = getattr(layer, name, None)
    return value if isinstance(value, torch.Tensor) else None
