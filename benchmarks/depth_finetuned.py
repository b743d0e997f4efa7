"""A checkpoint fine-tuned on pictures with planted cues, and what is true of it: `depth_real.py --recipe resnet18`."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from depth_cases import Case, StagedNetwork, measure_truth
from depth_planted import draw_audit, draw_training
from depth_worlds import Pictures
from torch import Tensor, nn

log = logging.getLogger("depth_real")
EPOCHS, BATCH, RATE, DECAY = 2, 64, 3e-3, 0.02


@dataclass(frozen=True)
class Base:
    """The checkpoint: a network and how its pictures are prepared."""

    arch: str
    state: dict[str, Tensor]
    arguments: dict[str, Any]

    def build(self) -> nn.Module:
        model: nn.Module = timm.create_model(
            self.arch, num_classes=self.arguments["num_classes"], **self.arguments["model_kwargs"]
        )
        model.load_state_dict(self.state)
        return model.eval()

    def prepare(self, pixels: np.ndarray) -> Tensor:
        """(n, 3, s, s) from (n, s, s, 3) uint8."""
        mean, std = torch.tensor(self.arguments["mean"]), torch.tensor(self.arguments["std"])
        return ((torch.from_numpy(pixels).float() / 255 - mean) / std).permute(0, 3, 1, 2)


def load_base(checkpoint: Path) -> Base:
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return Base(kept["arch"], kept["state_dict"], kept["args"])


def network_path(work: Path, unit: str) -> Path:
    return work / "real" / f"{unit.replace('/', '-')}.pt"


def fine_tune(base: Base, train: Path, unit: str, path: Path) -> None:
    """Trains all of the checkpoint's weights on planted pictures and keeps it, unless it is there."""
    if path.exists():
        return
    seed = int(unit.split("/")[2])
    model = base.build().to(memory_format=torch.channels_last).train()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    schedule: torch.optim.lr_scheduler.OneCycleLR | None = None
    for epoch in range(EPOCHS):
        pixels, labels = draw_training(train, seed, epoch)
        if schedule is None:
            n_steps = EPOCHS * -(-len(labels) // BATCH)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=n_steps, pct_start=0.2)
        total, order = 0.0, torch.randperm(len(labels), generator=generator)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            images = base.prepare(pixels[rows.numpy()])
            loss = nn.functional.cross_entropy(model(images), torch.from_numpy(labels)[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        log.info("%s, epoch %d of %d: training loss %.3f", unit, epoch + 1, EPOCHS, total / len(order))
    temporary = path.with_suffix(".part")
    torch.save(model.state_dict(), temporary)
    os.replace(temporary, path)


def run_logits(base: Base, model: nn.Module, pixels: np.ndarray, batch_size: int = 200) -> np.ndarray:
    with torch.inference_mode():
        starts = range(0, len(pixels), batch_size)
        return torch.cat([model(base.prepare(pixels[i : i + batch_size])) for i in starts]).numpy()


@dataclass(frozen=True)
class Tuned:
    """A case, and what only pictures without any cue tell.

    Attributes:
        accuracy: (k,) over all audit pictures.
        bare: (k,) the same without any cue.
    """

    case: Case
    accuracy: np.ndarray
    bare: np.ndarray


def load_tuned(base: Base, val: Path, unit: str, path: Path, n: int) -> Tuned:
    """The case of a fine-tuned network on the first n pictures of each class; the truth is over all of them."""
    pictures, bare = draw_audit(val, int(unit.split("/")[2]))
    model = base.build()
    model.load_state_dict(torch.load(path, weights_only=True))
    logits, without = run_logits(base, model, pictures.pixels), run_logits(base, model, pictures.without)
    drop, flips = measure_truth(pictures, logits, without)
    right = logits.argmax(1) == pictures.labels
    none_right = run_logits(base, model, bare).argmax(1) == pictures.labels
    k = len(drop)
    used = _find_used(pictures, drop, without, none_right)
    keep = np.concatenate([np.flatnonzero(pictures.labels == label)[:n] for label in range(k)])
    shown = Pictures(**{**vars(pictures), "masks": pictures.masks[keep], "shown": pictures.shown[keep]})
    images = base.prepare(pictures.pixels[keep]).contiguous()
    net = StagedNetwork(model, "resnet")
    case = Case(unit, net, images, pictures.labels[keep], logits[keep], shown, drop, flips[keep], used)
    return Tuned(case, right.reshape(k, -1).mean(1), none_right.reshape(k, -1).mean(1))


def _find_used(pictures: Pictures, drop: np.ndarray, without: np.ndarray, none_right: np.ndarray) -> np.ndarray:
    """As on the drawn worlds: accuracy falls by a tenth without the cue, or the cue alone brings back half."""
    used = np.nan_to_num(drop) >= 0.1
    row, left_out = pictures.without_row, pictures.without_cue
    stays = without.argmax(1) == pictures.labels[row]
    for k, c in zip(*np.nonzero(pictures.owned), strict=True):
        # only this cue is left where the other one of two was taken out
        alone = (pictures.labels[row] == k) & (left_out != c) & pictures.shown[row, c]
        if alone.any():
            used[k, c] |= bool(stays[alone].mean() - none_right[row[alone]].mean() >= 0.5)
    return used
