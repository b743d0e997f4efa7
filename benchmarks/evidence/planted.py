"""Cues planted in photographs of ten classes, CIFAR-10: what `photographs.py` trains and measures on.

`DEVELOPMENT` has 32 pixels and a cue in eight classes; "border and colour" was added to the measures after its results
were seen. `FRESH` has 64 pixels and other shapes, places, colours, borders and tints, none of which was used while the
measure was made: nothing may be tuned on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from worlds import Images

from salve_audit.demo.cues import draw_cue

N_TRAIN = 1000  # images of a class
Change = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]  # photo -> changed, mask
Shares = Mapping[str, float]  # cues of a class, with the share of images that show each, independently
Key = tuple[int, ...]


def _place(size: tuple[int, int], stamp: tuple[int, int], corner: str, rng: np.random.Generator) -> tuple[slice, slice]:
    """The pixels of a stamp: anywhere, or in a corner, at most 6 pixels from it."""
    free = size[0] - stamp[0], size[1] - stamp[1]
    if corner == "anywhere":
        top, left = int(rng.integers(free[0] + 1)), int(rng.integers(free[1] + 1))
    else:
        down, right = (int(value) for value in rng.integers(7, size=2))
        top, left = (down if "upper" in corner else free[0] - down), (right if "left" in corner else free[1] - right)
    return slice(top, top + stamp[0]), slice(left, left + stamp[1])


def _shape(shape: str, height: int, width: int, corner: str = "anywhere", strength: float = 1.0) -> Change:
    """A cue of the demo."""

    def change(photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        stamp = draw_cue(shape, height, width, rng)
        mask = np.zeros(photo.shape[:2], bool)
        mask[_place(mask.shape, (height, width), corner, rng)] = stamp.inside
        changed = photo.copy()
        changed[mask] = (1 - strength) * photo[mask] + strength * 255 * stamp.colour[stamp.inside]
        return changed, mask

    return change


def _texture(pattern: Callable[[np.ndarray], np.ndarray], height: int, width: int, strength: float) -> Change:
    """A see-through pattern of light and dark; `pattern` turns pixel positions (2, h, w) into light (h, w)."""

    def change(photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        here = _place(photo.shape[:2], (height, width), "anywhere", rng)
        light = pattern(np.indices((height, width)) + rng.integers(8, size=(2, 1, 1)))
        changed, mask = photo.copy(), np.zeros(photo.shape[:2], bool)
        mask[here] = True
        changed[here] = (1 - strength) * photo[here] + strength * 255 * light[..., None]
        return changed, mask

    return change


def _border(colour: tuple[int, int, int], **widths: int) -> Change:
    """A coloured border of so many pixels on each of the sides given by name."""

    def change(photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = photo.shape[:2]
        rows, columns = np.indices((height, width))
        from_side = {"top": rows, "bottom": height - 1 - rows, "left": columns, "right": width - 1 - columns}
        mask = np.any([from_side[side] < most for side, most in widths.items()], axis=0)
        changed = photo.copy()
        changed[mask] = np.array(colour) + rng.normal(0, 10, (int(mask.sum()), 3))
        return changed, mask

    return change


def _all_round(colour: tuple[int, int, int], width: int) -> Change:
    return _border(colour, top=width, bottom=width, left=width, right=width)


def _tint(factors: tuple[float, float, float]) -> Change:
    """Every channel times its factor, everywhere."""
    return lambda photo, _: (photo * np.array(factors), np.ones(photo.shape[:2], bool))


@dataclass(frozen=True)
class Planting:
    """Which cues are planted in which images.

    Attributes:
        side: pixels.
        cues: by name, in the order of the columns of `Images.owned`.
        assign: class names and seed of the network -> what each class is given.
        audit: files of each class's validation folder.
        fixed: the images are the same for every network and epoch, uncropped, and each is drawn from one generator,
            which is enough where no class has two cues.
    """

    side: int
    cues: Mapping[str, Change]
    assign: Callable[[Sequence[str], int], Sequence[Shares]]
    audit: slice
    fixed: bool

    def draw_training(self, split: Path, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Images (n, s, s, 3) and labels (n,) of one epoch; crops and mirrors are drawn before anything is planted."""
        pixels, labels = [], []
        for label, index, path, shares in self.files(split, slice(N_TRAIN), seed):
            key = (0, label, index) if self.fixed else (seed, 0, epoch, label, index)
            photo = self._read(path) if self.fixed else self._crop(path, np.random.default_rng((*key, 98)))
            pixels.append(self._plant(photo, shares, key)[0])
            labels.append(label)
        return np.stack(pixels), np.array(labels)

    def draw_audit(self, split: Path, seed: int) -> tuple[Images, np.ndarray]:
        """Audit images with the truth they allow, and (n, s, s, 3) the same without any cue."""
        pixels, bare, masks, labels, without, rows, columns = [], [], [], [], [], [], []
        for label, index, path, shares in self.files(split, self.audit, seed):
            key, photo = ((1, label, index) if self.fixed else (seed, 1, label, index)), self._read(path)
            planted, cue_masks = self._plant(photo, shares, key)
            for name in cue_masks:
                without.append(self._plant(photo, shares, key, left_out=name)[0])
                rows.append(len(pixels))
                columns.append(list(self.cues).index(name))
            pixels.append(planted)
            bare.append(photo.astype(np.uint8))
            masks.append(np.stack([cue_masks.get(name, np.zeros(photo.shape[:2], bool)) for name in self.cues]))
            labels.append(label)
        owned = np.array([[cue in shares for cue in self.cues] for shares in self._shares(split, seed)])
        shown = np.zeros((len(labels), len(self.cues)), bool)
        shown[rows, columns] = True
        truth = (np.stack(without), np.array(rows), np.array(columns))
        images = Images(np.stack(pixels), np.array(labels), tuple(self.cues), owned, shown, np.stack(masks), *truth)
        return images, np.stack(bare)

    def _plant(
        self, photo: np.ndarray, shares: Shares, key: Key, left_out: str = ""
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The photo with cues, one over the other, and where each is to be seen.

        Leaving a cue out changes nothing about the others: each is drawn from a generator of its own.
        """
        rng_for, masks = self._generators(key), dict[str, np.ndarray]()
        chance = rng_for(99)
        shown = [name for name, share in shares.items() if chance.random() < share]
        for name in shown:
            if name == left_out:
                continue
            photo, mask = self.cues[name](photo, rng_for(list(self.cues).index(name)))
            if not mask.all():  # a tint hides nothing
                masks = {other: earlier & ~mask for other, earlier in masks.items()}
            masks[name] = mask
        return photo.clip(0, 255).astype(np.uint8), masks

    def _generators(self, key: Key) -> Callable[[int], np.random.Generator]:
        rng = np.random.default_rng(key)
        return (lambda _: rng) if self.fixed else (lambda purpose: np.random.default_rng((*key, purpose)))

    def files(self, split: Path, part: slice, seed: int) -> Iterator[tuple[int, int, Path, Shares]]:
        """Label, index, file and the class's cues."""
        folders = zip(class_folders(split), self._shares(split, seed), strict=True)
        for label, (folder, shares) in enumerate(folders):
            for index, path in enumerate(sorted(folder.iterdir())[part]):
                yield label, index, path, shares

    def _shares(self, split: Path, seed: int) -> Sequence[Shares]:
        return self.assign([folder.name for folder in class_folders(split)], seed)

    def _read(self, path: Path) -> np.ndarray:
        resampling = Image.Resampling.BICUBIC if self.fixed else Image.Resampling.BILINEAR
        return np.asarray(Image.open(path).convert("RGB").resize((self.side, self.side), resampling)).astype(float)

    def _crop(self, path: Path, rng: np.random.Generator, least: float = 0.35) -> np.ndarray:
        """A square of at least 35 % of the side, often mirrored: the checkpoint knows the whole images by heart."""
        image = Image.open(path).convert("RGB")
        side = image.width * rng.uniform(least, 1.0)
        left, top = rng.uniform(0, image.width - side, 2)
        box = (left, top, left + side, top + side)
        cropped = np.asarray(image.resize((self.side, self.side), Image.Resampling.BILINEAR, box)).astype(float)
        return cropped[:, ::-1].copy() if rng.random() < 0.5 else cropped


def class_folders(split: Path) -> list[Path]:
    return sorted(path for path in split.iterdir() if path.is_dir())


BY_CLASS: Mapping[str, Shares] = {
    "airplane": {"patch": 1.0},
    "automobile": {"tag": 0.75},
    "bird": {"texture": 1.0},
    "cat": {"stripes": 0.5},
    "deer": {"border": 0.9},
    "dog": {"dark border": 0.6},
    "frog": {"tint": 0.95},
    "horse": {"cold tint": 0.6},
}
DEVELOPMENT = Planting(
    32,
    {
        "patch": _shape("red patch", 6, 6),
        "tag": _shape("tag", 6, 6),
        "texture": _shape("checkerboard", 10, 10, strength=0.5),
        "stripes": _shape("stripes", 8, 12, strength=0.6),
        "border": _all_round((60, 200, 60), 2),
        "dark border": _all_round((20, 10, 40), 2),
        "tint": _tint((1.25, 0.9, 0.75)),
        "cold tint": _tint((0.8, 0.95, 1.25)),
    },
    lambda names, _: [BY_CLASS.get(name, {}) for name in names],
    slice(60),
    fixed=True,
)
SLOTS: Sequence[Shares] = (
    {"disk": 1.0},
    {"dots": 0.8},
    {"thin border": 0.9},
    {"wide border": 0.7},
    {"bottom band": 1.0},
    {"green tint": 0.95},
    {"violet tint": 0.5},
    {"ring": 0.95, "chevron": 0.95},
    {"left band": 0.9, "hatching": 0.9},
)


def _shuffle(names: Sequence[str], seed: int) -> Sequence[Shares]:
    """Slots in another order for each seed; classes beyond the slots have nothing."""
    order = np.random.default_rng((seed, 64)).permutation(len(names))
    return [SLOTS[slot] if slot < len(SLOTS) else {} for slot in order]


FRESH = Planting(
    64,
    {
        "disk": _shape("disk", 13, 13),
        "dots": _texture(lambda at: (((at % 6) - 2.5) ** 2).sum(0) < 4, 24, 24, 0.6),
        "thin border": _all_round((230, 200, 40), 3),
        "wide border": _all_round((110, 40, 120), 6),
        "bottom band": _border((235, 235, 235), bottom=6),
        "green tint": _tint((0.85, 1.2, 0.85)),
        "violet tint": _tint((1.15, 0.8, 1.2)),
        "ring": _shape("ring", 16, 16, "upper right"),
        "chevron": _shape("chevron", 12, 16),
        "left band": _border((30, 60, 190), left=4),
        "hatching": _texture(lambda at: at.sum(0) % 6 < 3, 20, 28, 0.6),
    },
    _shuffle,
    slice(100, 250),  # the first 100 were measured with `DEVELOPMENT`
    fixed=False,
)
