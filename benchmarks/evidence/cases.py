"""One network with its images and what is true of them: what every measure is given and judged by."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from agreement import auroc, spearman
from networks import load_network, run_logits
from torch import Tensor, nn
from worlds import Images, load_images, worlds

from salve_audit.demo.images import class_keys, draw
from salve_audit.demo.training import normalise_pixels
from salve_audit.demo.world import World


@dataclass(frozen=True)
class Case:
    """What a measure sees, and, below the line, what it is judged by.

    Attributes:
        unit: "world/arch/seed".
        net: cut by stages.
        images: (n, 3, s, s) prepared.
        labels: (n,).
        logits: (n, k).
        cue_masks: masks and names of the cues.
        drop: (k, c) true drop of a class when a cue is left out; NaN where it is not planted.
        flips: (n, c) whether an image that was right is misclassified without a cue.
        used: (k, c) the network depends on that cue: alone it brings the class back, or without it accuracy falls.
    """

    unit: str
    net: StagedNetwork
    images: Tensor
    labels: np.ndarray
    logits: np.ndarray
    cue_masks: Images
    drop: np.ndarray
    flips: np.ndarray
    used: np.ndarray

    @property
    def n_classes(self) -> int:
        return len(self.drop)

    @property
    def right(self) -> np.ndarray:
        return np.asarray(self.logits.argmax(1) == self.labels)

    @property
    def planted(self) -> np.ndarray:
        """Which classes have a cue at all; the others have no truth to be ranked by."""
        return self.cue_masks.owned.any(1)

    @property
    def largest(self) -> np.ndarray:
        """Largest true drop of each planted class."""
        return np.asarray(np.nanmax(self.drop[self.planted], axis=1))


class StagedNetwork:
    """A network of one of the four families as a list of stages, so that its tail runs without what is before it."""

    def __init__(self, model: nn.Module, arch: str) -> None:
        self.model = model
        parts: dict[str, Callable[[], list[Callable[[Tensor], Tensor]]]] = {
            "resnet": lambda: [self._stem, model.layer1, model.layer2, model.layer3, model.layer4],
            "vit": lambda: [lambda x: model.norm_pre(model._pos_embed(model.patch_embed(x))), *model.blocks],
            "convnext": lambda: [model.stem, *model.stages],
            "depthwise": lambda: [lambda x: model.bn1(model.conv_stem(x)), *model.blocks],
        }
        self.stages, self.arch = parts[arch](), arch

    def _stem(self, x: Tensor) -> Tensor:
        model = self.model
        return model.maxpool(model.act1(model.bn1(model.conv1(x))))  # type: ignore[no-any-return, operator]

    def before(self, x: Tensor, stage: int) -> Tensor:
        """What `stage` is given: 0 is the image."""
        for module in self.stages[:stage]:
            x = module(x)
        return x

    def after(self, x: Tensor, stage: int) -> Tensor:
        """Logits from what `stage` is given."""
        for module in self.stages[stage:]:
            x = module(x)
        return self.head(x)

    def pooled(self, x: Tensor) -> Tensor:
        """The head's inputs from the last stage's output."""
        model = self.model
        if self.arch == "vit":
            return model.forward_head(model.norm(x), pre_logits=True)  # type: ignore[operator, no-any-return]
        if self.arch == "convnext":
            return model.forward_head(model.norm_pre(x), pre_logits=True)  # type: ignore[operator, no-any-return]
        if self.arch == "depthwise":
            x = model.bn2(model.conv_head(x))  # type: ignore[operator]
        return model.forward_head(x, pre_logits=True)  # type: ignore[operator, no-any-return]

    def head(self, x: Tensor) -> Tensor:
        return self.linear(self.pooled(x))  # type: ignore[no-any-return]

    @property
    def linear(self) -> nn.Linear:
        head = self.model.get_classifier()  # type: ignore[operator]
        assert isinstance(head, nn.Linear)
        return head


def to_maps(x: Tensor) -> Tensor:
    """(b, d, gh, gw) of maps or of tokens; a class token before them is left out."""
    if x.ndim == 4:
        return x
    side = int(x.shape[1] ** 0.5)
    return x[:, x.shape[1] - side * side :].transpose(1, 2).unflatten(2, (side, side))


def from_maps(maps: Tensor, like: Tensor) -> Tensor:
    return maps if like.ndim == 4 else maps.flatten(2).transpose(1, 2)


def load_case(work: Path, unit: str, n_per_class: int) -> Case:
    """The case of a trained network on the first images of each class; the truth is over all of them."""
    name, arch, _ = unit.split("/")
    world = worlds()[name]
    prepared = load_images(world, work)
    trained = load_network(work, unit, len(world.classes), world.size)
    drop, flips = measure_truth(prepared, trained.logits, trained.logits_without)
    used = _find_used(world, trained.model, prepared, drop, work)
    keep = np.concatenate([np.flatnonzero(prepared.labels == k)[:n_per_class] for k in range(len(drop))])
    labels = prepared.labels[keep]
    images = normalise_pixels(torch.from_numpy(prepared.pixels[keep])).contiguous()
    shown = Images(**{**vars(prepared), "masks": prepared.masks[keep], "shown": prepared.shown[keep]})
    net = StagedNetwork(trained.model, arch)
    return Case(unit, net, images, labels, trained.logits[keep], shown, drop, flips[keep], used)


def measure_truth(images: Images, logits: np.ndarray, without: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drops (k, c) and flips (n, c) from the logits of the images and of those with one cue left out."""
    right = logits.argmax(1) == images.labels
    row, cue = images.without_row, images.without_cue
    stays = without.argmax(1) == images.labels[row]
    flips = np.zeros(images.shown.shape, bool)
    flips[row, cue] = right[row] & ~stays
    drop = np.full(images.owned.shape, np.nan)
    for k, c in zip(*np.nonzero(images.owned), strict=True):
        here = (images.labels[row] == k) & (cue == c)
        drop[k, c] = (right[row[here]].sum() - stays[here].sum()) / (images.labels == k).sum()
    return drop, flips


