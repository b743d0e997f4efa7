"""The last spatial layer of every family of networks, and the network cut there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layout import GridLayout
from salve_audit.spatial.map_layers import last_spatial_layer

pytestmark = pytest.mark.slow

SMALL = (64, 64)
FAMILIES: list[tuple[str, tuple[int, int], dict[str, Any], str, GridLayout]] = [
    ("resnet18", SMALL, {}, "layer4", GridLayout("channels-first", 2, 2, 512)),
    ("convnext_atto", SMALL, {}, "stages", GridLayout("channels-first", 2, 2, 320)),
    ("efficientnet_b0", SMALL, {}, "bn2", GridLayout("channels-first", 2, 2, 1280)),
    ("regnety_002", SMALL, {}, "s4", GridLayout("channels-first", 2, 2, 368)),
    ("densenet121", SMALL, {}, "features", GridLayout("channels-first", 2, 2, 1024)),
    # a class token reads the last block's patches through its keys and values alone: the block before it is the last
    ("vit_tiny_patch16_224", SMALL, {"img_size": 64, "depth": 3}, "blocks.1", GridLayout("tokens", 4, 4, 192, 1)),
    (
        "vit_tiny_patch16_224",
        (64, 96),
        {"img_size": (64, 96), "depth": 3},
        "blocks.1",
        GridLayout("tokens", 4, 6, 192, 1),
    ),
    (
        "deit_tiny_distilled_patch16_224",
        SMALL,
        {"img_size": 64, "depth": 3},
        "blocks.1",
        GridLayout("tokens", 4, 4, 192, 2),
    ),
    (
        "vit_small_patch14_reg4_dinov2",
        (56, 56),
        {"img_size": 56, "depth": 2},
        "blocks.0",
        GridLayout("tokens", 4, 4, 384, 5),
    ),
    (
        "vit_little_patch16_reg4_gap_256",
        SMALL,
        {"img_size": 64, "depth": 2},
        "blocks",
        GridLayout("tokens", 4, 4, 320, 4),
    ),
    (
        "swin_tiny_patch4_window7_224",
        SMALL,
        {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (1, 1, 2, 1)},
        "norm",
        GridLayout("channels-last", 2, 2, 192),
    ),
    ("maxvit_rmlp_pico_rw_256", SMALL, {"img_size": 64}, "norm", GridLayout("channels-first", 2, 2, 256)),
]


@pytest.mark.parametrize(("name", "size", "kwargs", "layer_name", "layout"), FAMILIES)
def test_the_last_spatial_layer_is_found(
    name: str,
    size: tuple[int, int],
    kwargs: dict[str, Any],
    layer_name: str,
    layout: GridLayout,
    timm_classifier: Any,
    images: Any,
) -> None:
    """By itself, with its grid and the tokens in front; the rest of the network gives the same logits again."""
    classifier, prepared = timm_classifier(name, size, **kwargs), images(size)
    state = {key: value.clone() for key, value in classifier.model.state_dict().items()}
    layer = last_spatial_layer(classifier, prepared)
    assert (layer.name, layer.layout) == (layer_name, layout)
    with torch.no_grad():
        expected = classifier.model(prepared)
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        passed = cut.run(prepared)
        assert cut.is_bottleneck(prepared)
        assert not passed.before, "nothing is kept that the rest does not read"
        torch.testing.assert_close(passed.logits, expected)
        rows = torch.tensor([2, 0, 0])
        torch.testing.assert_close(cut.tail(passed, passed.output[rows], rows), expected[rows])
        # images change places with what the layer gave for them, and with nothing else
        torch.testing.assert_close(cut.tail(passed, passed.output[rows], rows.flip(0)), expected[rows])
    assert all(torch.equal(value, state[key]) for key, value in classifier.model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in classifier.model.modules())


@pytest.mark.parametrize(
    ("file", "function", "size", "layer_name", "layout"),
    [
        ("resnet20", "resnet20", (32, 32), "layer3", GridLayout("channels-first", 8, 8, 64)),
        ("tiny", "tiny", (16, 16), "norm", GridLayout("channels-first", 8, 8, 5)),
        # the logits of every pixel come after the head's inputs
        ("heads", "conv_before_pool", (32, 32), "0", GridLayout("channels-first", 8, 8, 12)),
        ("heads", "tokens", (32, 32), "body", GridLayout("channels-first", 8, 8, 12)),
        ("heads", "two_heads", (32, 32), "body", GridLayout("channels-first", 8, 8, 12)),
        ("heads", "cosine", (32, 32), "0", GridLayout("channels-first", 8, 8, 12)),
    ],
)
def test_models_given_by_file_have_one_too(
    file: str,
    function: str,
    size: tuple[int, int],
    layer_name: str,
    layout: GridLayout,
    file_classifier: Any,
    images: Any,
) -> None:
    classifier, prepared = file_classifier(file, function, size), images(size)
    layer = last_spatial_layer(classifier, prepared)
    assert (layer.name, layer.layout) == (layer_name, layout)
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        assert cut.verify(prepared) < 1e-5
