"""Who reads a layer, and whether a change of its channels can be moved into them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from salve_audit.errors import LayerError
from salve_audit.spatial.blocks import first_block
from salve_audit.spatial.layers import find_spatial_layers
from salve_audit.spatial.readers import find_foldable_layer, replaced_weights, require_foldable_layer

SWIN = {"img_size": 64, "window_size": 4, "embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
FAMILIES = {
    "resnet10t": (
        (32, 32),
        {},
        "layer1",
        {"layer2.0.conv1", "layer2.0.downsample.1"},
    ),  # a pool comes before the second
    "resnet26d": ((32, 32), {}, "layer1", {"layer2.0.conv1", "layer2.0.downsample.1"}),
    "mobilenetv3_small_050": ((32, 32), {}, "blocks.0", {"blocks.1.0.conv_pw"}),
    "efficientnet_b0": ((32, 32), {}, "blocks.0", {"blocks.1.0.conv_pw"}),
    "convnext_atto": ((32, 32), {}, "stages.1.downsample.0", {"stages.1.downsample.1"}),
    "swin_tiny_patch4_window7_224": (
        (64, 64),
        SWIN,
        "layers.1.downsample.norm",
        {"layers.1.downsample.reduction"},
    ),
}


@pytest.mark.parametrize("name", list(FAMILIES))
def test_new_weights_do_what_the_projection_does(name: str, timm_classifier: Any, images: Any) -> None:
    size, kwargs, layer, readers = FAMILIES[name]
    classifier, prepared = timm_classifier(name, size, **kwargs), images(size)
    after = first_block(classifier.model, find_spatial_layers(classifier, prepared))
    foldable = find_foldable_layer(classifier, prepared, after)
    assert foldable is not None
    assert (foldable.layer.name, set(foldable.readers)) == (layer, readers)
    rng, d = np.random.default_rng(1), foldable.layer.layout.channels
    directions, readout = np.linalg.qr(rng.normal(size=(d, 2)))[0].T, rng.normal(size=(2, d))
    change = np.eye(d) - 0.7 * np.linalg.solve(readout @ directions.T, readout).T @ directions
    state = {key: value.clone() for key, value in classifier.model.state_dict().items()}
    first = foldable.layer.layout.kind == "channels-first"

    def project(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        equation = "bchw,cd->bdhw" if first else "bhwc,cd->bhwd"
        return torch.einsum(equation, output, torch.from_numpy(change).to(output))

    with torch.no_grad():
        before = classifier.model(prepared)
        handle = classifier.model.get_submodule(layer).register_forward_hook(project)
        expected = classifier.model(prepared)
        handle.remove()
        with replaced_weights(classifier.model, foldable.fold(classifier.model, change)):
            folded = classifier.model(prepared)
        with foldable.changing(classifier.model, change):
            hooked = classifier.model(prepared)
    scale = float(expected.abs().max())
    assert float((expected - before).abs().max()) > 1e-2 * scale
    torch.testing.assert_close(folded, expected, rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(hooked, expected, rtol=0, atol=1e-4 * scale)
    assert all(torch.equal(value, state[key]) for key, value in classifier.model.state_dict().items())


@pytest.mark.parametrize("pooling", [{}, {"class_token": False, "global_pool": "avg"}])
def test_a_stream_that_norms_and_additions_read_is_not_foldable(
    pooling: Any, timm_classifier: Any, images: Any
) -> None:
    kwargs = {"img_size": 32, "patch_size": 8, "depth": 2, **pooling}
    classifier, prepared = timm_classifier("vit_tiny_patch16_224", (32, 32), **kwargs), images((32, 32))
    assert find_foldable_layer(classifier, prepared, find_spatial_layers(classifier, prepared)[0]) is None


class Chain(nn.Module):
    """Two layers, between which something may happen to the first one's output."""

    def __init__(self, between: str) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(3, 4, 3, 2, 1),
            nn.Conv2d(4, 4, 3, 1, 1, groups=2 if between == "groups" else 1),
        )
        self.relu, self.norm, self.head = nn.ReLU(inplace=True), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.wrapper, self.drop = nn.Identity(), nn.Dropout(0.5)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        y = self.wrapper(self.first(x))
        if self.between == "relu":
            self.relu(y)  # in place
        if self.between == "norm":
            y = self.norm(y)
        z = self.second(self.drop(y))
        if self.between == "added":
            z = z + y
        if self.between == "twice":
            z = self.second(z)
        return self.head(torch.tanh(z).mean((2, 3)))


def chained(between: str, classifier_of: Any, images: Tensor) -> tuple[Any, str]:
    """The chain and the name of its first layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = classifier_of(Chain(between), (32, 32))
    names = {layer.name for layer in find_spatial_layers(classifier, images)}
    return classifier, "first" if "first" in names else "wrapper"


def test_wrappers_that_do_nothing_do_not_matter(classifier_of: Any, images: Any) -> None:
    classifier, name = chained("", classifier_of, images((32, 32)))
    assert require_foldable_layer(classifier, images((32, 32)), name).readers == ("second",)


@pytest.mark.parametrize("between", ["relu", "norm", "added", "twice", "groups"])
def test_only_what_all_its_readers_read_as_it_is_counts(between: str, classifier_of: Any, images: Any) -> None:
    classifier, name = chained(between, classifier_of, images((32, 32)))
    with pytest.raises(LayerError, match=name):
        require_foldable_layer(classifier, images((32, 32)), name)


def test_a_layer_before_it_is_passed_over(timm_classifier: Any, images: Any) -> None:
    classifier, prepared = timm_classifier("resnet10t", (32, 32)), images((32, 32))
    layers = {layer.name: layer for layer in find_spatial_layers(classifier, prepared)}
    foldable = find_foldable_layer(classifier, prepared, layers["layer2.0.conv2"])
    assert foldable is not None
    assert foldable.layer.name == "layer2"
    classifier = timm_classifier("resnet10t", (64, 64))
    last = find_spatial_layers(classifier, images((64, 64)))[-1]
    assert last.name.startswith("layer4")
    assert find_foldable_layer(classifier, images((64, 64)), last) is None, "the head is edited as a head"