def _find_used(world: World, model: nn.Module, images: Images, drop: np.ndarray, work: Path) -> np.ndarray:
    """Cues that the network depends on, whether or not another stands in for them."""
    path = work / f"only-{world.name}.npz"
    if not path.exists():
        _draw_only(world, images, path)
    with np.load(path) as saved:
        only, label, cue = saved["pixels"], saved["label"], saved["cue"]
    right = run_logits(model, only).argmax(1) == label
    used = np.zeros(drop.shape, bool)
    for k, c in zip(*np.nonzero(images.owned), strict=True):
        mine = right[(label == k) & (cue == c)]
        none = right[(label == k) & (cue == -1)]
        used[k, c] = drop[k, c] >= 0.1 or (len(mine) > 0 and mine.mean() - none.mean() >= 0.5)
    return used


def _draw_only(world: World, images: Images, path: Path, n: int = 40) -> None:
    """Images with one of their class's cues and with none of them."""
    places: list[tuple[np.ndarray, int, int]] = []
    for label, kind in enumerate(world.classes):
        own = [planted_cue.cue for planted_cue in kind.cues]
        for key in class_keys("val", label, n, 0):
            shown = [cue for cue in draw(world, key).masks if cue in own]
            places.append((draw(world, key, own).pixels, label, -1))
            for cue in shown:
                others = [cue_name for cue_name in own if cue_name != cue]
                places.append((draw(world, key, others).pixels, label, images.cues.index(cue)))
    pixels, labels, cues = zip(*places, strict=True)
    temporary = path.with_name(f"{os.getpid()}.part.npz")
    np.savez_compressed(temporary, pixels=np.stack(pixels), label=np.array(labels), cue=np.array(cues))
    os.replace(temporary, path)


@dataclass(frozen=True)
class Measured:
    """What a measure says.

    Attributes:
        reliance: (k,) higher: more depends on one thing.
        sample: (n,) higher: more likely that one cue less changes the prediction.
        n_passes: of one image, a backward pass counted as two.
        named: (number of used cues that one concept names, number of used cues), where there are concepts.
    """

    reliance: np.ndarray
    sample: np.ndarray
    n_passes: float
    named: tuple[int, int] | None = None


def judge(case: Case, measured: Measured) -> dict[str, float | None]:
    """The scores of one measure on one network; None: not defined there."""
    values, truth = measured.reliance[case.planted], case.largest
    judged = case.right & case.planted[case.labels]
    named = measured.named
    scores = {
        "spearman": spearman(values, truth),
        "auroc": auroc(values, truth > 0.5),
        "error": float(np.abs(values - truth).mean()),
        "sample_auroc": auroc(measured.sample[judged], case.flips.any(1)[judged]),
        "named": named[0] / named[1] if named and named[1] else None,
        "passes": measured.n_passes / len(case.labels),
    }
    return {name: None if value is None or np.isnan(value) else float(value) for name, value in scores.items()}
