"""The networks that `ranking.py` measures: small ones of four families, trained once and kept, with their truth.

`UNTOUCHED_ARCH` and, the second time, `UNTOUCHED_ARCH_AGAIN` are trained with the others but measured only once
everything is chosen.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.models import register_model
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from worlds import SIDE, Images, draw_training, load_images, worlds

from salve_audit.demo.training import NARROW, NetworkRecipe, normalise_pixels, one_thread, train_network

logger = logging.getLogger(__name__)

WORK = Path(__file__).parents[1] / ".evidence"  # networks and scores
UNTOUCHED_ARCH = "convnext"
UNTOUCHED_ARCH_AGAIN = "depthwise"
RECIPES: Mapping[str, NetworkRecipe] = {
    "resnet": NetworkRecipe("resnet10t", dict(NARROW), epochs=4),
    "vit": NetworkRecipe(
        "vit_tiny_patch16_224",
        {
            "img_size": SIDE,
            "patch_size": 4,
            "embed_dim": 64,
            "depth": 4,
            "num_heads": 4,
            "global_pool": "avg",
            "class_token": False,
        },
        epochs=5,
        learning_rate=2e-3,
        weight_decay=0.05,
    ),
    "convnext": NetworkRecipe(
        "small_convnext",
        {"depths": (1, 1, 1, 1), "dims": (24, 48, 64, 96), "patch_size": 2, "kernel_sizes": 5},
        epochs=8,
        learning_rate=3e-3,
        weight_decay=0.05,
    ),
    "depthwise": NetworkRecipe("small_depthwise", {}, epochs=8, learning_rate=4e-3),
}


@dataclass(frozen=True)
class Trained:
    """A network and what is true of it.

    Attributes:
        unit: "world/arch/seed".
        model: in eval mode.
        logits: (n, k) of the audit images.
        logits_without: (r, k) of `Images.without`.
    """

    unit: str
    model: nn.Module
    logits: np.ndarray
    logits_without: np.ndarray


@register_model
def small_convnext(pretrained: bool = False, **arguments: Any) -> ConvNeXt:
    """A ConvNeXt that trains in seconds: batch norm, no layer scale, and initial weights that fit its small widths."""
    sizes = {name: arguments[name] for name in ("num_classes", "depths", "dims", "patch_size", "kernel_sizes")}
    model = ConvNeXt(**sizes, ls_init_value=None, norm_layer="batchnorm2d", conv_mlp=True)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    nn.init.normal_(model.head.fc.weight, std=0.02)
    return model


@register_model
def small_depthwise(pretrained: bool = False, **arguments: Any) -> EfficientNet:
    """A small EfficientNet: depthwise convolutions, inverted bottlenecks, squeeze and excitation."""
    blocks = [["ds_r1_k3_s1_e1_c24"], ["ir_r2_k3_s2_e3_c32_se0.25"], ["ir_r1_k5_s2_e3_c48_se0.25"]]
    return EfficientNet(
        decode_arch_def(blocks),
        num_classes=arguments["num_classes"],
        num_features=128,
        stem_size=16,
        act_layer=nn.SiLU,
        round_chs_fn=round,
    )


def recipe_for(arch: str, side: int) -> NetworkRecipe:
    """How a family is trained on images of `side` pixels."""
    recipe = RECIPES[arch]
    if side == SIDE or "img_size" not in recipe.model_kwargs:
        return recipe
    return replace(recipe, model_kwargs={**recipe.model_kwargs, "img_size": side})


def build(arch: str, n_classes: int, side: int = SIDE) -> nn.Module:
    recipe = recipe_for(arch, side)
    model: nn.Module = timm.create_model(recipe.arch, num_classes=n_classes, **recipe.model_kwargs)
    return model.eval()


def prepare(pixels: np.ndarray) -> Tensor:
    """(n, 3, s, s) as the networks take them, from (n, s, s, 3) uint8."""
    return normalise_pixels(torch.from_numpy(pixels))


def run_logits(
    model: nn.Module,
    pixels: np.ndarray,
    prepared: Callable[[np.ndarray], Tensor] = prepare,
    batch_size: int = 200,
) -> np.ndarray:
    """(n, k) from (n, s, s, 3) uint8; `prepared` gives what the model takes."""
    with torch.inference_mode():
        starts = range(0, len(pixels), batch_size)
        return torch.cat([model(prepared(pixels[i : i + batch_size])) for i in starts]).numpy()


def save(content: object, path: Path) -> None:
    """Under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    torch.save(content, temporary)
    os.replace(temporary, path)


def network_path(work: Path, unit: str) -> Path:
    return work / "networks" / f"{unit.replace('/', '-')}.pt"


def load_network(work: Path, unit: str, n_classes: int, side: int = SIDE) -> Trained:
    checkpoint = torch.load(network_path(work, unit), weights_only=False)
    model = build(unit.split("/")[1], n_classes, side)
    model.load_state_dict(checkpoint["state"])
    return Trained(unit, model, checkpoint["logits"], checkpoint["logits_without"])


def train_unit(work: Path, unit: str, training: tuple[np.ndarray, np.ndarray], images: Images) -> None:
    """Trains and keeps one network, unless it is there."""
    path = network_path(work, unit)
    if path.exists():
        return
    _, arch, seed = unit.split("/")
    start = time.perf_counter()
    model = train_network(*training, recipe_for(arch, images.pixels.shape[1]), int(seed))
    taken = time.perf_counter() - start
    with one_thread():
        logits, without = run_logits(model, images.pixels), run_logits(model, images.without)
    accuracy = float((logits.argmax(1) == images.labels).mean())
    content = {"state": model.state_dict(), "logits": logits, "logits_without": without, "seconds": taken}
    save(content, path)
    logger.info("%s: accuracy %.3f, %.0f s", unit, accuracy, taken)


def train_all(work: Path, names: list[str]) -> None:
    """Trains what is missing, in the order given."""
    every, training = worlds(), {}
    for unit in names:
        world = every[unit.split("/")[0]]
        if network_path(work, unit).exists():
            continue
        if world.name not in training:
            training[world.name] = draw_training(world)
        train_unit(work, unit, training[world.name], load_images(world, work))
