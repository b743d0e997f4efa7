"""Maps of all latents at once, against one backward pass each, the `grad-cam` library, and what must add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional

from salve_audit.demo.images import class_keys, draw
from salve_audit.demo.training import normalise_pixels
from salve_audit.demo.world import demo_world
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.search import find_head
from salve_audit.results.transform import TransformSpec
from salve_audit.sae.activation import Activation
from salve_audit.sae.models import TrainedSae
from salve_audit.saliency import gradients
from salve_audit.saliency.enlarge import enlarge_maps, normalise_maps
from salve_audit.saliency.gradients import Directions
from salve_audit.saliency.localisation import hits
from salve_audit.saliency.maps import compute_grad_cam, compute_grad_fam, compute_integrated
from salve_audit.spatial.alignment import measure_alignment
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.map_layers import last_spatial_layer

SIDE = 48
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet10t": {},
    "mobilenetv3_small_050": {},  # a convolution and an activation function between the last map and the head
    "vit_tiny_patch16_224": {"img_size": SIDE, "patch_size": 8, "depth": 2},
    "swin_tiny_patch4_window7_224": {
        "img_size": SIDE,
        "window_size": 3,
        "embed_dim": 24,
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 2, 4),
    },
}


def as_classifier(model: nn.Module, side: int = SIDE) -> Classifier:
    model = model.eval().requires_grad_(False)
    reader = find_head(model, (3, side, side))
    spec = TransformSpec((3, side, side), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "test")
    return Classifier(model, "test", "test", Path("m.pt"), "", reader.name, spec, None, False, (), head_reader=reader)


def build(name: str) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return as_classifier(timm.create_model(name, num_classes=5, **NETWORKS[name]))


def draw_noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def map_one(classifier: Classifier, layer: Any, image: Tensor, vector: Tensor) -> Tensor:
    """Σ_c w_c F_c by a hook and one backward pass of the network itself, for one image and direction."""
    tensors: dict[str, Tensor] = {}
    model, (head,) = classifier.model, classifier.reader.modules

    def keep(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        tensors["features"] = output.detach().requires_grad_()
        return tensors["features"].clone()

    handles = [
        model.get_submodule(layer.name).register_forward_hook(keep),
        model.get_submodule(head).register_forward_pre_hook(lambda _, given: tensors.update(acts=given[0])),
    ]
    model(image[None])
    for handle in handles:
        handle.remove()
    (tensors["acts"] @ vector).sum().backward()
    assert tensors["features"].grad is not None
    places, slopes = (
        layer.layout.to_positions(tensor)[0] for tensor in (tensors["features"].detach(), tensors["features"].grad)
    )
    return layer.layout.to_map(places @ slopes.mean(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_all_at_once_is_one_after_another(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, images = build(name), draw_noise(5, 3, SIDE, SIDE)
    layer = last_spatial_layer(classifier, images)
    vectors = draw_noise(3, classifier.reader.weigh(classifier.model)[0].shape[1], seed=1)
    # two images at a time where a backward pass is needed
    each = len(vectors) * layer.layout.n_positions * layer.layout.channels
    monkeypatch.setattr(gradients, "MOST_NUMBERS", 2 * each)
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        directions, passed = Directions(cut, vectors), cut.run(images)
        fam, cam = compute_grad_fam(directions, passed), compute_grad_cam(directions, passed)
    expected = torch.stack(
        [torch.stack([map_one(classifier, layer, image, each) for each in vectors]) for image in images]
    )
    assert fam.shape == (5, 3, layer.layout.height, layer.layout.width)
    torch.testing.assert_close(fam, expected.abs(), rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    torch.testing.assert_close(cam, expected.relu(), rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_grad_cam_is_the_library_s(name: str) -> None:
    classifier, images = build(name), draw_noise(3, 3, SIDE, SIDE)
    layer = last_spatial_layer(classifier, images)
    weight = classifier.reader.weigh(classifier.model)[0]
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        maps = compute_grad_cam(Directions(cut, weight), cut.run(images))
    index = int(maps.flatten(2).std(2).amin(0).argmax())  # a class with something in its favour in every image
    maps, reshape = maps[:, index], None
    if layer.layout.kind == "tokens":
        reshape = lambda output: layer.layout.to_map(layer.layout.to_positions(output).transpose(1, 2))  # noqa: E731
    with GradCAM(classifier.model, [classifier.model.get_submodule(layer.name)], reshape_transform=reshape) as library:
        expected = library(images.clone().requires_grad_(), targets=[ClassifierOutputTarget(index)] * len(images))
    enlarged = functional.interpolate(normalise_maps(maps)[:, None], size=(SIDE, SIDE), mode="bilinear")[:, 0]
    np.testing.assert_allclose(normalise_maps(enlarged).numpy(), expected, atol=2e-3)
    assert expected.std() > 0.05


def test_a_linear_rest_is_told_from_one_that_is_not() -> None:
    """Only there one Jacobian serves all images."""
    images = draw_noise(2, 3, SIDE, SIDE)
    linear = {}
    for name in ("resnet10t", "mobilenetv3_small_050"):
        classifier = build(name)
        layer = last_spatial_layer(classifier, images)
        with CutNetwork(classifier.model, layer, classifier.reader) as cut:
            linear[name] = gradients.is_linear(cut, cut.run(images))
    assert linear == {"resnet10t": True, "mobilenetv3_small_050": False}


@pytest.mark.parametrize("kind", ["topk", "threshold", "relu"])
def test_an_inactive_latent_has_a_map(kind: str) -> None:
    """Its code has no gradient behind the gate; its pre-activation has."""
    classifier, images = build("resnet10t"), draw_noise(2, 3, SIDE, SIDE)
    layer = last_spatial_layer(classifier, images)
    d = classifier.reader.weigh(classifier.model)[0].shape[1]
    rows = functional.normalize(draw_noise(4, d).abs(), dim=1).numpy()
    sae = TrainedSae(
        kind,
        rows,
        rows * np.float32([1, 1, 1, -1])[:, None],  # activations are not negative here, so the last never fires
        np.zeros(4, np.float32),
        np.zeros(d, np.float32),
        {},
        Activation(kind, 1 if kind == "topk" else None, np.zeros(4, np.float32) if kind == "threshold" else None),
    )
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        passed = cut.run(images)
        acts = passed.acts.clone().requires_grad_()
        code = sae.encode_tensor(acts)[:, 3]
        assert not code.any()
        (slope,) = torch.autograd.grad(code.sum(), acts)
        assert not slope.any()
        maps = compute_grad_fam(Directions(cut, torch.from_numpy(sae.encoder_weight)), passed)[:, 3]
    assert (maps.amax((1, 2)) > maps.amin((1, 2))).all()


@pytest.mark.parametrize(("name", "steps", "tolerance"), [("resnet10t", 1, 1e-4), ("vit_tiny_patch16_224", 64, 0.02)])
def test_what_positions_add_is_what_places_matter(name: str, steps: int, tolerance: float) -> None:
    """Their sum is the change of the direction from the image without places to the image."""
    classifier, images = build(name), draw_noise(3, 3, SIDE, SIDE)
    layer = last_spatial_layer(classifier, images)
    vectors = draw_noise(2, classifier.reader.weigh(classifier.model)[0].shape[1], seed=1)
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        passed = cut.run(images)
        maps = compute_integrated(Directions(cut, vectors), passed, steps)
        positions = layer.layout.to_positions(passed.output)
        even = layer.layout.with_positions(passed.output, positions.mean(1, keepdim=True).expand_as(positions))
        change = (passed.acts - cut.follow(passed, even, torch.arange(3)).acts) @ vectors.T
    scale = float(maps.abs().sum((2, 3)).max())
    torch.testing.assert_close(maps.sum((2, 3)), change, rtol=0, atol=tolerance * scale)
    assert maps.std() > 0


class Red(nn.Module):
    """Knows red when it sees it: one channel more red than green and blue, two others."""

    def __init__(self) -> None:
        super().__init__()
        self.eye, self.see, self.head = nn.Conv2d(3, 3, 4, 4), nn.ReLU(), nn.Linear(3, 2)
        colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]])
        self.eye.weight.data = (colours[:, :, None, None] / 16).expand(3, 3, 4, 4).clone()
        self.eye.bias.data = torch.full((3,), -1.0)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.see(self.eye(images)).mean((2, 3)))


def test_the_map_points_at_the_planted_cue() -> None:
    """The red patches of the demo's world, in a network whose first activation is redness."""
    world = demo_world()
    label = world.class_names.index("ember")
    prepared = [draw(world, key) for key in class_keys("val", label, 60, 3)]
    images = normalise_pixels(torch.from_numpy(np.stack([image.pixels for image in prepared]))).contiguous()
    masks = np.stack([image.masks["red patch"] for image in prepared])
    classifier = as_classifier(Red(), world.size)
    layer = last_spatial_layer(classifier, images[:4])
    alignment = measure_alignment(classifier, layer, images)
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        directions, passed = Directions(cut, torch.eye(3)), cut.run(images)
        for compute in (compute_grad_fam, compute_integrated):
            red, green, _ = enlarge_maps(compute(directions, passed), (world.size, world.size), alignment).unbind(1)
            assert hits(red.numpy(), masks).mean() >= 0.95
            assert hits(green.numpy(), masks).mean() < 0.2, "another latent looks elsewhere"
