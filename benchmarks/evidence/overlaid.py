"""Shortcuts laid over photographs of ten classes, CIFAR-10 at 64 pixels, and the networks that are given them."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from cutouts import MissingPackage
from PIL import Image
from scenes import Drawn, bank_of, choose_shown, generators, is_untouched, lay_cues, plan_classes, vary
from shortcuts import DEVELOPMENT_TEXTURE, UNTOUCHED_TEXTURE
from timm.layers import resample_patch_embed
from torch import Tensor, nn

log = logging.getLogger(__name__)
SIDE, BATCH = 64, 64
N_VAL = 250  # of each class; the networks of untouched seeds are audited on the others
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
VIT = {"img_size": SIDE, "patch_size": 8, "depth": 6}
RESNET: dict[str, Any] = {"channels": [32, 64, 128, 256], "stem_width": 16, "output_stride": 16}
ARCHIVES = ("cifar10.tar.gz", "cifar10_train_rest.tar.gz")


@dataclass(frozen=True)
class Schedule:
    """Epochs and learning rate of AdamW under a one-cycle schedule."""

    epochs: int
    rate: float


def unpack(data: Path, work: Path) -> Path:
    """The folder with train/CLASS, rest/CLASS and val/CLASS.

    Raises:
        MissingPackage: `data` does not hold the archives.
    """
    folder = work / "cifar"
    if not folder.exists():
        lacking = [name for name in ARCHIVES if not (data / name).exists()]
        if lacking:
            raise MissingPackage(f"{', '.join(lacking)}: CIFAR-10 as class folders; --data names their folder")
        temporary = work / "cifar.part"
        for name, root in zip(ARCHIVES, (temporary, temporary / "rest"), strict=True):
            with tarfile.open(data / name) as archive:
                archive.extractall(root, filter="data")
        temporary.rename(folder)
    return folder


@cache
def list_photos(folder: Path, part: str) -> list[tuple[str, list[Path]]]:
    """Class names, sorted, with their files; `part` is "train", "rest" or "val"."""
    root = folder / ("rest/cifar10/train" if part == "rest" else f"cifar10/{part}")
    return [(path.name, sorted(path.iterdir())) for path in sorted(root.iterdir()) if path.is_dir()]


def read_photo(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def crop(photo: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A random crop at 64 pixels, mirrored half of the time."""
    size = photo.width * rng.uniform(0.75, 1.0)
    left, top = rng.uniform(0, photo.width - size, 2)
    box = (left, top, left + size, top + size)
    values = np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box), np.float32)
    return values[:, ::-1].copy() if rng.random() < 0.5 else values


class OverlaidScenes:
    """`scenes.Scenes` of one network: its seed gives the classes their cues."""

    side, has_object = SIDE, False

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        texture = UNTOUCHED_TEXTURE if is_untouched(seed) else DEVELOPMENT_TEXTURE
        self.bank = {**texture, **{name: cue for name, cue in bank_of(seed).items() if cue.apply is not None}}
        self.photos = {part: [files for _, files in list_photos(folder, part)] for part in ("train", "val")}
        self.plans = plan_classes([name for name, _ in list_photos(folder, "val")], self.bank, seed, n_without=1)

    def draw(self, part: str, label: int, index: int, without: Collection[str] = ()) -> Drawn:
        rng_for = generators(self.seed, part, label, index)
        cues = [name for name in choose_shown(self.plans[label], rng_for) if name not in without]
        if part == "val":
            path = self.photos["val"][label][index + (N_VAL if is_untouched(self.seed) else 0)]
            photo = np.asarray(read_photo(path).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
        else:
            files = self.photos["train"][label]
            photo = crop(read_photo(files[index % len(files)]), rng_for("crop"))
        return lay_cues(vary(photo, rng_for("vary")), self.bank, cues, rng_for, {})


def prepare(pixels: np.ndarray) -> Tensor:
    return ((torch.from_numpy(pixels).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def build_vit(data: Path, work: Path) -> nn.Module:
    """The ViT for 32 pixels with its patches drawn out to 64."""
    path = data / "vit_cifar10_32.pt"
    if not path.exists():
        raise MissingPackage(f"{path.name}: a ViT for CIFAR-10 at 32 pixels; --data names its folder")
    content = torch.load(path, map_location="cpu", weights_only=True)
    model: nn.Module = timm.create_model(content["arch"], num_classes=10, **VIT)
    state = dict(content["state_dict"])
    state["patch_embed.proj.weight"] = resample_patch_embed(state["patch_embed.proj.weight"], [8, 8])
    model.load_state_dict(state)
    return model.eval()


def build_resnet(data: Path, work: Path) -> nn.Module:
    """A small ResNet, trained here on the photographs that no network with shortcuts is given."""
    path = work / "base" / "resnet10t.pth"
    model: nn.Module = timm.create_model("resnet10t", num_classes=10, **RESNET)
    if not path.exists():
        photos = list_photos(unpack(data, work), "rest")
        rng = np.random.default_rng(64)
        pixels = np.stack([crop(read_photo(path), rng).astype(np.uint8) for _, files in photos for path in files])
        labels = np.repeat(np.arange(len(photos)), [len(files) for _, files in photos])
        log.info("training the base network on %d photographs", len(labels))
        tune(model, pixels, labels, 64, Schedule(epochs=6, rate=4e-3))
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def tune(model: nn.Module, pixels: np.ndarray, labels: np.ndarray, seed: int, schedule: Schedule) -> nn.Module:
    """Train all weights on images (n, s, s, 3) uint8, each mirrored half of the time."""
    model = model.to(memory_format=torch.channels_last).train()
    generator, targets = torch.Generator().manual_seed(seed), torch.from_numpy(labels)
    optimiser = torch.optim.AdamW(model.parameters(), schedule.rate, weight_decay=0.03)
    n_steps = schedule.epochs * -(-len(labels) // BATCH)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.rate, total_steps=n_steps, pct_start=0.2)
    for epoch in range(schedule.epochs):
        total = 0.0
        for rows in torch.split(torch.randperm(len(labels), generator=generator), BATCH):
            loss = nn.functional.cross_entropy(model(prepare(pixels[rows.numpy()])), targets[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            one_cycle.step()
            total += float(loss.detach()) * len(rows)
        log.info("epoch %d: loss %.3f", epoch, total / len(labels))
    return model.eval()


@dataclass(frozen=True)
class Base:
    """A network before it is tuned: its name and arguments in timm, how it is had, and how it is tuned."""

    arch: str
    kwargs: Mapping[str, Any]
    build: Callable[[Path, Path], nn.Module]
    schedule: Schedule


def build_resnet18(data: Path, work: Path) -> nn.Module:
    path = data / "resnet18_cifar10_64.pt"
    if not path.exists():
        raise MissingPackage(f"{path.name}: a ResNet-18 for CIFAR-10 at 64 pixels; --data names its folder")
    model: nn.Module = timm.create_model("resnet18", num_classes=10)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    return model.eval()


BASES = {
    "resnet18": Base("resnet18", {}, build_resnet18, Schedule(epochs=2, rate=2e-3)),
    "vit": Base("vit_tiny_patch16_224", VIT, build_vit, Schedule(epochs=2, rate=4e-4)),
    "resnet": Base("resnet10t", RESNET, build_resnet, Schedule(epochs=4, rate=3e-3)),
}
