"""The worlds that `ranking.py` compares measures on, and each world's images with the truth they allow.

Four worlds for development and two that are only measured once everything is chosen: `UNTOUCHED_WORLD` the first
time, `UNTOUCHED_AGAIN` the second.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from salve_audit.demo.images import class_keys, draw, draw_split
from salve_audit.demo.world import Cue, Planted, PlantedClassSpec, World

SIDE = 32
N_TRAIN, N_FIT, N_AUDIT = 700, 100, 100  # per class; the fit images are the first of the training ones
UNTOUCHED_WORLD = "attic"
UNTOUCHED_AGAIN = "quay"


@dataclass(frozen=True)
class Images:
    """What is measured on.

    Attributes:
        pixels: (n, s, s, 3) uint8, the audit split class by class.
        labels: (n,).
        cues: names of all cues of the world, c of them.
        owned: (k, c) whether a class is planted with a cue.
        shown: (n, c) whether an image shows a cue of its class.
        masks: (n, c, s, s) where.
        without: (r, s, s, 3) uint8, the images with one cue left out.
        without_row, without_cue: (r,) which image and which cue.
    """

    pixels: np.ndarray
    labels: np.ndarray
    cues: tuple[str, ...]
    owned: np.ndarray
    shown: np.ndarray
    masks: np.ndarray
    without: np.ndarray
    without_row: np.ndarray
    without_cue: np.ndarray


def worlds() -> Mapping[str, World]:
    """All worlds by name."""
    return {world.name: world for world in (_market(), _alley(), _shelf(), _court(), _attic(), _quay())}


def _kind(name: str, **cues: float) -> PlantedClassSpec:
    return PlantedClassSpec(name, tuple(Planted(cue.replace("_", " "), share) for cue, share in cues.items()))


def _market() -> World:
    """Cues anywhere, apart from one another: single, two, three, half and half, a faint one with a shortcut."""
    cues = (
        Cue("bar", "bar", 10, 8),
        Cue("checkerboard", "checkerboard", 9, 9),
        Cue("chevron", "chevron", 8, 10),
        Cue("cross", "cross", 9, 9, strength=0.35),
        Cue("disk", "disk", 8, 8),
        Cue("flag", "flag", 10, 8),
        Cue("gate", "gate", 9, 8),
        Cue("red patch", "red patch", 6, 6),
        Cue("ring", "ring", 9, 9),
        Cue("stripes", "stripes", 8, 13),
        Cue("tag", "tag", 6, 6),
        Cue("tower", "tower", 13, 7),
    )
    classes = (
        _kind("a one", red_patch=1.0),
        _kind("b one", stripes=1.0),
        _kind("c one", tower=1.0),
        _kind("d three", bar=0.85, checkerboard=0.85, disk=0.85),
        _kind("e two", ring=0.8, chevron=0.8),
        _kind("f half", flag=0.5, gate=0.5),
        _kind("g shortcut", cross=1.0, tag=0.9),
        _kind("h nothing"),
    )
    return World("market", SIDE, cues, classes, strays=(Planted("tag", 0.01),))


def _alley() -> World:
    """Large cues around their homes, free to cover one another."""
    cues = (
        Cue("bar", "bar", 12, 10, home=(0.3, 0.3)),
        Cue("checkerboard", "checkerboard", 12, 12),
        Cue("chevron", "chevron", 10, 14, home=(0.7, 0.6)),
        Cue("cross", "cross", 12, 12, strength=0.45),
        Cue("disk", "disk", 11, 11, home=(0.4, 0.7)),
        Cue("flag", "flag", 13, 10, home=(0.3, 0.6)),
        Cue("gate", "gate", 11, 10, strength=0.6),
        Cue("red patch", "red patch", 9, 9, home=(0.6, 0.3)),
        Cue("ring", "ring", 12, 12, home=(0.6, 0.7)),
        Cue("stripes", "stripes", 10, 16, home=(0.7, 0.4)),
        Cue("tag", "tag", 8, 8, home=(0.8, 0.8)),
        Cue("tower", "tower", 16, 8, home=(0.4, 0.3)),
    )
    classes = (
        _kind("a one", disk=1.0),
        _kind("b one", checkerboard=1.0),
        _kind("c faint", gate=1.0),
        _kind("d two", tower=1.0, stripes=1.0),
        _kind("e three", red_patch=0.7, ring=0.7, flag=0.7),
        _kind("f uneven", bar=0.75, chevron=0.35),
        _kind("g shortcut", cross=1.0, tag=0.7),
        _kind("h nothing"),
    )
    return World("alley", SIDE, cues, classes, jitter=0.6, overlap=True, strays=(Planted("tag", 0.02),))


def _shelf() -> World:
    """Small cues, always in the same place; every class has one."""
    cues = (
        Cue("bar", "bar", 8, 7, home=(0.25, 0.25)),
        Cue("checkerboard", "checkerboard", 8, 8, home=(0.75, 0.75)),
        Cue("chevron", "chevron", 7, 8, home=(0.25, 0.75)),
        Cue("cross", "cross", 8, 8, strength=0.3, home=(0.5, 0.5)),
        Cue("disk", "disk", 7, 7, home=(0.5, 0.5)),
        Cue("flag", "flag", 8, 7, home=(0.75, 0.25)),
        Cue("gate", "gate", 7, 7, home=(0.5, 0.8)),
        Cue("red patch", "red patch", 5, 5, home=(0.3, 0.7)),
        Cue("ring", "ring", 7, 7, home=(0.2, 0.5)),
        Cue("stripes", "stripes", 6, 12, home=(0.8, 0.5)),
        Cue("tag", "tag", 5, 5, home=(0.12, 0.12)),
        Cue("tower", "tower", 12, 6, home=(0.5, 0.2)),
    )
    classes = (
        _kind("a one", disk=1.0),
        _kind("b one", tower=1.0),
        _kind("c two", bar=1.0, checkerboard=1.0),
        _kind("d two", chevron=0.6, flag=0.6),
        _kind("e three", ring=0.9, gate=0.9, red_patch=0.9),
        _kind("f shortcut", cross=1.0, tag=0.95),
        _kind("g one", stripes=1.0),
    )
    return World("shelf", SIDE, cues, classes, jitter=0.0, strays=(Planted("tag", 0.01),))


def _court() -> World:
    """Shortcuts of three strengths, two classes that share a cue, two cues that are always there."""
    cues = (
        Cue("bar", "bar", 9, 8),
        Cue("checkerboard", "checkerboard", 9, 9),
        Cue("chevron", "chevron", 9, 11, strength=0.4),
        Cue("cross", "cross", 9, 9, strength=0.4),
        Cue("disk", "disk", 9, 9, strength=0.4),
        Cue("flag", "flag", 10, 8),
        Cue("gate", "gate", 9, 8),
        Cue("red patch", "red patch", 6, 6),
        Cue("ring", "ring", 9, 9),
        Cue("stripes", "stripes", 8, 12),
        Cue("tag", "tag", 6, 6),
        Cue("tower", "tower", 13, 7),
    )
    classes = (
        _kind("a castle", tower=1.0, flag=0.8, gate=0.6),
        _kind("b chapel", tower=1.0),
        _kind("c weak", cross=1.0, tag=0.5),
        _kind("d middle", chevron=1.0, red_patch=0.75),
        _kind("e always", disk=1.0, ring=1.0),
        _kind("f two", bar=1.0, checkerboard=1.0),
        _kind("g one", stripes=1.0),
        _kind("h nothing"),
    )
    strays = (Planted("tag", 0.02), Planted("red patch", 0.02))
    return World("court", SIDE, cues, classes, strays=strays)


def _attic() -> World:
    """The untouched one: mixed sizes and strengths, half jitter, cues may cover one another."""
    cues = (
        Cue("bar", "bar", 12, 8, strength=0.7, home=(0.4, 0.4)),
        Cue("checkerboard", "checkerboard", 8, 8, home=(0.3, 0.7)),
        Cue("chevron", "chevron", 7, 9, home=(0.6, 0.6)),
        Cue("cross", "cross", 10, 10, strength=0.35),
        Cue("disk", "disk", 10, 10, home=(0.7, 0.3)),
        Cue("flag", "flag", 12, 9, home=(0.3, 0.3)),
        Cue("gate", "gate", 8, 7, home=(0.7, 0.7)),
        Cue("red patch", "red patch", 7, 7, home=(0.2, 0.8)),
        Cue("ring", "ring", 11, 11),
        Cue("stripes", "stripes", 7, 14, home=(0.8, 0.5)),
        Cue("tag", "tag", 7, 7, home=(0.5, 0.8)),
        Cue("tower", "tower", 14, 8, home=(0.5, 0.3)),
    )
    classes = (
        _kind("a one", ring=1.0),
        _kind("b one", chevron=1.0),
        _kind("c faint", bar=1.0),
        _kind("d three", stripes=0.9, gate=0.9, flag=0.9),
        _kind("e two", checkerboard=0.65, disk=0.65),
        _kind("f shortcut", cross=1.0, red_patch=0.8),
        _kind("g uneven", tower=0.5, tag=0.9),
        _kind("h nothing"),
    )
    return World("attic", SIDE, cues, classes, jitter=0.8, overlap=True, strays=(Planted("red patch", 0.01),))


def _quay() -> World:
    """The second untouched one: larger and busier images, cues from 6 to 22 pixels anywhere, free to cover others."""
    cues = (
        Cue("bar", "bar", 8, 7),
        Cue("checkerboard", "checkerboard", 18, 18),
        Cue("chevron", "chevron", 9, 16),
        Cue("cross", "cross", 13, 13, strength=0.4),
        Cue("disk", "disk", 10, 10),
        Cue("flag", "flag", 13, 11),
        Cue("gate", "gate", 16, 12),
        Cue("red patch", "red patch", 8, 8),
        Cue("ring", "ring", 16, 16, strength=0.6),
        Cue("stripes", "stripes", 12, 22),
        Cue("tag", "tag", 6, 6),
        Cue("tower", "tower", 20, 8),
    )
    classes = (
        _kind("a four", bar=0.7, disk=0.7, flag=0.7, gate=0.7),
        _kind("b small", tag=1.0),
        _kind("c wide", stripes=1.0),
        _kind("d faint", ring=1.0),
        _kind("e two", tower=0.9, chevron=0.6),
        _kind("f shortcut", cross=1.0, red_patch=0.85),
        _kind("g large", checkerboard=1.0),
        _kind("h nothing"),
    )
    strays = (Planted("red patch", 0.02), Planted("bar", 0.02))
    return World("quay", 40, cues, classes, overlap=True, strays=strays, noise=0.05, clutter=14)


def draw_training(world: World, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels that the networks of a world are trained on."""
    split = draw_split(world, "train", N_TRAIN, seed)
    return split.pixels, split.labels


