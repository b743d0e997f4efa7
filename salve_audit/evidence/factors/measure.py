"""Runs of the network on images with each global factor removed or inserted: first on a few, then where it matters.

Every factor is removed from the same number of images of each class, which are the control of the other classes as
well; from all images of a class it is removed only where these few lose more than the control. Stopping early where
nothing is found leaves chance findings as rare as they are. The same holds for insertion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.activations.spread import spread_rows
from salve_audit.evidence.factors.bank import FACTORS
from salve_audit.evidence.factors.record import (
    Change,
    Factor,
    Shift,
    Statistics,
    change_prepared,
    undo_preparation,
)
from salve_audit.evidence.probe import Probe
from salve_audit.results import TransformSpec

SCREENED = 16  # images of each class that every factor is removed from
LEAST_CONTROL = 60  # images of other classes, where there are as many
INSERTED = 48  # images of other classes that a factor is inserted into, at most
SCREENED_INSERTIONS = 16  # of these
LEAST_EXCESS = 0.05  # over the control, in the first few: below it no more images are spent
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


def never() -> bool:
    """Let everything run."""
    return False


@dataclass(frozen=True)
class ExaminedImages:
    """Images that factors are removed from and inserted into.

    Attributes:
        labels: (n,) class index of each.
        correct: (n,) classified correctly as they are.
    """

    labels: Int[np.ndarray, " n"]
    correct: Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class FactorAnswers:
    """Predictions with one global factor removed, and inserted.

    Attributes:
        removed: (n,) predicted class of each image without the factor; `UNSEEN` where it was not run.
        screened: (n,) images that the factor was removed from in every class.
        inserted: (k, m) predicted class of the image in `rows` with the factor of class k; `UNSEEN` too.
        rows: (m,) images that factors are inserted into.
        same_for_all: the rows of `inserted` are one and the same run.
    """

    removed: Int[np.ndarray, " n"]
    screened: Bool[np.ndarray, " n"]
    inserted: Int[np.ndarray, "k m"]
    rows: Int[np.ndarray, " m"]
    same_for_all: bool = False


@dataclass(frozen=True)
class ClassStatistics:
    """Sums of a factor's statistics by class.

    Attributes:
        total: (k, s).
        counts: (k,) images.
    """

    total: Float[Tensor, "k s"]
    counts: Float[Tensor, " k"]

    def own(self, labels: Int[Tensor, " b"]) -> Statistics:
        """Mean of each label's class."""
        return self.total[labels] / self.counts[labels].clamp(min=1)[:, None]

    def others(self, labels: Int[Tensor, " b"]) -> Statistics:
        """Mean of all other classes, each counting alike; of the class itself where there is no other."""
        means = self.total / self.counts.clamp(min=1)[:, None]
        rest = (self.counts > 0).sum() - (self.counts[labels] > 0).int()
        mean = (means.sum(0) - means[labels]) / rest.clamp(min=1)[:, None]
        return torch.where(rest[:, None] > 0, mean, self.own(labels))

    def away(self, labels: Int[Tensor, " b"]) -> Shift:
        """Shift from each label's class to the others."""
        return Shift(self.own(labels), self.others(labels))


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
    map: Callable[[Callable[[Probe, slice], Answers], list[slice]], list[Answers]] | None = None

    def answer(self, images: Float[Tensor, "n c h w"], change: Change, shift: Shift) -> Answers:
        """Predicted classes of the changed images."""

        def work(probe: Probe, rows: slice) -> Answers:
            donors = None if shift.donors is None else shift.donors[rows]
            part = Shift(shift.source[rows], shift.target[rows], donors)
            with torch.no_grad():
                changed = change_prepared(images[rows].to(self.device), self.spec, change, part)
                return predict(probe(changed).logits.float().cpu())

        size = self.batch_size(images)
        batches = [slice(start, start + size) for start in range(0, len(images), size)]
        answers = [work(self.probe, rows) for rows in batches] if self.map is None else self.map(work, batches)
        return np.concatenate(answers)


