"""Object and background where the data say which is which: the background exchanged, and the object removed, exactly.

The object of an image is laid on the background of another class's image, whose own object is filled in from around;
the control is the same with an image of its own class, which has the same seams. The object is filled in as well; the
control is its shape anywhere else in the image. A class depends on its background where other classes' backgrounds cost
it more than its own class's do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.activations.spread import spread_rows
from salve_audit.evidence.factors.bank import FACTORS
from salve_audit.evidence.findings import LEAST_FOR_INTERVAL, N_DRAWS
from salve_audit.evidence.regions import fill_regions
from salve_audit.results import Concept, ConceptEffect, FactorEffect, ImageReliance

NAME, OBJECT = "background", "object"
N_IMAGES = 40  # of a class, at most
ROUNDS = 2  # backgrounds of other classes, and of its own, for each image
LEAST_AREA, MOST_AREA = 0.01, 0.9  # of an image that its object covers
BATCH = 32
Predict = Callable[[Float[Tensor, "b c h w"]], Int[np.ndarray, " b"]]


@dataclass(frozen=True)
class MaskedImages:
    """Correct images whose objects are known.

    Attributes:
        rows: (m,) of the examined images.
        labels: (m,).
        load: positions among `rows` -> prepared images.
        masks: (m, 1, h, w) 1 on the object.
    """

    rows: Int[np.ndarray, " m"]
    labels: Int[np.ndarray, " m"]
    load: Callable[[Int[np.ndarray, " b"]], Float[Tensor, "b c h w"]]
    masks: Float[Tensor, "m 1 h w"]


@dataclass(frozen=True)
class Exchanges:
    """What the network says of each image, and whose background it had.

    Attributes:
        other, donors: (m, r) predictions on other classes' backgrounds, and these classes.
        donor_positions: (m, r) among the masked images.
        same: (m, r) predictions on its own class's.
        without, moved: (m,) predictions without the object, and with its shape removed elsewhere.
    """

    other: Int[np.ndarray, "m r"]
    donors: Int[np.ndarray, "m r"]
    donor_positions: Int[np.ndarray, "m r"]
    same: Int[np.ndarray, "m r"]
    without: Int[np.ndarray, " m"]
    moved: Int[np.ndarray, " m"]

    @property
    def n_passes(self) -> int:
        """Forward passes of one image."""
        return int(self.other.size + self.same.size + self.without.size + self.moved.size)


def gather_masked(
    labels: Int[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    load: Callable[[Int[np.ndarray, " b"]], Float[Tensor, "b c h w"]],
    mask_of: Callable[[int], Float[Tensor, "1 h w"] | None],
) -> MaskedImages | None:
    """Gather images of classes that have at least two whose object is known; None: fewer than two such classes."""
    rows, masks = [], []
    for label in np.unique(labels).tolist():
        own = []
        for row in spread_rows(np.flatnonzero((labels == label) & correct), N_IMAGES).tolist():
            mask = mask_of(row)
            if mask is not None and LEAST_AREA <= float(mask.mean()) <= MOST_AREA:
                own.append((row, mask))
        if len(own) >= 2:
            rows += [row for row, _ in own]
            masks += [mask for _, mask in own]
    chosen = np.array(rows, dtype=np.int64)
    if len(np.unique(labels[chosen])) < 2:
        return None
    return MaskedImages(chosen, labels[chosen], lambda positions: load(chosen[positions]), torch.stack(masks))


def exchange_backgrounds(predict: Predict, images: MaskedImages, rng: np.random.Generator) -> Exchanges:
    """Run all changes of all images; `rng` draws donors and places."""
    n = len(images.rows)
    others, same = _draw_donors(images.labels, rng, own=False), _draw_donors(images.labels, rng, own=True)
    answers = [np.empty((n, ROUNDS), np.int64), np.empty((n, ROUNDS), np.int64)]
    ends = [np.empty(n, np.int64), np.empty(n, np.int64)]
    shifts = rng.random((n, 2))
    for start in range(0, n, BATCH):
        here = np.arange(start, min(n, start + BATCH))
        own, masks = images.load(here), images.masks[torch.from_numpy(here)].to(torch.float32)
        for donors, answer in zip((others, same), answers, strict=True):
            for turn in range(ROUNDS):
                answer[here, turn] = predict(lay_on(own, masks, *_donor(images, donors[here, turn])))
        solid = (masks > 0.5).float()
        ends[0][here] = predict(fill_regions(own, solid))
        ends[1][here] = predict(fill_regions(own, _move(solid, shifts[here])))
    return Exchanges(answers[0], images.labels[others], others, answers[1], *ends)


def lay_on(
    images: Float[Tensor, "b c h w"],
    masks: Float[Tensor, "b 1 h w"],
    donors: Float[Tensor, "b c h w"],
    donor_masks: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, "b c h w"]:
    """Lay the objects on the donors' backgrounds, where the donors' own objects are filled in from around."""
    ground = fill_regions(donors, (donor_masks > 0.02).float())
    return images * masks + ground * (1 - masks)


def _donor(images: MaskedImages, positions: Int[np.ndarray, " b"]) -> tuple[Tensor, Tensor]:
    return images.load(positions), images.masks[torch.from_numpy(positions)].to(torch.float32)


def _draw_donors(labels: Int[np.ndarray, " m"], rng: np.random.Generator, own: bool) -> Int[np.ndarray, "m r"]:
    """Positions of other images, of the same class or of others; each other class is as likely as the next."""
    present = np.unique(labels)
    donors = np.empty((len(labels), ROUNDS), np.int64)
    for position, label in enumerate(labels.tolist()):
        for turn in range(ROUNDS):
            of = label if own else int(rng.choice(present[present != label]))
            pool = np.flatnonzero(labels == of)
            donors[position, turn] = rng.choice(pool[pool != position])
    return donors


def _move(masks: Float[Tensor, "b 1 h w"], shifts: Float[np.ndarray, "b 2"]) -> Float[Tensor, "b 1 h w"]:
    """The same shapes elsewhere, wrapped around the edges, at least a quarter of the side away."""
    height, width = masks.shape[2:]
    moved = []
    for mask, (down, across) in zip(masks, shifts.tolist(), strict=True):
        steps = (round((0.25 + 0.5 * down) * height), round((0.25 + 0.5 * across) * width))
        moved.append(torch.roll(mask, steps, (1, 2)))
    return torch.stack(moved)


def describe_exchanges(
    exchanges: Exchanges, labels: Int[np.ndarray, " m"], rng: np.random.Generator
) -> dict[int, tuple[FactorEffect, FactorEffect]]:
    """The effects of background and object by class, those of too few images left out."""
    effects = {}
    for label in np.unique(labels).tolist():
        mine = labels == label
        if mine.sum() < LEAST_FOR_INTERVAL:
            continue
        lost = [(part[mine] != label).astype(float) for part in (exchanges.other, exchanges.same)]
        other, same = (part.mean(1) for part in lost)
        gained = ((exchanges.donors == label) & ~mine[:, None], exchanges.other == label)
        by_chance = (exchanges.same[~mine] == label).astype(float).ravel()
        background = _effect(NAME, other, same, rng)
        with_it = gained[1][gained[0]].astype(float)
        without, moved = ((part[mine] != label).astype(float) for part in (exchanges.without, exchanges.moved))
        thing = _effect(OBJECT, without, moved, rng)
        effects[label] = (_with_insertion(background, with_it, by_chance, rng), thing)
    return effects


def _effect(name: str, lost: np.ndarray, control: np.ndarray, rng: np.random.Generator) -> FactorEffect:
    """One effect with paired controls: every image is its own."""
    picks = rng.integers(len(lost), size=(N_DRAWS, len(lost)))
    bounds = [_bounds(values[picks].mean(1)) for values in (lost, control, lost - control)]
    return FactorEffect(
        name=name,
        removed=float(lost.mean()),
        low=bounds[0][0],
        high=bounds[0][1],
        chance=float(control.mean()),
        kind=name,
        n=len(lost),
        chance_low=bounds[1][0],
        chance_high=bounds[1][1],
        excess=float((lost - control).mean()),
        excess_low=bounds[2][0],
        excess_high=bounds[2][1],
    )


def _with_insertion(
    effect: FactorEffect, gained: np.ndarray, by_chance: np.ndarray, rng: np.random.Generator
) -> FactorEffect:
    """How often other classes' objects become the class on its background."""
    if len(gained) < LEAST_FOR_INTERVAL or not len(by_chance):
        return effect
    drawn = [values[rng.integers(len(values), size=(N_DRAWS, len(values)))].mean(1) for values in (gained, by_chance)]
    low, high = _bounds(drawn[0] - drawn[1])
    return dataclasses.replace(
        effect,
        inserted=float(gained.mean()),
        n_inserted=len(gained),
        inserted_chance=float(by_chance.mean()),
        inserted_excess=float(gained.mean() - by_chance.mean()),
        inserted_excess_low=low,
        inserted_excess_high=high,
    )


