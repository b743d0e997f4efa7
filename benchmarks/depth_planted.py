"""Cues planted in CIFAR-10 pictures of 64 pixels: what `depth_real.py --recipe resnet18` trains and measures on.

None of these cues was used while the measure was made: other shapes, places, colours, frame widths and tints than the
small recipe's, and other pictures. Nothing may be tuned on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from depth_worlds import Pictures
from PIL import Image

from salve_audit.demo.cues import draw_cue

SIDE = 64
N_TRAIN, N_AUDIT = 1000, 150  # per class; the truth is over all of the audit pictures
FIRST_AUDIT = 100  # the small recipe measured on the pictures before this one

Change = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]  # picture -> changed, mask


@dataclass(frozen=True)
class Slot:
    """What one class is given: cue names with the share of pictures that show each, independently."""

    shares: tuple[tuple[str, float], ...]


SLOTS = (
    Slot((("disk", 1.0),)),
    Slot((("dots", 0.8),)),
    Slot((("thin frame", 0.9),)),
    Slot((("wide frame", 0.7),)),
    Slot((("bottom band", 1.0),)),
    Slot((("green tint", 0.95),)),
    Slot((("violet tint", 0.5),)),
    Slot((("ring", 0.95), ("chevron", 0.95))),
    Slot((("left band", 0.9), ("hatching", 0.9))),
)
CUES = tuple(name for slot in SLOTS for name, _ in slot.shares)


def _place(height: int, width: int, corner: str, rng: np.random.Generator) -> tuple[int, int]:
    """Upper left pixel: anywhere, or in a corner, at most 6 pixels from it."""
    free = SIDE - height, SIDE - width
    if corner == "anywhere":
        return int(rng.integers(free[0] + 1)), int(rng.integers(free[1] + 1))
    down, right = (int(one) for one in rng.integers(7, size=2))
    return (down if "upper" in corner else free[0] - down), (right if "left" in corner else free[1] - right)


def _shape(shape: str, height: int, width: int, corner: str = "anywhere") -> Change:
    def change(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        stamp = draw_cue(shape, height, width, rng)
        top, left = _place(height, width, corner, rng)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[top : top + height, left : left + width] = stamp.inside
        changed = picture.copy()
        changed[mask] = 255 * stamp.colour[stamp.inside]
        return changed, mask

    return change


def _texture(pattern: Callable[[np.ndarray], np.ndarray], height: int, width: int, strength: float) -> Change:
    """A see-through pattern of light and dark; `pattern` turns pixel positions (2, h, w) into light (h, w)."""

    def change(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        top, left = _place(height, width, "anywhere", rng)
        light = pattern(np.indices((height, width)) + rng.integers(8, size=(2, 1, 1)))
        here = np.s_[top : top + height, left : left + width]
        changed, mask = picture.copy(), np.zeros((SIDE, SIDE), bool)
        mask[here] = True
        changed[here] = (1 - strength) * picture[here] + strength * 255 * light[..., None]
        return changed, mask

    return change


def border(colour: tuple[int, int, int], **widths: int) -> Change:
    """A coloured border of so many pixels on each of the sides given by name."""

    def change(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = picture.shape[:2]
        rows, columns = np.indices((height, width))
        from_side = {"top": rows, "bottom": height - 1 - rows, "left": columns, "right": width - 1 - columns}
        mask = np.any([from_side[side] < most for side, most in widths.items()], axis=0)
        changed = picture.copy()
        changed[mask] = np.array(colour) + rng.normal(0, 10, (int(mask.sum()), 3))
        return changed, mask

    return change


def tint(factors: tuple[float, float, float]) -> Change:
    """Every channel times its factor, everywhere."""

    def change(picture: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return picture * np.array(factors), np.ones(picture.shape[:2], bool)

    return change


def _dots(at: np.ndarray) -> np.ndarray:
    return (((at % 6) - 2.5) ** 2).sum(0) < 4


def _hatching(at: np.ndarray) -> np.ndarray:
    return at.sum(0) % 6 < 3


CHANGES: Mapping[str, Change] = {
    "disk": _shape("disk", 13, 13),
    "dots": _texture(_dots, 24, 24, 0.6),
    "thin frame": border((230, 200, 40), top=3, bottom=3, left=3, right=3),
    "wide frame": border((110, 40, 120), top=6, bottom=6, left=6, right=6),
    "bottom band": border((235, 235, 235), bottom=6),
    "green tint": tint((0.85, 1.2, 0.85)),
    "violet tint": tint((1.15, 0.8, 1.2)),
    "ring": _shape("ring", 16, 16, "upper right"),
    "chevron": _shape("chevron", 12, 16),
    "left band": border((30, 60, 190), left=4),
    "hatching": _texture(_hatching, 20, 28, 0.6),
}


def assign(seed: int, n_classes: int = 10) -> list[tuple[tuple[str, float], ...]]:
    """What each class is given; classes beyond the slots have nothing."""
    order = np.random.default_rng((seed, 64)).permutation(n_classes)
    return [SLOTS[one].shares if one < len(SLOTS) else () for one in order]


def plant(
    picture: np.ndarray, names: tuple[str, ...], key: tuple[int, ...], left_out: str | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The picture with cues, one over the other, and where each is to be seen.

    Leaving one out changes nothing about the others: each is drawn from a generator of its own.
    """
    masks: dict[str, np.ndarray] = {}
    for name in names:
        if name == left_out:
            continue
        picture, mask = CHANGES[name](picture, np.random.default_rng((*key, CUES.index(name))))
        if not mask.all():  # a tint hides nothing
            masks = {other: seen & ~mask for other, seen in masks.items()}
        masks[name] = mask
    return picture.clip(0, 255).astype(np.uint8), masks