def predict(logits: Float[Tensor, "b k"]) -> Int[np.ndarray, " b"]:
    """Class of the largest logit, `TIED` where two share it: that image is not classified as either."""
    largest = logits == logits.amax(1, keepdim=True)
    return np.where(largest.sum(1).numpy() == 1, logits.argmax(1).numpy(), TIED)


@dataclass(frozen=True)
class FactorRuns:
    """All runs of an audit's global factors.

    Attributes:
        network: that is asked.
        images: that are examined.
        examined: of the same images.
        clock: whether time is over, asked between factors.
    """

    network: FactorNetwork
    images: ImageParts
    examined: ExaminedImages
    clock: Clock = never

    def measure(self) -> FactorOutcome:
        """Remove every factor, then insert it.

        Factors that time did not allow are left out, insertions that it did not allow are unseen.
        """
        factors = {name: factor for name, factor in FACTORS.items() if self._n_channels == 3 or not factor.coloured}
        statistics = self._statistics(factors)
        screened = self._screen()
        removed = {name: np.full(len(self.images), UNSEEN) for name in factors}
        n_passes = self._remove(factors, statistics, dict.fromkeys(factors, screened), removed)
        done = {
            name: factor
            for name, factor in factors.items()
            if factor.remove is None or (removed[name][screened] != UNSEEN).all()
        }
        labels, correct = self._labels, self.examined.correct
        rest = {
            name: choose_rest(removed[name], screened, labels, correct)
            for name, factor in done.items()
            if factor.remove is not None
        }
        n_passes += self._remove(done, statistics, rest, removed)
        rows = choose_recipients(labels, correct)
        inserted, more = self._insert(done, statistics, rows)
        in_screen = np.zeros(len(labels), bool)
        in_screen[screened] = True
        answers = {
            name: FactorAnswers(removed[name], in_screen, inserted[name], rows, factor.same_for_all)
            for name, factor in done.items()
            if (removed[name] != UNSEEN).any() or (inserted[name] != UNSEEN).any()
        }
        return FactorOutcome(answers, statistics, n_passes + more)

    @property
    def _labels(self) -> Int[np.ndarray, " n"]:
        return self.examined.labels

    @property
    def _n_channels(self) -> int:
        return self.network.spec.input_size[0]

    @property
    def _n_classes(self) -> int:
        return int(self._labels.max()) + 1

    def _statistics(self, factors: Mapping[str, Factor]) -> dict[str, ClassStatistics]:
        sums: dict[str, Tensor] = {}
        labels = torch.from_numpy(self._labels)
        for positions, part in self.images.parts():
            for start in range(0, len(part), self.network.batch_size(part)):
                rows = slice(start, start + self.network.batch_size(part))
                pixels = undo_preparation(part[rows].to(self.network.device), self.network.spec)
                own = labels[positions][rows]
                for name, factor in factors.items():
                    values = factor.statistics(pixels).cpu()
                    total = sums.setdefault(name, torch.zeros(self._n_classes, values.shape[1]))
                    total.index_add_(0, own, values)
        counts = torch.bincount(labels, minlength=self._n_classes).float()
        return {name: ClassStatistics(total, counts) for name, total in sums.items()}

    def _screen(self) -> Int[np.ndarray, " s"]:
        """The first few images of every class, spread over it."""
        present = np.unique(self._labels)
        size = max(SCREENED, math.ceil(LEAST_CONTROL / max(1, len(present) - 1)))
        return np.concatenate([spread_rows(np.flatnonzero(self._labels == label), size) for label in present])

    def _remove(
        self,
        factors: Mapping[str, Factor],
        statistics: Mapping[str, ClassStatistics],
        rows: Mapping[str, Int[np.ndarray, " m"]],
        removed: Mapping[str, Int[np.ndarray, " n"]],
    ) -> int:
        """Fill in the answers of these rows, by factor; a part that time ends in stays unseen."""
        n_passes = 0
        every = np.unique(np.concatenate([np.empty(0, int), *rows.values()]))
        for part in split(every, self.images.most):
            images = self.images.load(part) if len(part) else None
            for name, factor in factors.items():
                mine = np.flatnonzero(np.isin(part, rows.get(name, ())))
                if factor.remove is None or images is None or not len(mine) or self.clock():
                    continue
                shift = statistics[name].away(torch.from_numpy(self._labels[part[mine]]))
                removed[name][part[mine]] = self.network.answer(images[torch.from_numpy(mine)], factor.remove, shift)
                n_passes += len(mine)
        return n_passes

    def _insert(
        self, factors: Mapping[str, Factor], statistics: Mapping[str, ClassStatistics], rows: Int[np.ndarray, " m"]
    ) -> tuple[dict[str, Int[np.ndarray, "k m"]], int]:
        """Insert each factor of each class into other classes' images: a few, then more where they become the class."""
        answers = {name: np.full((self._n_classes, len(rows)), UNSEEN) for name in factors}
        if not len(rows):
            return answers, 0
        images, n_passes = self.images.load(rows), 0
        for name, factor in factors.items():
            if factor.same_for_all and factor.insert is not None and not self.clock():
                nothing = torch.zeros(len(rows), 0)
                answers[name][:] = self.network.answer(images, factor.insert, Shift(nothing, nothing))
                n_passes += len(rows)
        for label in np.unique(self._labels).tolist():
            others = np.flatnonzero(self._labels[rows] != label)
            if not len(others):  # all images that are right are of this class
                continue
            donors = self._donors(label, len(others))
            for name, factor in factors.items():
                if factor.insert is None or factor.same_for_all or self.clock():
                    continue
                for few in screen_then_rest(others, answers[name][label], label):
                    answers[name][label, few] = self._insert_class(
                        images[torch.from_numpy(few)], factor, statistics[name], label, donors[: len(few)]
                    )
                    n_passes += len(few)
        return answers, n_passes

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
        return self.network.answer(images, factor.insert, shift)


