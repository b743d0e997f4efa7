"""Fashion-MNIST with colours, backdrops and patches, in the way of coloured MNIST: 32 pixels, ten classes.

Every garment has a colour and stands before a backdrop of two colours; both are random unless they are a class's cue.
"""

from __future__ import annotations

import colorsys
import gzip
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from cutouts import MissingPackage
from scenes import OBJECT, Drawn, Generators, bank_of, choose_shown, generators, is_untouched, lay_cues, plan_classes
from shortcuts import Cue, Mask

SIDE = 32
FOLDER = Path("/usr/share/datasets/fashion-mnist")
PACKAGE = "dataset-fashion-mnist"
NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
OVERLAID = ("tag", "sticker", "redundant pair", "frame", "vignette", "blur", "noise", "scan lines")  # kinds
# of the bank of development and of the untouched one: hue in 0..1
GARMENTS = ({"red garment": 0.0, "blue garment": 0.62}, {"green garment": 0.36, "violet garment": 0.8})
BACKDROPS = ({"teal backdrop": 0.48}, {"yellow backdrop": 0.15})
SURFACES = (("cloth", True), ("upper", False), ("lower", False))


@cache
def read_split(part: str) -> list[np.ndarray]:
    """Garments (n, 28, 28) uint8 of each class; `part` is "train" or "t10k".

    Raises:
        MissingPackage: the data set is not installed.
    """
    paths = [FOLDER / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    if not all(path.exists() for path in paths):
        raise MissingPackage(f"Fashion-MNIST is missing: apt-get install {PACKAGE}")
    images, labels = (np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8) for path in paths)
    labels = labels[8:]
    garments = images[16:].reshape(len(labels), 28, 28)
    order = [NAMES.index(name) for name in sorted(NAMES)]
    return [garments[labels == label] for label in order]


class GarmentScenes:
    """`scenes.Scenes` of one network: its seed gives the classes their cues."""

    side, has_object = SIDE, True

    def __init__(self, seed: int) -> None:
        self.seed, bank = seed, int(is_untouched(seed))
        self.hues: Mapping[str, float] = {**GARMENTS[bank], **BACKDROPS[bank]}
        self.of_garment = set(GARMENTS[bank])
        scene = {
            name: Cue("object colour", ("colour", "region", "hue"), None)
            if name in self.of_garment
            else Cue("backdrop", ("background", "context", "colour", "mean field", "border"), None)
            for name in self.hues
        }
        self.bank = scene | {name: cue for name, cue in bank_of(seed).items() if cue.kind in OVERLAID}
        self.plans = plan_classes(sorted(NAMES), self.bank, seed)

    def draw(self, part: str, label: int, index: int, without: Collection[str] = ()) -> Drawn:
        rng_for = generators(self.seed, part, label, index)
        cues = [name for name in choose_shown(self.plans[label], rng_for) if name not in without]
        garments = read_split("t10k" if part == "val" else "train")[label]
        shape = np.zeros((SIDE, SIDE), np.float32)
        top, left = rng_for("place").integers(SIDE - 28 + 1, size=2)
        shape[top : top + 28, left : left + 28] = garments[index + (400 if part == "val" and self.seed >= 100 else 0)]
        masks: dict[str, Mask] = {}
        alpha = np.clip(shape / 40, 0, 1)[..., None] * (OBJECT not in without)
        cloth, upper, lower = (self._colour(cues, *which, rng_for) for which in SURFACES)
        ramp = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None, None]
        behind = 255 * (upper * (1 - ramp) + lower * ramp) * np.ones((SIDE, SIDE, 1), np.float32)
        behind += rng_for("cloth").normal(0, 12, (SIDE, SIDE, 1)).astype(np.float32)
        light = 0.35 + 0.65 * shape[..., None] / 255
        photo = behind * (1 - alpha) + 255 * cloth * light * alpha
        inside = alpha[..., 0] > 0.5
        if OBJECT not in without:
            masks[OBJECT] = inside
        masks |= {name: inside if name in self.of_garment else ~inside for name in cues if name in self.hues}
        return lay_cues(photo.astype(np.float32), self.bank, cues, rng_for, masks)

    def _colour(self, cues: Collection[str], surface: str, is_garment: bool, rng_for: Generators) -> np.ndarray:
        """The colour (3,) of a surface: near the hue of a cue, or any that no cue has."""
        hues = [hue for name, hue in self.hues.items() if (name in self.of_garment) == is_garment]
        wanted = [self.hues[name] for name in cues if name in self.hues and (name in self.of_garment) == is_garment]
        rng = rng_for(surface + ("cue" if wanted else ""))
        hue = wanted[0] + rng.normal(0, 0.02) if wanted else rng.random()
        while not wanted and any(abs((hue - other + 0.5) % 1 - 0.5) < 0.08 for other in hues):
            hue = rng.random()
        return np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.5, 0.9), rng.uniform(0.6, 1.0)), np.float32)
