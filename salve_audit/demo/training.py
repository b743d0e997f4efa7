"""Trains a small timm network on images in memory and saves it as any user's timm-style checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from salve_audit.errors import OutputError

logger = logging.getLogger(__name__)

MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
# a quarter of the usual width, and a last feature map of 6 x 6 at 48 px: fine enough to point at a cue
NARROW: Mapping[str, Any] = {"channels": [16, 32, 64, 128], "stem_width": 8, "output_stride": 8}


@dataclass(frozen=True)
class NetworkRecipe:
    """Architecture and schedule of the training.

    Attributes:
        arch: timm name; `model_kwargs` goes to `timm.create_model` and into the checkpoint.
        epochs, batch_size, learning_rate, weight_decay: of AdamW under a one-cycle schedule.
    """

    arch: str = "resnet10t"
    model_kwargs: Mapping[str, Any] = field(default_factory=lambda: dict(NARROW))
    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 6e-3
    weight_decay: float = 0.02


def train_network(
    pixels: UInt8[np.ndarray, "n s s 3"], labels: Int[np.ndarray, " n"], recipe: NetworkRecipe, seed: int
) -> nn.Module:
    """A network trained on the images, in eval mode on the CPU.

    On one thread, so that the same seed gives the same weights whatever the number of cores. The caller's random
    state is left as it was: timm draws initial weights from torch's global generator, so it is forked around the
    construction.
    """
    n_classes = int(labels.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = timm.create_model(recipe.arch, num_classes=n_classes, **recipe.model_kwargs)
    model = model.to(memory_format=torch.channels_last).train()
    with one_thread():
        _fit(model, torch.from_numpy(pixels), torch.from_numpy(labels), recipe, torch.Generator().manual_seed(seed))
    return model.eval()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on a single thread inside the block; a network this small gains little from more, and waits for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit(model: nn.Module, pixels: Tensor, labels: Tensor, recipe: NetworkRecipe, generator: torch.Generator) -> None:
    n_steps = recipe.epochs * -(-len(labels) // recipe.batch_size)
    optimiser = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=n_steps, pct_start=0.2)
    for epoch in range(recipe.epochs):
        total = torch.zeros(())
        order = torch.randperm(len(labels), generator=generator)
        for start in range(0, len(labels), recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            loss = nn.functional.cross_entropy(model(normalise_pixels(pixels[rows])), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.detach() * len(rows)
        logger.info("epoch %d of %d: training loss %.4f", epoch + 1, recipe.epochs, total / len(labels))


def normalise_pixels(pixels: UInt8[Tensor, "n s s 3"]) -> Float[Tensor, "n 3 s s"]:
    """The pixels as timm's evaluation transform gives them for an image that already has the network's size."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)  # channels last in memory already


def predictor(model: nn.Module, batch_size: int = 256) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images, (n, s, s, 3) uint8, to predicted classes, (n,) int64."""

    def predict(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), one_thread():
            batches = [torch.from_numpy(pixels[i : i + batch_size]) for i in range(0, len(pixels), batch_size)]
            return torch.cat([model(normalise_pixels(batch)).argmax(1) for batch in batches]).numpy()

    return predict


def save_checkpoint(
    model: nn.Module, recipe: NetworkRecipe, path: Path, size: int, class_names: tuple[str, ...]
) -> None:
    """Writes ``{"arch", "state_dict", "args"}``, all that timm needs to build and feed the network again.

    Raises:
        OutputError: the file cannot be written.
    """
    arguments = {
        "model": recipe.arch,
        "num_classes": len(class_names),
        "img_size": size,
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "model_kwargs": dict(recipe.model_kwargs),
        "class_names": list(class_names),
    }
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    temporary = path.with_name(path.name + ".part")
    try:
        torch.save({"arch": recipe.arch, "state_dict": state, "args": arguments}, temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a failing disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise OutputError(str(path), str(error)) from error