def choose_rest(
    removed: Int[np.ndarray, " n"],
    screened: Int[np.ndarray, " s"],
    labels: Int[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
) -> Int[np.ndarray, " m"]:
    """Choose the images not yet run of classes that lost more in the first few than the others did."""
    flipped, own = ((removed != labels) & correct)[screened], labels[screened]
    rest = []
    for label in np.unique(own).tolist():
        control = flipped[own != label].mean() if (own != label).any() else 0.0
        if flipped[own == label].mean() - control >= LEAST_EXCESS:
            rest.append(np.setdiff1d(np.flatnonzero(labels == label), screened))
    return np.concatenate([np.empty(0, int), *rest])


def choose_recipients(labels: Int[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Choose correct images, as many of each class, so that about `INSERTED` are of other classes than any."""
    present = np.unique(labels)
    if len(present) < 2:
        return np.empty(0, int)
    each = math.ceil(INSERTED / (len(present) - 1))
    rows = np.concatenate([spread_rows(np.flatnonzero((labels == label) & correct), each) for label in present])
    most = math.ceil(INSERTED * len(present) / (len(present) - 1))
    return np.sort(spread_rows(rows, most))


def screen_then_rest(
    others: Int[np.ndarray, " m"], answers: Int[np.ndarray, " r"], label: int
) -> Iterator[Int[np.ndarray, " m"]]:
    """Yield the first few of `others`, and once these are answered the rest, if they became the class."""
    few = spread_rows(others, SCREENED_INSERTIONS)
    yield few
    rest = np.setdiff1d(others, few)
    if len(rest) and (answers[few] == label).mean() >= LEAST_EXCESS:
        yield rest


def split(rows: Int[np.ndarray, " n"], most: int) -> Sequence[Int[np.ndarray, " m"]]:
    """Rows in parts of at most so many."""
    return [rows[start : start + most] for start in range(0, len(rows), most)]