def shown_cues(shares: tuple[tuple[str, float], ...], key: tuple[int, ...]) -> tuple[str, ...]:
    rng = np.random.default_rng((*key, 99))
    return tuple(name for name, share in shares if rng.random() < share)


def class_folders(split: Path) -> list[Path]:
    return sorted(one for one in split.iterdir() if one.is_dir())


def draw_training(split: Path, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of one epoch, cropped and mirrored at random before anything is planted, and their labels."""
    pixels, labels = [], []
    for label, (folder, shares) in enumerate(zip(class_folders(split), assign(seed), strict=True)):
        for index, path in enumerate(sorted(folder.iterdir())[:N_TRAIN]):
            key = (seed, 0, epoch, label, index)
            picture = _crop(Image.open(path).convert("RGB"), np.random.default_rng((*key, 98)))
            pixels.append(plant(picture, shown_cues(shares, key), key)[0])
            labels.append(label)
    return np.stack(pixels), np.array(labels)


def _crop(image: Image.Image, rng: np.random.Generator, least: float = 0.35) -> np.ndarray:
    """A square of at least 35 % of the side, often mirrored: the checkpoint knows the whole pictures by heart."""
    side = image.width * rng.uniform(least, 1.0)
    left, top = rng.uniform(0, image.width - side, 2)
    taken = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    found = np.asarray(taken).astype(np.float64)
    return found[:, ::-1].copy() if rng.random() < 0.5 else found


def draw_audit(split: Path, seed: int) -> tuple[Pictures, np.ndarray]:
    """Audit pictures with the truth they allow, and (n, s, s, 3) the same without any cue."""
    pixels, bare, masks, without, rows, columns = [], [], [], [], [], []
    folders = class_folders(split)
    for label, (folder, shares) in enumerate(zip(folders, assign(seed), strict=True)):
        for index, path in enumerate(sorted(folder.iterdir())[FIRST_AUDIT : FIRST_AUDIT + N_AUDIT]):
            key = (seed, 1, label, index)
            image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            picture, names = np.asarray(image).astype(np.float64), shown_cues(shares, key)
            planted, seen = plant(picture, names, key)
            for name in names:
                without.append(plant(picture, names, key, left_out=name)[0])
                rows.append(len(pixels))
                columns.append(CUES.index(name))
            pixels.append(planted)
            bare.append(picture.astype(np.uint8))
            masks.append(np.stack([seen.get(name, np.zeros((SIDE, SIDE), bool)) for name in CUES]))
    owned = np.array([[cue in dict(shares) for cue in CUES] for shares in assign(seed)])
    labels, every = np.repeat(np.arange(len(folders)), N_AUDIT), np.stack(masks)
    shown = np.zeros((len(labels), len(CUES)), bool)
    shown[rows, columns] = True
    pictures = Pictures(
        np.stack(pixels), labels, CUES, owned, shown, every, np.stack(without), np.array(rows), np.array(columns)
    )
    return pictures, np.stack(bare)
