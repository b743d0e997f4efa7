"""Make networks with shortcuts whose truth is known, one folder each, as `split.toml` lists them.

    python benchmarks/evidence/make_worlds.py WORLD/NETWORK/SEED [...] [--work DIR]
    python benchmarks/evidence/make_worlds.py development | untouched

Draws the images, fine-tunes or trains the network, draws every audit image again without each of its cues and without
its object, and keeps what the network then says in truth.json. What is there already is kept, so that an interrupted
run goes on. Says what to install where something is missing.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lite
import numpy as np
import overlaid
import timm
import torch
from cutouts import CutoutScenes, MissingPackage
from garments import GarmentScenes
from generated import GeneratedScenes
from networks import prepare, recipe_for
from scenes import Scenes, is_untouched
from split import list_names
from torch import Tensor, nn
from world_folder import measure_truth, save_network, write_images, write_json

from salve_audit.demo.training import MEAN, STD, train_network

log = logging.getLogger("make_worlds")
WORK = Path.home() / ".cache" / "salve-worlds"
# networks that only these benchmarks know, by names that a checkpoint can be read with
TIMM_NAMES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "small_convnext": ("convnext_atto", {"ls_init_value": 1.0, "norm_layer": "batchnorm2d", "conv_mlp": True})
}


@dataclass(frozen=True)
class Family:
    """How one network is made.

    Attributes:
        scenes: its images.
        n_fit, n_audit: images of a class.
        arch, arguments: of its checkpoint, as timm names them.
        build: the network before it is trained.
        train: trains it on the images.
        prepare: (n, s, s, 3) uint8 -> (n, 3, s, s).
    """

    scenes: Scenes
    n_fit: int
    n_audit: int
    arch: str
    arguments: Mapping[str, Any]
    build: Callable[[], nn.Module]
    train: Callable[[nn.Module], nn.Module]
    prepare: Callable[[np.ndarray], Tensor]


def draw_batches(scenes: Scenes, n_train: int, size: int = 64) -> Iterator[np.ndarray]:
    """The training images class by class, in batches."""
    for label in range(len(scenes.plans)):
        for start in range(0, n_train, size):
            rows = range(start, min(start + size, n_train))
            yield np.stack([scenes.draw("train", label, row).pixels for row in rows])


def cutouts_family(network: str, seed: int, work: Path, data: Path) -> Family:
    scenes, n_train = CutoutScenes(lite.SIDES[network], seed), 110
    labels = np.repeat(np.arange(len(scenes.plans)), n_train)
    settings = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "model_kwargs": {}}

    def train(model: nn.Module) -> nn.Module:
        cache = work / "cache" / f"{network}-{seed}.pt"
        model = lite.tune(model, lite.run_frozen(model, draw_batches(scenes, n_train), cache), labels, seed)
        cache.unlink()
        return model

    def build() -> nn.Module:
        return lite.load_pretrained(network, len(scenes.plans), work / "wheels", seed)

    return Family(scenes, 50, 50, network, settings, build, train, lite.prepare)


def overlaid_family(network: str, seed: int, work: Path, data: Path) -> Family:
    scenes, n_train = overlaid.OverlaidScenes(overlaid.unpack(data, work), seed), 300
    labels = np.repeat(np.arange(len(scenes.plans)), n_train)
    base = overlaid.BASES[network]
    settings = {"mean": overlaid.MEAN, "std": overlaid.STD, "interpolation": "bicubic", "model_kwargs": base.kwargs}

    def train(model: nn.Module) -> nn.Module:
        pixels = np.concatenate(list(draw_batches(scenes, n_train)))
        return overlaid.tune(model, pixels, labels, seed, base.schedule)

    return Family(scenes, 100, 100, base.arch, settings, lambda: base.build(data, work), train, overlaid.prepare)


def _small_family(scenes: Scenes, n_train: int, network: str, seed: int) -> Family:
    """Small networks of `networks.py`, trained on these images alone."""
    recipe = recipe_for(network, scenes.side)
    arch, kwargs = TIMM_NAMES.get(recipe.arch, (recipe.arch, {}))
    labels = np.repeat(np.arange(len(scenes.plans)), n_train)
    kwargs = {**recipe.model_kwargs, **kwargs}
    settings = {"mean": MEAN, "std": STD, "interpolation": "bilinear", "model_kwargs": kwargs}

    def build() -> nn.Module:
        model: nn.Module = timm.create_model(arch, num_classes=len(scenes.plans), **kwargs)
        return model.eval()

    def train(model: nn.Module) -> nn.Module:
        pixels = np.concatenate(list(draw_batches(scenes, n_train)))
        trained = train_network(pixels, labels, recipe, seed).state_dict()
        lacking = model.load_state_dict(trained, strict=False)  # a ConvNeXt here has layer scales: ones
        assert not lacking.unexpected_keys, lacking
        assert all(name.endswith("gamma") for name in lacking.missing_keys), lacking
        return model

    return Family(scenes, 100, 100, arch, settings, build, train, prepare)


def garments_family(network: str, seed: int, work: Path, data: Path) -> Family:
    return _small_family(GarmentScenes(seed), 800, network, seed)


def generated_family(network: str, seed: int, work: Path, data: Path) -> Family:
    """`network` names the world and the network: market-resnet."""
    world, recipe = network.split("-")
    return _small_family(GeneratedScenes(world, seed), 700, recipe, seed)


FAMILIES: Mapping[str, Callable[[str, int, Path, Path], Family]] = {
    "cutouts": cutouts_family,
    "overlaid": overlaid_family,
    "garments": garments_family,
    "generated": generated_family,
}


def make(name: str, work: Path, data: Path) -> Path:
    """One network's folder, finished unless it is there."""
    world, network, seed = name.split("/")
    folder = work / name.replace("/", "-")
    if (folder / "truth.json").exists():
        return folder
    start = time.perf_counter()
    family = FAMILIES[world](network, int(seed), work, data)
    names = [plan.name for plan in family.scenes.plans]
    model = family.build()
    path = folder / "network.pth"
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    else:
        model = family.train(model)
        side, size = family.scenes.side, {"num_classes": len(names), "crop_pct": 1.0, "class_names": names}
        arguments = {**family.arguments, **size, "img_size": side, "input_size": (3, side, side)}
        save_network(model, family.arch, arguments, path)
        log.info("%s: trained after %.0f s", name, time.perf_counter() - start)

    def predict(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(family.prepare(pixels)).argmax(1).numpy()

    if not (folder / "parts").exists():
        write_images(family.scenes, folder, family.n_fit, family.n_audit)
    log.info("%s: images after %.0f s", name, time.perf_counter() - start)
    classes, records = measure_truth(family.scenes, predict, family.n_audit, folder / "parts")
    write_json(records, folder / "images.json")
    role = "untouched" if is_untouched(int(seed)) else "development"
    n, n_correct = (sum(truth[key] for truth in classes.values()) for key in ("n", "n_correct"))
    write_json({"name": name, "role": role, "accuracy": n_correct / n, "classes": classes}, folder / "truth.json")
    shutil.rmtree(folder / "parts")
    log.info("%s: accuracy %.2f, %.0f s", name, n_correct / n, time.perf_counter() - start)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="WORLD/NETWORK/SEED, development or untouched")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of all networks")
    parser.add_argument("--data", type=Path, default=WORK / "data", help="folder of CIFAR-10 and its networks")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    try:
        for name in list_names(arguments.networks):
            print(make(name, arguments.work, arguments.data), flush=True)
    except MissingPackage as missing:
        raise SystemExit(str(missing)) from None


if __name__ == "__main__":
    main()
