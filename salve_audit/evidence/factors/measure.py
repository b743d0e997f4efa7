"""Runs of the network on images with each global factor removed or inserted: first on a few, then where it matters.

Every factor is removed from the same number of images of each class, which are the control of the other classes as
well; from all images of a class only the few factors are removed without which these lost most margin beyond the
control. The same holds for insertion. Where a removal is another change for every class (a place, a spectrum, a
colour), the control of the classes that go on is the very same change of other classes' images: a change that is large
does not count as a loss where it breaks any image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.activations.spread import spread_rows
from salve_audit.evidence.factors.bank import FACTORS
from salve_audit.evidence.factors.class_means import ClassStatistics
from salve_audit.evidence.factors.record import (
    Change,
    Factor,
    Shift,
    change_prepared,
    undo_preparation,
)
from salve_audit.evidence.factors.screening import (
    INSERTED,
    LEAST_CONTROL,
    LEAST_EXCESS_FOR_ALL,
    SCREENED_INSERTIONS,
    choose_few,
    choose_inserted,
    choose_recipients,
    choose_removed,
    choose_screened,
    split,
)
from salve_audit.evidence.probe import Probe, hard_margin
from salve_audit.results import TransformSpec

DONORS = 16  # images of a class whose strips are inserted
UNSEEN, TIED = -2, -1  # answers: not run, and no single largest logit


class ImageParts(Protocol):
    """Prepared images, some of which may be held at a time."""

    @property
    def most(self) -> int:
        """Number of images that may be held at a time."""

    def __len__(self) -> int: ...

    def load(self, positions: Int[np.ndarray, " m"], /) -> Float[Tensor, "m c h w"]:
        """Load the prepared images at these positions, on the processor."""

    def parts(self) -> Iterator[tuple[slice, Float[Tensor, "m c h w"]]]:
        """Yield all images in parts that may be held: their positions and the prepared images."""


Clock = Callable[[], bool]  # True: time is over
Answers = Int[np.ndarray, " n"]  # predicted classes
Logits = Float[Tensor, "n k"]


def never() -> bool:
    """Let everything run."""
    return False


@dataclass(frozen=True)
class ExaminedImages:
    """Images that factors are removed from and inserted into.

    Attributes:
        labels: (n,) class index of each.
        margins: (n,) of that class over the best other, nothing removed.
    """

    labels: Int[np.ndarray, " n"]
    margins: Float[np.ndarray, " n"]

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        """Whether each is classified correctly as it is."""
        return self.margins > 0


@dataclass(frozen=True)
class FactorAnswers:
    """Predictions with one global factor removed, and inserted.

    Attributes:
        removed: (n,) predicted class of each image without the factor; `UNSEEN` where it was not run.
        screened: (n,) images that the factor was removed from in every class.
        inserted: (k, m) predicted class of the image in `rows` with the factor of class k; `UNSEEN` too.
        rows: (m,) images that factors are inserted into.
        same_for_all: the rows of `inserted` are one and the same run.
        control: by class, whether other classes' correct images flip with what is this class's own removed; of
            factors that are something else for every class.
        area: (k,) share of the image that it takes, where that differs between classes.
    """

    removed: Int[np.ndarray, " n"]
    screened: Bool[np.ndarray, " n"]
    inserted: Int[np.ndarray, "k m"]
    rows: Int[np.ndarray, " m"]
    same_for_all: bool = False
    control: Mapping[int, Bool[np.ndarray, " c"]] = field(default_factory=dict)
    area: Float[np.ndarray, " k"] | None = None


@dataclass(frozen=True)
class FactorOutcome:
    """All answers.

    Attributes:
        answers: by name of the factor, in the order of the bank; those that time did not allow are not there.
        statistics: by name of the factor.
        n_passes: of one image.
    """

    answers: Mapping[str, FactorAnswers]
    statistics: Mapping[str, ClassStatistics]
    n_passes: int


@dataclass(frozen=True)
class FactorNetwork:
    """The network that factors are asked of.

    Attributes:
        probe: the network.
        spec: how its images are prepared.
        device: where it runs.
        batch_size: of images, given some of them.
        map: results of work on batches, by copies of the network beside one another; None: by the probe, in turn.
    """

    probe: Probe
    spec: TransformSpec
    device: torch.device
    batch_size: Callable[[Float[Tensor, "n c h w"]], int]
    map: Callable[[Callable[[Probe, slice], Logits], list[slice]], list[Logits]] | None = None

    def ask(self, images: Float[Tensor, "n c h w"], change: Change, shift: Shift) -> Logits:
        """Logits of the changed images."""
        device, spec = self.device, self.spec

        def work(probe: Probe, rows: slice) -> Logits:
            donors = None if shift.donors is None else shift.donors[rows]
            part = Shift(shift.source[rows], shift.target[rows], donors)
            with torch.no_grad():
                changed = change_prepared(images[rows].to(device), spec, change, part)
                return probe(changed).logits.float().cpu()

        size = self.batch_size(images)
        batches = [slice(start, start + size) for start in range(0, len(images), size)]
        answers = [work(self.probe, rows) for rows in batches] if self.map is None else self.map(work, batches)
        return torch.cat(answers)


def predict(logits: Float[Tensor, "b k"]) -> Int[np.ndarray, " b"]:
    """Class of the largest logit, `TIED` where two share it: that image is not classified as either."""
    largest = logits == logits.amax(1, keepdim=True)
    return np.where(largest.sum(1).numpy() == 1, logits.argmax(1).numpy(), TIED)


@dataclass
class _Removed:
    """Answers of one factor's removal: predicted classes and margins lost, of all images."""

    answers: Answers
    lost: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class FactorRuns:
    """All runs of an audit's global factors.

    Attributes:
        network: that is asked.
        images: that are examined.
        examined: of the same images.
        clock: whether time is over, asked between factors.
        given: statistics of factors that are not measured in pixels, by name; without any, these are left out.
    """

    network: FactorNetwork
    images: ImageParts
    examined: ExaminedImages
    clock: Clock = never
    given: Mapping[str, ClassStatistics] = field(default_factory=dict)

    def measure(self) -> FactorOutcome:
        """Remove every factor, then insert it.

        Factors that time did not allow are left out, insertions that it did not allow are unseen.
        """
        factors = self._choose_factors()
        statistics = {**self._statistics(factors), **self.given}
        screened = choose_screened(self._labels, self.examined.correct)
        removed = {name: self._nothing() for name, factor in factors.items() if factor.remove is not None}
        n_passes = self._remove(factors, statistics, dict.fromkeys(removed, screened), removed)
        done = {name for name in removed if (removed[name].answers[screened] != UNSEEN).all()}
        lost = {name: removed[name].lost[screened] for name in removed if name in done}
        chosen = choose_removed(lost, self._labels[screened], self.examined.correct[screened])
        kept = {name: factor for name, factor in factors.items() if name in done or name not in removed}
        own = [name for name in chosen if kept[name].own_change]
        controls = {name: self._control(kept[name], statistics[name], chosen[name], screened) for name in own}
        rest = {
            name: np.setdiff1d(np.flatnonzero(np.isin(self._labels, labels)), screened)
            for name, labels in chosen.items()
        }
        n_passes += self._remove(factors, statistics, rest, removed)
        rows = choose_recipients(self._labels, self.examined.correct)
        inserted, more = self._insert(kept, statistics, rows, chosen)
        in_screen = np.zeros(len(self.images), bool)
        in_screen[screened] = True
        answers = {}
        for name, factor in kept.items():
            gone = removed[name].answers if name in removed else self._nothing().answers
            area = statistics[name].total.mean(1).numpy() if factor.given else None
            control = controls.get(name, {})
            if (gone != UNSEEN).any() or (inserted[name] != UNSEEN).any():
                answers[name] = FactorAnswers(gone, in_screen, inserted[name], rows, factor.same_for_all, control, area)
        n_passes += more + sum(len(flipped) for own in controls.values() for flipped in own.values())
        return FactorOutcome(answers, statistics, n_passes)

    def _choose_factors(self) -> dict[str, Factor]:
        coloured = self.network.spec.input_size[0] == 3
        return {
            name: factor
            for name, factor in FACTORS.items()
            if (coloured or not factor.coloured) and (name in self.given or not factor.given)
        }

    def _nothing(self) -> _Removed:
        return _Removed(np.full(len(self.images), UNSEEN), np.zeros(len(self.images)))

    @property
    def _labels(self) -> Int[np.ndarray, " n"]:
        return self.examined.labels

    @property
    def _n_classes(self) -> int:
        return int(self._labels.max()) + 1

    def _statistics(self, factors: Mapping[str, Factor]) -> dict[str, ClassStatistics]:
        sums: dict[str, Tensor] = {}
        labels = torch.from_numpy(self._labels)
        measured = {name: factor for name, factor in factors.items() if not factor.given}
        for positions, part in self.images.parts():
            for start in range(0, len(part), self.network.batch_size(part)):
                rows = slice(start, start + self.network.batch_size(part))
                pixels = undo_preparation(part[rows].to(self.network.device), self.network.spec)
                own = labels[positions][rows]
                for name, factor in measured.items():
                    values = factor.statistics(pixels).cpu()
                    total = sums.setdefault(name, torch.zeros(self._n_classes, values.shape[1]))
                    total.index_add_(0, own, values)
        counts = torch.bincount(labels, minlength=self._n_classes).float()
        return {name: ClassStatistics(total, counts) for name, total in sums.items()}

    def _remove(
        self,
        factors: Mapping[str, Factor],
        statistics: Mapping[str, ClassStatistics],
        rows: Mapping[str, Int[np.ndarray, " m"]],
        removed: Mapping[str, _Removed],
    ) -> int:
        """Fill in the answers of these rows, by factor; a part that time ends in stays unseen."""
        n_passes = 0
        every = np.unique(np.concatenate([np.empty(0, int), *rows.values()]))
        for part in split(every, self.images.most):
            images, labels = self.images.load(part), torch.from_numpy(self._labels[part])
            for name, mine in rows.items():
                own, remove = np.flatnonzero(np.isin(part, mine)), factors[name].remove
                if remove is None or not len(own) or self.clock():
                    continue
                at = torch.from_numpy(own)
                logits = self.network.ask(images[at], remove, statistics[name].away(labels[at]))
                removed[name].answers[part[own]] = predict(logits)
                margins = hard_margin(logits, labels[at]).numpy()
                removed[name].lost[part[own]] = self.examined.margins[part[own]] - margins
                n_passes += len(own)
        return n_passes

    def _control(
        self, factor: Factor, statistics: ClassStatistics, chosen: list[int], screened: Int[np.ndarray, " s"]
    ) -> dict[int, Bool[np.ndarray, " c"]]:
        """Change a few images of other classes, of those in `screened`, as each chosen class's are.

        No image where time is over: against an empty control nothing is beyond chance.
        """
        flipped: dict[int, Bool[np.ndarray, " c"]] = {}
        for label in chosen:
            others = screened[self.examined.correct[screened] & (self._labels[screened] != label)]
            parts = [np.empty(0, bool)]
            for rows in split(spread_rows(others, LEAST_CONTROL), self.images.most):
                if factor.remove is None or self.clock():
                    continue
                shift = statistics.away(torch.full((len(rows),), label))
                answers = predict(self.network.ask(self.images.load(rows), factor.remove, shift))
                parts.append(answers != self._labels[rows])
            flipped[label] = np.concatenate(parts)
        return flipped

    def _insert(
        self,
        factors: Mapping[str, Factor],
        statistics: Mapping[str, ClassStatistics],
        rows: Int[np.ndarray, " m"],
        chosen: Mapping[str, list[int]],
    ) -> tuple[dict[str, Int[np.ndarray, "k m"]], int]:
        """Insert factors of the kinds that a class loses by into images of others: a few, more where these become it.

        What is the same for all classes is inserted once, whether or not it can be removed.
        """
        answers = {name: np.full((self._n_classes, len(rows)), UNSEEN) for name in factors}
        if not len(rows):
            return answers, 0
        images, n_passes = self.images.load(rows), 0
        for name, factor in factors.items():
            if factor.same_for_all and factor.insert is not None:
                n_passes += self._insert_for_all(images, rows, factor.insert, answers[name])
        own = {name: f for name, f in factors.items() if f.insert is not None and not f.same_for_all}
        for label in np.unique(self._labels).tolist():
            others = spread_rows(np.flatnonzero(self._labels[rows] != label), INSERTED)
            if not len(others):  # all images that are right are of this class
                continue
            donors, few = self._donors(label, len(others)), spread_rows(others, SCREENED_INSERTIONS)
            rest = np.setdiff1d(others, few)
            kinds = {factors[name].kind for name, labels in chosen.items() if label in labels}
            tried = [name for name in own if own[name].kind in kinds]
            for is_first, some in ((True, few), (False, rest)):
                pulled = {name: float((answers[name][label, few] == label).mean()) for name in tried}
                for name in tried if is_first else choose_inserted(pulled):
                    if not len(some) or self.clock():
                        continue
                    answers[name][label, some] = self._insert_class(
                        images[torch.from_numpy(some)], own[name], statistics[name], label, donors[: len(some)]
                    )
                    n_passes += len(some)
        return answers, n_passes

    def _insert_for_all(
        self,
        images: Float[Tensor, "m c h w"],
        rows: Int[np.ndarray, " m"],
        insert: Change,
        answers: Int[np.ndarray, "k m"],
    ) -> int:
        """Make one change to a few of the images in `rows`, to all of them where some class gets more than a few."""
        labels, n_passes = self._labels[rows], 0
        few = choose_few(labels)
        for some in (few, np.setdiff1d(np.arange(len(rows)), few)):
            moved = answers[0, few]
            pulled = np.bincount(moved[(moved >= 0) & (moved != labels[few])], minlength=1).max()
            if not len(some) or self.clock() or (some is not few and pulled < LEAST_EXCESS_FOR_ALL * len(few)):
                continue
            nothing, mine = torch.zeros(len(some), 0), images[torch.from_numpy(some)]
            answers[:, some] = predict(self.network.ask(mine, insert, Shift(nothing, nothing)))
            n_passes += len(some)
        return n_passes

    def _donors(self, label: int, n: int) -> Float[Tensor, "m c h w"]:
        """Images of the class, again and again where they are fewer than n."""
        own = np.flatnonzero((self._labels == label) & self.examined.correct)
        own = own if len(own) else np.flatnonzero(self._labels == label)
        return self.images.load(np.resize(spread_rows(own, DONORS), n))

    def _insert_class(
        self,
        images: Float[Tensor, "m c h w"],
        factor: Factor,
        statistics: ClassStatistics,
        label: int,
        donors: Float[Tensor, "m c h w"],
    ) -> Int[np.ndarray, " m"]:
        assert factor.insert is not None, "only factors that can be inserted are"
        labels = torch.full((len(images),), label)
        shift = Shift(statistics.others(labels), statistics.own(labels), donors)
        return predict(self.network.ask(images, factor.insert, shift))
