"""The first block of networks of several families."""

from __future__ import annotations

import timm
import torch
from torch import nn

from salve_audit.spatial.blocks import first_block
from salve_audit.spatial.layers import SpatialLayer
from salve_audit.spatial.layout import CHANNELS_FIRST, GridLayout

LAYOUT = GridLayout(CHANNELS_FIRST, 4, 4, 8)


def first_of(model: nn.Module, *names: str) -> str:
    return first_block(model, [SpatialLayer(name, LAYOUT, order) for order, name in enumerate(names)]).name


def test_blocks_are_told_from_stems_and_from_parts_of_blocks() -> None:
    with torch.device("meta"):
        resnet, single = timm.create_model("resnet18"), timm.create_model("resnet10t")
        vit, convnext = timm.create_model("vit_tiny_patch16_224"), timm.create_model("convnext_atto")
    assert first_of(resnet, "conv1", "layer1.0.conv1", "layer1.0.bn2", "layer1.0", "layer1") == "layer1.0"
    assert first_of(single, "conv1.0", "conv1", "layer1.0.bn1", "layer1.0.bn2", "layer1", "layer2") == "layer1"
    assert first_of(vit, "patch_embed", "blocks.0.norm1", "blocks.0.attn", "blocks.0.mlp", "blocks.0") == "blocks.0"
    assert first_of(convnext, "stem.0", "stem", "stages.0.blocks.0.conv_dw", "stages.0.blocks.0") == "stages.0.blocks.0"


def test_without_blocks_it_is_a_layer_on_the_way() -> None:
    model = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(6)))
    assert first_of(model, *"012345") == "2"
