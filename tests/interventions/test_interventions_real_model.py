"""Edits worked out on cached activations, against the real ResNet-18 that carries them."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.context import EditContext, compute_fit_statistics, float64_head
from salve_audit.interventions.registry import METHODS
from salve_audit.interventions.rome import choose_key
from salve_audit.interventions.steering import steering_vector

pytestmark = [pytest.mark.slow, pytest.mark.shared_data]
PER_CLASS = 7
TOLERANCE = {"rtol": 1e-5, "atol": 2e-5}  # float32 products against float64 ones, logits of about ten


@dataclasses.dataclass(frozen=True)
class RealModel:
    """The network, a batch of real images, and what the cache would hold of them."""

    model: nn.Module
    batch: Tensor
    acts: np.ndarray
    labels: np.ndarray
    original: np.ndarray  # logits

    def logits(self, model: nn.Module) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = model(self.batch).numpy()
        return logits

    def edited(self, head: AffineHead) -> np.ndarray:
        """Logits of a copy of the network with the edited head loaded through its state dict."""
        model = copy.deepcopy(self.model)
        state = dict(model.state_dict())
        state["fc.weight"] = torch.from_numpy(head.weight).float()
        state["fc.bias"] = torch.from_numpy(head.bias).float()
        model.load_state_dict(state)
        return self.logits(model)


@pytest.fixture(scope="module")
def real(shared_data: Path, cifar10: Path) -> RealModel:
    checkpoint = torch.load(shared_data / "resnet18_cifar10_64.pt", weights_only=True, map_location="cpu")
    settings = checkpoint["args"]
    model = timm.create_model(checkpoint["arch"], num_classes=settings["num_classes"]).eval()
    model.load_state_dict(checkpoint["state_dict"])
    classes = sorted(folder.name for folder in (cifar10 / "val").iterdir())
    paths = [sorted((cifar10 / "val" / name).glob("*.jpg"))[:PER_CLASS] for name in classes]
    size = settings["img_size"]
    images = [
        np.asarray(Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
        for group in paths
        for path in group
    ]
    mean, std = np.array(settings["mean"], dtype=np.float32), np.array(settings["std"], dtype=np.float32)
    batch = torch.from_numpy(((np.stack(images) / 255 - mean) / std).transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        acts = model.forward_head(model.forward_features(batch), pre_logits=True)
        original = model(batch)
    labels = np.repeat(np.arange(len(classes)), PER_CLASS)
    return RealModel(model, batch, acts.numpy(), labels, original.numpy())


@pytest.fixture(scope="module")
def ship(real: RealModel) -> EditContext:
    """Class 8, with the principal directions of the activations for a dictionary."""
    head = LinearHead(real.model.fc.weight.detach().numpy(), real.model.fc.bias.detach().numpy(), "fc")
    centred = real.acts - real.acts.mean(axis=0)
    dictionary = np.linalg.svd(centred, full_matrices=False)[2][:32]
    codes = centred @ dictionary.T
    mean_codes = np.stack([codes[real.labels == k].mean(axis=0) for k in range(10)])
    dominant = np.abs(mean_codes).argmax(axis=1)
    return EditContext(
        head=float64_head(head),
        class_index=8,
        feature=int(dominant[8]),
        dominant=dominant,
        dictionary=dictionary,
        mean_codes=mean_codes,
        alive=np.ones(len(dictionary), dtype=bool),
        fit=compute_fit_statistics(real.acts, real.labels, 10),
        key=choose_key(real.acts, np.flatnonzero(real.labels == 8)),
        rng=np.random.default_rng(0),
    )


def test_the_model_is_right_about_these_images(real: RealModel) -> None:
    """Otherwise equal predictions below would say little."""
    assert np.mean(real.original.argmax(axis=1) == real.labels) > 0.7


@pytest.mark.parametrize("strength", [0.0, 0.7, 20.0])
def test_salve_weights_in_the_real_model_give_the_cached_logits(
    real: RealModel, ship: EditContext, strength: float
) -> None:
    head = METHODS["salve"].build(ship).head(strength)
    measured, cached = real.edited(head), head.logits(real.acts.astype(np.float64))
    np.testing.assert_allclose(measured, cached, **TOLERANCE)
    np.testing.assert_array_equal(measured.argmax(axis=1), cached.argmax(axis=1))


def test_the_strongest_of_these_edits_changes_many_predictions(real: RealModel, ship: EditContext) -> None:
    after = METHODS["salve"].build(ship).head(20.0).logits(real.acts.astype(np.float64))
    assert np.mean(real.original.argmax(axis=1) != after.argmax(axis=1)) > 0.2


@pytest.mark.parametrize("method", ["rome-cov", "leace", "row-scaling"])
def test_an_edited_head_in_the_real_model_gives_the_cached_logits(
    method: str, real: RealModel, ship: EditContext
) -> None:
    intervention = METHODS[method].build(ship)
    head = intervention.head(0.8 * intervention.unit)
    measured, cached = real.edited(head), head.logits(real.acts.astype(np.float64))
    scale = max(1.0, float(np.abs(cached).max()))
    np.testing.assert_allclose(measured / scale, cached / scale, **TOLERANCE)


@pytest.mark.parametrize("strength", [0.5, 8.0])
def test_folded_steering_is_the_real_forward_hook(real: RealModel, ship: EditContext, strength: float) -> None:
    step = torch.from_numpy(strength * steering_vector(ship)).float()
    hook = real.model.fc.register_forward_pre_hook(lambda _, inputs: (inputs[0] + step, *inputs[1:]))
    try:
        hooked = real.logits(real.model)
    finally:
        hook.remove()
    folded = real.edited(METHODS["steering"].build(ship).head(strength))
    np.testing.assert_allclose(hooked, folded, **TOLERANCE)
    assert np.abs(hooked - real.original).max() > 0.1  # the hook does something