def load_images(world: World, work: Path, seed: int = 0) -> Images:
    """The audit images of a world, drawn once."""
    path = work / f"images-{world.name}.npz"
    if not path.exists():
        drawn = _draw_images(world, seed)
        temporary = path.with_name(f"{os.getpid()}.part.npz")
        np.savez_compressed(temporary, **{name: np.asarray(value) for name, value in vars(drawn).items()})
        os.replace(temporary, path)
    with np.load(path) as arrays:
        fields = {name: arrays[name] for name in arrays.files}
    return Images(**{**fields, "cues": tuple(fields["cues"].tolist())})


def _draw_images(world: World, seed: int) -> Images:
    names = tuple(cue.name for cue in world.cues)
    keys = [key for label in range(len(world.classes)) for key in class_keys("val", label, N_AUDIT, seed)]
    owned = np.array(
        [[cue in {planted_cue.cue for planted_cue in kind.cues} for cue in names] for kind in world.classes]
    )
    shape = (len(keys), world.size, world.size)
    pixels = np.empty((*shape, 3), np.uint8)
    masks = np.zeros((len(keys), len(names), world.size, world.size), bool)
    without: list[tuple[np.ndarray, int, int]] = []
    for row, key in enumerate(keys):
        image = draw(world, key)
        pixels[row] = image.pixels
        for cue in image.masks:
            column = names.index(cue)
            if owned[key.label, column]:
                masks[row, column] = image.masks[cue]
                without.append((draw(world, key, (cue,)).pixels, row, column))
    taken, rows, columns = zip(*without, strict=True)
    labels = np.array([key.label for key in keys])
    shown = masks.any((2, 3))
    return Images(pixels, labels, names, owned, shown, masks, np.stack(taken), np.array(rows), np.array(columns))
