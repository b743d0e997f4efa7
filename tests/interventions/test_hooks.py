"""Every method's folded head against the same edit done by a hook inside a real network.

The hooks are written from the methods' definitions on activations or logits, not from the folded factors; the network
is a small convolutional one of timm with random weights, in float64, so that the two agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.interventions import inlp, mean_difference, nulls, steering
from salve_audit.interventions.context import EditContext, compute_fit_statistics, float64_head
from salve_audit.interventions.registry import METHODS
from salve_audit.interventions.rome import choose_key

pytestmark = pytest.mark.slow

N_CLASSES, PER_CLASS, TARGET = 4, 12, 2
OnActs = Callable[[Tensor], Tensor]


class Network:
    """The network, images, and an edit context of what the cache would hold."""

    def __init__(self) -> None:
        torch_rng = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = timm.create_model("test_resnet", num_classes=N_CLASSES).double().eval()
        self.head: nn.Linear = self.model.get_classifier()
        tints = torch.randn(N_CLASSES, 3, 1, 1, generator=torch_rng, dtype=torch.float64)
        self.labels = np.repeat(np.arange(N_CLASSES), PER_CLASS)
        noise = torch.randn(len(self.labels), 3, 64, 64, generator=torch_rng, dtype=torch.float64)
        self.images = 2.0 * tints[self.labels] + noise
        with torch.inference_mode():
            self.acts = self.model.forward_head(self.model.forward_features(self.images), pre_logits=True).numpy()
            weight, bias = self._fit_head()
            self.head.weight.copy_(torch.from_numpy(weight))
            self.head.bias.copy_(torch.from_numpy(bias))
        self.original = self.logits()
        dictionary = np.linalg.svd(self.acts - self.acts.mean(axis=0), full_matrices=False)[2][:9]
        codes = self.acts @ dictionary.T
        self.mean_codes = np.stack([codes[self.labels == k].mean(axis=0) for k in range(N_CLASSES)])
        self.dictionary, self.dominant = dictionary, np.abs(self.mean_codes).argmax(axis=1)

    def _fit_head(self) -> tuple[np.ndarray, np.ndarray]:
        """Least squares to the labels, so that the network knows its classes."""
        spread = self.acts.std(axis=0).max()
        design = np.concatenate([self.acts - self.acts.mean(axis=0), 0.1 * spread * np.eye(self.acts.shape[1])])
        goal = np.concatenate([8.0 * np.eye(N_CLASSES)[self.labels] - 2.0, np.zeros((self.acts.shape[1], N_CLASSES))])
        weight = np.linalg.lstsq(design, goal, rcond=None)[0].T
        return weight, -weight @ self.acts.mean(axis=0)

    def logits(self) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = self.model(self.images).numpy()
        return logits

    def context(self) -> EditContext:
        """A new one each time: nulls draw from its generator."""
        return EditContext(
            head=float64_head(LinearHead(self.head.weight.detach().numpy(), self.head.bias.detach().numpy(), "fc")),
            class_index=TARGET,
            feature=int(self.dominant[TARGET]),
            dominant=self.dominant,
            dictionary=self.dictionary,
            mean_codes=self.mean_codes,
            alive=np.ones(len(self.dictionary), dtype=bool),
            fit=compute_fit_statistics(self.acts, self.labels, N_CLASSES),
            key=choose_key(self.acts, np.flatnonzero(self.labels == TARGET)),
            rng=np.random.default_rng(5),
        )

    def on_activations(self, edit: OnActs) -> np.ndarray:
        """Logits with the head's input replaced."""

        def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
            return (edit(args[0]),)

        handle = self.head.register_forward_pre_hook(hook)
        try:
            return self.logits()
        finally:
            handle.remove()

    def on_logits(self, edit: Callable[[Tensor, Tensor], Tensor]) -> np.ndarray:
        """Logits with the head's output replaced, given its input and output."""

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            return edit(args[0], output)

        handle = self.head.register_forward_hook(hook)
        try:
            return self.logits()
        finally:
            handle.remove()


@pytest.fixture(scope="module")
def network() -> Network:
    return Network()


def scaled(coupling: np.ndarray, t: float) -> OnActs:
    scale = torch.from_numpy(np.maximum(0.0, 1.0 - t * coupling / coupling.max()))
    return lambda acts: acts * scale


def shifted(vector: np.ndarray, t: float) -> OnActs:
    step = torch.from_numpy(t * vector)
    return lambda acts: acts + step


