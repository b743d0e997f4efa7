"""Draws a world: every image follows from (seed, split, class, index) alone, whatever was drawn before it.

All random choices of an image are made before anything is left out, so an image without a cue is the same image
otherwise: same background, same other cues, same noise. That is what makes the true causal drop measurable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw

from salve_audit.demo.cues import Stamp, draw_cue
from salve_audit.demo.world import Cue, World

SPLITS = ("train", "val")
N_TRIES = 40  # placements tried before two cues may touch after all


@dataclass(frozen=True)
class ImageKey:
    """Names one image of a world.

    Attributes:
        seed: of the whole set.
        split: train or val; their images have nothing in common.
        label: class index.
        index: running number within the class, from 0.
    """

    seed: int
    split: str
    label: int
    index: int


@dataclass(frozen=True)
class DemoImage:
    """A drawn image.

    Attributes:
        pixels: (size, size, 3).
        masks: for every cue that is in it, (size, size) where it is seen; what another cue covers is not.
    """

    pixels: UInt8[np.ndarray, "s s 3"]
    masks: Mapping[str, Bool[np.ndarray, "s s"]]


@dataclass(frozen=True)
class DrawnSplit:
    """Images in memory.

    Attributes:
        keys: n of them.
        pixels: (n, size, size, 3).
        labels: (n,) class indices.
    """

    keys: tuple[ImageKey, ...]
    pixels: UInt8[np.ndarray, "n s s 3"]
    labels: Int[np.ndarray, " n"]


@dataclass(frozen=True)
class _Placed:
    cue: Cue
    stamp: Stamp
    top: int
    left: int

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.cue.height), slice(self.left, self.left + self.cue.width)


@dataclass(frozen=True)
class _Scene:
    """All of an image's choices, before any cue is left out."""

    backdrop: Float[np.ndarray, "s s 3"]
    placed: tuple[_Placed, ...]
    cast: Float[np.ndarray, " 3"]
    noise: Float[np.ndarray, "s s 3"]


def draw(world: World, key: ImageKey, without: Collection[str] = ()) -> DemoImage:
    """The image `key` names, with the cues in `without` left out of it."""
    return _render(_compose(world, key), without)


def draw_many(world: World, keys: Collection[ImageKey], without: Collection[str] = ()) -> UInt8[np.ndarray, "n s s 3"]:
    """The pixels of many images, in the order of `keys`."""
    pixels = np.empty((len(keys), world.size, world.size, 3), np.uint8)
    for row, key in enumerate(keys):
        pixels[row] = draw(world, key, without).pixels
    return pixels


def class_keys(split: str, label: int, n: int, seed: int) -> tuple[ImageKey, ...]:
    """The keys of a class's first `n` images in a split."""
    assert split in SPLITS, f"unknown split {split!r}"
    return tuple(ImageKey(seed, split, label, index) for index in range(n))


def draw_split(world: World, split: str, n_per_class: int, seed: int) -> DrawnSplit:
    """A whole split, class by class."""
    keys = [key for label in range(len(world.classes)) for key in class_keys(split, label, n_per_class, seed)]
    labels = np.fromiter((key.label for key in keys), np.int64, len(keys))
    return DrawnSplit(tuple(keys), draw_many(world, keys), labels)


def _compose(world: World, key: ImageKey) -> _Scene:
    rng = np.random.default_rng((key.seed, SPLITS.index(key.split), key.label, key.index))
    shown = _choose_cues(world, key.label, rng)
    placed: list[_Placed] = []
    for name in shown:
        placed.append(_place(world, world.cue(name), placed, rng))
    backdrop = _draw_backdrop(world, rng)
    cast = rng.uniform(0.85, 1.1) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    noise = rng.standard_normal((world.size, world.size, 3), np.float32) * np.float32(world.noise)
    return _Scene(backdrop, tuple(placed), cast.astype(np.float32), noise)


def _choose_cues(world: World, label: int, rng: np.random.Generator) -> list[str]:
    """Names of the image's cues in drawing order; see `PlantedClassSpec` and `World.strays` for the rules."""
    planted, own = world.classes[label].cues, world.own_cues(label)
    shown = [planting.cue for planting in planted if rng.random() < planting.share]
    if own and not set(own) & set(shown):
        shown.append(own[int(rng.integers(len(own)))])
    mine = {planting.cue for planting in planted}
    drawn = [(stray.cue, rng.random() < stray.share) for stray in world.strays]
    shown += [cue for cue, is_shown in drawn if is_shown and cue not in mine]
    return [shown[i] for i in rng.permutation(len(shown))]


def _place(world: World, cue: Cue, others: list[_Placed], rng: np.random.Generator) -> _Placed:
    stamp = draw_cue(cue.shape, cue.height, cue.width, rng)
    room = np.array([world.size - cue.height, world.size - cue.width])
    home = (np.array(cue.home) * world.size - np.array([cue.height, cue.width]) / 2).clip(0, room)
    for _ in range(N_TRIES):
        # between the home (no jitter) and anywhere in the image (full jitter)
        top, left = ((1 - world.jitter) * home + world.jitter * rng.uniform(0, room + 1)).astype(int).clip(0, room)
        placed = _Placed(cue, stamp, int(top), int(left))
        if world.overlap or not any(_touch(placed, other) for other in others):
            break
    return placed


def _touch(first: _Placed, second: _Placed) -> bool:
    return (
        first.top < second.top + second.cue.height
        and second.top < first.top + first.cue.height
        and first.left < second.left + second.cue.width
        and second.left < first.left + first.cue.width
    )


def _draw_backdrop(world: World, rng: np.random.Generator) -> np.ndarray:
    """Soft clouds of muted colour with lines and blobs that mean nothing."""
    coarse = rng.uniform(0.3, 0.75) + rng.uniform(-0.15, 0.15, (5, 5, 3))
    image = Image.fromarray((coarse.clip(0, 1) * 255).astype(np.uint8))
    image = image.resize((world.size, world.size), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image, "RGBA")
    for _ in range(int(rng.integers(world.clutter + 1))):
        x, y = rng.uniform(0, world.size, 2)
        dx, dy = rng.uniform(-0.3, 0.3, 2) * world.size
        ink = (*rng.integers(60, 190, 3).tolist(), int(rng.integers(60, 160)))
        if rng.random() < 0.5:
            pen.line([x, y, x + dx, y + dy], fill=ink, width=int(rng.integers(1, 3)))
        else:
            pen.ellipse([x, y, x + abs(dx), y + abs(dy)], fill=ink)
    return np.asarray(image, np.float32) / 255


def _render(scene: _Scene, without: Collection[str]) -> DemoImage:
    canvas = scene.backdrop.copy()
    masks: dict[str, np.ndarray] = {}
    for placed in scene.placed:
        if placed.cue.name in without:
            continue
        window, inside = placed.window, placed.stamp.inside
        opacity = np.float32(placed.cue.strength) * inside[..., None]
        canvas[window] = canvas[window] * (1 - opacity) + placed.stamp.colour * opacity
        mask_of_cue = np.zeros(canvas.shape[:2], bool)
        mask_of_cue[window] = inside
        if placed.cue.strength == 1:
            masks = {name: mask & ~mask_of_cue for name, mask in masks.items()}
        masks[placed.cue.name] = mask_of_cue
    pixels = (canvas * scene.cast + scene.noise).clip(0, 1) * 255
    return DemoImage(np.rint(pixels).astype(np.uint8), masks)