def _bounds(drawn: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """The interval that holds for all factors together."""
    tail = 2.5 / (len(FACTORS) + 2)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def add_background(
    records: Mapping[int, ImageReliance],
    concepts: tuple[Concept, ...],
    effects: Mapping[int, tuple[FactorEffect, FactorEffect]],
    areas: Mapping[int, float],
    classes: Sequence[str],
) -> tuple[dict[int, ImageReliance], tuple[Concept, ...]]:
    """Add the effects; a class depends on its background where that costs it most beyond chance.

    The object is listed and never what a class is said to depend on: that it does is how it should be.

    Args:
        records: by class index.
        concepts: of the audit.
        effects: of background and object, by class index.
        areas: share of the image that the background takes, by class index.
        classes: names in output order.
    """
    changed, extended = dict(records), list(concepts)
    for label, (background, thing) in effects.items():
        record = records.get(label)
        if record is None:
            continue
        factors = sorted((*record.factors, background), key=lambda factor: -factor.strength)
        record = dataclasses.replace(record, factors=(*factors, thing))
        if (background.excess_low or 0.0) > 0 and (background.excess or 0.0) > record.reliance - (record.chance or 0.0):
            own = (ConceptEffect(classes[label], background.removed, background.low, background.high),)
            extended.append(
                Concept(len(extended), "image", classes[label], (), areas[label], background.n, own, NAME, factor=NAME)
            )
            record = dataclasses.replace(
                record,
                reliance=background.removed,
                low=background.low,
                high=background.high,
                kind=NAME,
                concept=len(extended) - 1,
                chance=background.chance,
                chance_low=background.chance_low,
                chance_high=background.chance_high,
            )
        changed[label] = record
    return changed, tuple(extended)