def projected(basis: np.ndarray, t: float) -> OnActs:
    columns = torch.from_numpy(basis)
    return lambda acts: acts - t * (acts @ columns) @ columns.T


def erased(network: Network, t: float) -> OnActs:
    """LEACE from the covariance's symmetric root, as its paper writes it."""
    indicator = (network.labels == TARGET).astype(np.float64)
    mean = network.acts.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(network.acts.T, bias=True))
    nonzero = values > 1e-10 * values[-1]
    root = (vectors[:, nonzero] * np.sqrt(values[nonzero])) @ vectors[:, nonzero].T
    inverse = (vectors[:, nonzero] / np.sqrt(values[nonzero])) @ vectors[:, nonzero].T
    whitened = inverse @ ((network.acts - mean).T @ (indicator - indicator.mean()) / len(indicator))
    eraser = torch.from_numpy(root @ np.outer(whitened, whitened) @ inverse / (whitened @ whitened))
    centre = torch.from_numpy(mean)
    return lambda acts: acts - t * (acts - centre) @ eraser.T


def rewritten(network: Network, method: str, t: float) -> Callable[[Tensor, Tensor], Tensor]:
    """ROME on the logits: as far as a sample's activation reaches along the key, its logits move by the residual."""
    context = network.context()
    key, bias = torch.from_numpy(context.key), torch.from_numpy(context.head.bias)
    residual = torch.zeros(N_CLASSES, dtype=torch.float64)
    residual[TARGET] = -10.0 - float(context.head.logits(context.key[None])[0, TARGET])
    if method == "rome-paper":
        residual = residual - bias
    along = torch.from_numpy(context.fit.solve_second_moment(context.key)) if method == "rome-cov" else key
    return lambda acts, logits: logits + t * torch.outer(acts @ along / (key @ along), residual)


def row_scaled(t: float) -> Callable[[Tensor, Tensor], Tensor]:
    def edit(acts: Tensor, logits: Tensor) -> Tensor:
        logits = logits.clone()
        logits[:, TARGET] *= 1.0 - t
        return logits

    return edit


def retrained(network: Network, t: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Between the logits of both heads, the refitted one run as a layer of its own."""
    refitted = METHODS["last-layer-retraining"].build(network.context()).head(1.0)
    layer = nn.Linear(*refitted.weight.shape[::-1], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(refitted.weight))
        layer.bias.copy_(torch.from_numpy(refitted.bias))
    return lambda acts, logits: logits + t * (layer(acts) - logits)


def hooked(network: Network, method: str, t: float) -> np.ndarray:
    context = network.context()
    if method.startswith("rome"):
        return network.on_logits(rewritten(network, method, t))
    if method == "row-scaling":
        return network.on_logits(row_scaled(t))
    if method == "last-layer-retraining":
        return network.on_logits(retrained(network, t))
    unit = context.direction[:, None] / np.linalg.norm(context.direction)
    edits: dict[str, Callable[[], OnActs]] = {
        "salve": lambda: scaled(context.coupling, t),
        "null-permuted": lambda: scaled(context.rng.permutation(context.coupling), t),
        "null-random": lambda: scaled(np.abs(network.dictionary[nulls.suppress_random(context).feature]), t),
        "steering": lambda: shifted(steering.steering_vector(context), t),
        "mean-difference": lambda: shifted(mean_difference.difference_vector(context), t),
        "ablation": lambda: projected(unit, t),
        "inlp": lambda: projected(inlp.find_directions(context.fit.held_out, TARGET), t),
        "leace": lambda: erased(network, t),
    }
    return network.on_activations(edits[method]())


@pytest.mark.parametrize("share", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("method", METHODS)
def test_the_folded_head_is_the_hook_in_the_network(method: str, share: float, network: Network) -> None:
    intervention = METHODS[method].build(network.context())
    assert intervention is not None
    strength = share * intervention.unit
    expected = hooked(network, method, strength)
    folded = intervention.head(strength).logits(network.acts)
    assert np.abs(expected - network.original).max() > 1e-3  # the hook does something
    scale = np.abs(expected).max()
    rounding = (
        1e-7 if method == "leace" else 1e-11
    )  # the covariance's smallest kept eigenvalues are 1e-10 of the largest
    np.testing.assert_allclose(folded / scale, expected / scale, rtol=0, atol=rounding)
    np.testing.assert_array_equal(network.logits(), network.original)  # and is gone
