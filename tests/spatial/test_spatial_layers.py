"""How layers are found and refused, and what a layout's methods do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salve_audit.errors import LayerError
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import SpatialLayer, find_spatial_layers
from salve_audit.spatial.layout import GridLayout
from salve_audit.spatial.locality import change_corners, find_layout, measure_locality
from salve_audit.spatial.map_layers import last_spatial_layer, measure_share, middle_spatial_layer

SIZE = (32, 32)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flat, self.body, self.head = nn.Flatten(), nn.Linear(3 * 32 * 32, 64), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.flat(x)).relu())


class Folded(nn.Module):
    """A vector in the shape of a map: positions of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fold = nn.Linear(3 * 32 * 32, 8 * 8 * 8), nn.Unflatten(1, (8, 8, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fold(self.body(x.flatten(1))).relu().mean((2, 3)))


class Cube(nn.Module):
    """A map as many channels deep as high and wide, channels first and last."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.turn, self.head = nn.Conv2d(3, 8, 4, 4), Turn(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.turn(self.body(x)).relu().mean((1, 2)))


class Turn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def test_a_vector_has_no_spatial_layer(classifier_of: Any, images: Any) -> None:
    for model in (Mlp(), Folded()):
        with pytest.raises(LayerError, match=r"^model\.pt: no module's output is a grid over the image$") as caught:
            last_spatial_layer(classifier_of(model, SIZE), images(SIZE))
        assert "--saliency-layer" in str(caught.value.hint)


def test_axes_are_distinguished_where_shapes_cannot(classifier_of: Any, images: Any) -> None:
    layers = {layer.name: layer.layout for layer in find_spatial_layers(classifier_of(Cube(), SIZE), images(SIZE))}
    assert layers == {
        "body": GridLayout("channels-first", 8, 8, 8),
        "turn": GridLayout("channels-last", 8, 8, 8),
    }


def test_layers_come_in_order_of_execution(timm_classifier: Any, images: Any) -> None:
    classifier = timm_classifier("resnet18", SIZE)
    layers = find_spatial_layers(classifier, images(SIZE))
    names = [layer.name for layer in layers]
    assert [layer.order for layer in layers] == sorted({layer.order for layer in layers})
    assert names.index("act1") < names.index("maxpool") < names.index("layer1") < names.index("layer2")
    assert "layer1.1" not in names, "it returns what layer1 returns"
    assert "global_pool" not in names
    assert "fc" not in names


def test_windows_are_no_layers(timm_classifier: Any, images: Any) -> None:
    classifier = timm_classifier(
        "swin_tiny_patch4_window7_224", (64, 64), img_size=64, window_size=4, embed_dim=24, depths=(1, 1, 1, 1)
    )
    layers = {layer.name: layer.layout for layer in find_spatial_layers(classifier, images((64, 64)))}
    assert layers["layers.0"] == GridLayout("channels-last", 16, 16, 24)
    assert "layers.0.blocks.0.attn" not in layers, "it works on windows of 4 x 4"


def test_a_named_layer_is_taken(timm_classifier: Any, images: Any) -> None:
    """Also one beside which information passes, and one under the name of an inner module."""
    vit = timm_classifier("vit_tiny_patch16_224", SIZE, img_size=32, patch_size=8, depth=2)
    layer = last_spatial_layer(vit, images(SIZE), "blocks.1.norm1")
    assert (layer.name, layer.layout) == ("blocks.1.norm1", GridLayout("tokens", 4, 4, 192, 1))
    resnet = timm_classifier("resnet18", (64, 64))
    assert last_spatial_layer(resnet, images((64, 64)), "layer3.1").name == "layer3.1"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("block.0", "model.pt: has no module 'block.0'", "spatial layers there: blocks.0"),
        ("norm_pre.inner", "model.pt: has no module 'norm_pre.inner'", "spatial layers there: "),
        ("head", "model.pt: its module 'head' returns 15 x 5 for a batch of images, no grid over the image", ""),
        ("head_dist", "model.pt: has no module 'head_dist'", ""),
        (
            "blocks",
            "model.pt: the map of its module 'blocks' is constant or not finite: the head does not read its positions",
            "name an earlier layer with --saliency-layer MODULE",
        ),
    ],
)
def test_a_wrong_name_is_refused(name: str, message: str, hint: str, timm_classifier: Any, images: Any) -> None:
    classifier = timm_classifier("vit_tiny_patch16_224", SIZE, img_size=32, patch_size=8, depth=2)
    with pytest.raises(LayerError) as caught:
        last_spatial_layer(classifier, images(SIZE), name)
    assert str(caught.value) == message
    assert hint in str(caught.value.hint)


def test_images_of_a_wrong_size_are_named(timm_classifier: Any, images: Any) -> None:
    classifier = timm_classifier("vit_tiny_patch16_224", SIZE, img_size=32, patch_size=8, depth=1)
    with pytest.raises(LayerError, match=r"^model\.pt: a forward pass of images of 3 x 24 x 24 failed \("):
        find_spatial_layers(classifier, images((24, 24)))


def test_corners_are_changed_and_nothing_else(images: Any) -> None:
    prepared = images((16, 24), 2)
    changed = change_corners(prepared).reshape(5, 2, 3, 16, 24)
    assert torch.equal(changed[0], prepared)
    different = (changed[1:] != prepared).any(2)  # (4, 2, 16, 24)
    assert different[:, :, 4:12].sum() == 0
    assert different[:, :, :, 6:18].sum() == 0
    assert different[1, :, :4, 18:].all(), "the second is top right"
    assert different.sum() == 4 * 2 * 4 * 6


def test_locality_is_one_for_places_and_none_for_chance() -> None:
    energy = torch.zeros(4, 1, 6, 6)
    for corner, (y, x) in enumerate([(0, 0), (0, 5), (5, 0), (5, 5)]):
        energy[corner, 0, y, x] = 1
    assert measure_locality(energy) == pytest.approx(1)
    assert measure_locality(energy.flip(0)) == pytest.approx(-1)
    assert measure_locality(energy[[0, 2, 1, 3]]) == pytest.approx(0, abs=1e-6), "rows for columns"
    assert measure_locality(torch.zeros(4, 1, 6, 6)) == 0
    assert measure_locality(torch.full((4, 1, 6, 6), float("nan"))) == 0


@pytest.mark.parametrize("n_prefix", [0, 1, 5, 9])
def test_tokens_in_front_are_counted(n_prefix: int, images: Any) -> None:
    """The grid says how many there are, whatever the network says of itself."""
    patches = nn.functional.unfold(change_corners(images((32, 48))), 4, stride=4).transpose(1, 2)  # (15, 96, 48)
    tokens = torch.cat([torch.randn(1, n_prefix, 48).expand(len(patches), -1, -1), patches], dim=1)
    for told in (None, 1):
        assert find_layout(tokens, (32, 48), told) == GridLayout("tokens", 8, 12, 48, n_prefix)


@pytest.mark.parametrize(
    "layout",
    [
        GridLayout("channels-first", 2, 3, 5),
        GridLayout("channels-last", 2, 3, 5),
        GridLayout("tokens", 2, 3, 5, 2),
    ],
)
def test_positions_go_there_and_back(layout: GridLayout) -> None:
    """Row by row, each with its channels; tokens in front stay."""
    output = torch.arange(4 * torch.Size(layout.shape).numel(), dtype=torch.float32).reshape(4, *layout.shape)
    positions = layout.to_positions(output)
    assert positions.shape == (4, 6, 5)
    expected = {
        "channels-first": lambda p, c: output[3, c, p // 3, p % 3],
        "channels-last": lambda p, c: output[3, p // 3, p % 3, c],
        "tokens": lambda p, c: output[3, 2 + p, c],
    }[layout.kind]
    assert all(positions[3, p, c] == expected(p, c) for p in range(6) for c in range(5))
    assert torch.equal(layout.with_positions(output, positions), output)
    doubled = layout.with_positions(output, 2 * positions)
    assert torch.equal(layout.to_positions(doubled), 2 * positions)
    if layout.n_prefix:
        assert torch.equal(doubled[:, :2], output[:, :2])
    assert layout.to_map(positions[..., 0]).shape == (4, 2, 3)


def test_a_class_token_that_knows_all_leaves_nothing_to_positions(timm_classifier: Any, images: Any) -> None:
    """What passes through positions, and the layer for sharp maps that follows from it."""
    prepared = images(SIZE, 6)
    resnet, larger = timm_classifier("resnet10t", (64, 64)), images((64, 64), 4)
    layer = middle_spatial_layer(resnet, larger)
    assert layer.name == "layer2"
    with CutNetwork(resnet.model, layer, resnet.reader) as cut:
        assert measure_share(cut, larger) == pytest.approx(1)
    vit = timm_classifier("vit_tiny_patch16_224", SIZE, img_size=32, patch_size=8, depth=4)
    for block in vit.model.blocks[1:]:  # from here on the class token hears nothing
        block.attn.proj.weight.zero_()
    shares = {}
    for name in ("blocks.0", "patch_embed"):
        with CutNetwork(vit.model, last_named(vit, prepared, name), vit.reader) as cut:
            shares[name] = measure_share(cut, prepared)
    assert shares == {"blocks.0": pytest.approx(0, abs=1e-5), "patch_embed": pytest.approx(1)}
    assert middle_spatial_layer(vit, prepared).order < last_named(vit, prepared, "blocks.0").order


def last_named(classifier: Any, images: Tensor, name: str) -> SpatialLayer:
    return next(layer for layer in find_spatial_layers(classifier, images) if layer.name == name)
