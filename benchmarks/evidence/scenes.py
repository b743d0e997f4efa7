"""What all worlds with shortcuts share: classes that were given cues, and images that can be drawn without them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from shortcuts import DEVELOPMENT, UNTOUCHED, Cue, Mask, Photo

OBJECT = "object"  # what the class is named after, to be left out like a cue
PARTS = {
    "train": 0,
    "fit": 0,
    "val": 1,
}  # the images that the autoencoder is fitted on are the first of the training ones
SHARES = (0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
Generators = Callable[[str], np.random.Generator]


@dataclass(frozen=True)
class ClassPlan:
    """A class and the share of its images that show each of its cues, independently."""

    name: str
    cues: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawn:
    """An image, and where its cues and its object are to be seen: (s, s, 3) uint8 and (s, s) bool."""

    pixels: np.ndarray
    masks: Mapping[str, Mask]


class Scenes(Protocol):
    """Images of one network's world, each drawn from its part, label and index alone."""

    side: int
    plans: Sequence[ClassPlan]
    bank: Mapping[str, Cue]
    has_object: bool  # whether the object can be left out

    def draw(self, part: str, label: int, index: int, without: Collection[str] = ()) -> Drawn:
        """An image of "train", "fit" or "val"; leaving something out changes nothing about the rest."""


def is_untouched(seed: int) -> bool:
    """Networks of seeds from 100 on are drawn with the bank of untouched cues."""
    return seed >= 100


def bank_of(seed: int) -> Mapping[str, Cue]:
    return UNTOUCHED if is_untouched(seed) else DEVELOPMENT


def plan_classes(names: Sequence[str], bank: Mapping[str, Cue], seed: int, n_without: int = 2) -> list[ClassPlan]:
    """Give a single cue to most classes, a redundant pair to one, and nothing to `n_without`.

    The cues go round from seed to seed, so that few networks have them all.
    """
    rng = np.random.default_rng((seed, 15))
    pair = [name for name, cue in bank.items() if cue.kind == "redundant pair"]
    single = [name for name in bank if name not in pair]
    single = [single[i] for i in np.random.default_rng((seed // 100, 16)).permutation(len(single))]
    n_single = min(len(names) - n_without - bool(pair), len(single))
    first = (seed % 100) * n_single
    chosen = [single[(first + i) % len(single)] for i in range(n_single)]
    slots = [{name: float(rng.choice(SHARES))} for name in chosen]
    if pair:
        slots.append(dict.fromkeys(pair, 0.9))
    slots += [{}] * (len(names) - len(slots))
    return [ClassPlan(name, slots[slot]) for name, slot in zip(names, rng.permutation(len(slots)), strict=True)]


def generators(seed: int, part: str, label: int, index: int) -> Generators:
    """One generator for each purpose, so that what is left out moves nothing else."""

    def make(purpose: str) -> np.random.Generator:
        return np.random.default_rng((seed, PARTS[part], label, index, *purpose.encode()))

    return make


def choose_shown(plan: ClassPlan, rng_for: Generators) -> list[str]:
    rng = rng_for("shown")
    return [name for name, share in plan.cues.items() if rng.random() < share]


def lay_cues(
    photo: Photo, bank: Mapping[str, Cue], cues: Collection[str], rng_for: Generators, masks: dict[str, Mask]
) -> Drawn:
    """The photo with those of `cues` that are laid over it, in the bank's order; `masks` holds what is in the scene."""
    for name, cue in bank.items():
        if name in cues and cue.apply is not None:
            photo, mask = cue.apply(photo, rng_for(name))
            if mask.mean() < 0.5:  # what is everywhere hides nothing
                masks = {other: earlier & ~mask for other, earlier in masks.items()}
            masks[name] = mask
    return Drawn(photo.clip(0, 255).round().astype(np.uint8), masks)


def vary(photo: Photo, rng: np.random.Generator) -> Photo:
    """Brightness, contrast and colour as they differ between any two photographs."""
    gains = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3)
    middle, contrast = float(photo.mean()), rng.uniform(0.85, 1.15)
    return (((photo - middle) * contrast + middle) * gains).clip(0, 255).astype(np.float32)
