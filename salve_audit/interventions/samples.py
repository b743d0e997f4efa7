"""The audit split as the comparison reads it, and the logits an edit gives it.

Samples are sorted by class, so that a class is a slice, and logits are laid out class-major, (k, n): sums and maxima
over the classes then run along contiguous samples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from salve_audit.interventions.affine import AffineHead, Intervention
from salve_audit.interventions.windows import Margins, Rivals, find_rivals, recognised

LogitsOfRows: TypeAlias = Callable[[slice], np.ndarray]  # samples -> their logits at some strengths, (s, k, rows)

MOST_VALUES = (
    1 << 21
)  # logits of the audit split; with more, divergence and agreement come from `THINNED_VALUES` of them
THINNED_VALUES = 1 << 19
SINGLE_VALUES = (
    1 << 26
)  # activations; with more, reaches are float32 but for the class itself, whose roots must be exact
BLOCK_VALUES = 1 << 20  # logits or weights held at a time, 8 MB
CACHED_VALUES = 1 << 16  # activations that stay in the cache while several products read them, 512 KB
ALIVE_SHARE = 0.6  # of the coordinates; above it leaving out dead ones costs more than it saves
STRENGTHS_PER_PRODUCT = 12  # neighbours on the grid, so that most dead coordinates are dead in all of them


@dataclass(frozen=True)
class AuditSamples:
    """Activations sorted by class, with the original head's logits.

    Attributes:
        acts: (n, d) float64; of a huge split float32, as they came.
        labels: (n,) ascending.
        logits: (k, n) of the original head.
        counts: (k,) samples per class.
        starts: (k,) first sample of every class.
    """

    acts: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    logits: Float[np.ndarray, "k n"]
    counts: Int[np.ndarray, " k"]
    starts: Int[np.ndarray, " k"]

    @functools.cached_property
    def rivals(self) -> Rivals:
        """The strongest wrong classes of every sample, by the original logits."""
        return find_rivals(self.logits, self.labels)

    @functools.cached_property
    def thinned_rows(self) -> Int[np.ndarray, " some"] | None:
        """Samples spread evenly over the classes, of `THINNED_VALUES` logits; None: all are not too many."""
        n_classes, n = self.logits.shape
        if n_classes * n <= MOST_VALUES:
            return None
        return np.linspace(0, n - 1, max(1, THINNED_VALUES // n_classes)).astype(np.intp)

    @functools.cached_property
    def thinned(self) -> AuditSamples:
        """These samples, or `thinned_rows` of them."""
        rows = self.thinned_rows
        if rows is None:
            return self
        labels = self.labels[rows]
        counts = np.bincount(labels, minlength=len(self.counts))
        logits = np.ascontiguousarray(self.logits[:, rows])
        return AuditSamples(self.exact(rows), labels, logits, counts, np.cumsum(counts) - counts)

    def exact(self, rows: slice | Int[np.ndarray, " some"]) -> Float[np.ndarray, "some d"]:
        """Activations in float64; not a copy where they are."""
        return self.acts[rows].astype(np.float64, copy=False)

    @property
    def huge(self) -> bool:
        """True if there are too many activations for float64: products over all samples are then float32."""
        return self.acts.size > SINGLE_VALUES

    def reach(
        self, directions: Float[np.ndarray, "r d"], owners: Sequence[slice], parts: Sequence[slice]
    ) -> Float[np.ndarray, "r n"]:
        """Product of every sample with each direction, float64.

        Every part of the directions is a product of its own: the last bits of a product depend on its shape, so they
        must not depend on what else is asked for. Samples go through all parts in blocks that stay in the cache.
        In a huge split it is precise on the samples of the class that a direction is for (`owners`, one each) alone.
        """
        precise = not self.huge or slice(0, len(self.labels)) in owners
        rows = directions.astype(np.float64 if precise else np.float32, copy=False)
        reached = np.empty((len(rows), len(self.acts)))
        step = max(1, CACHED_VALUES // self.acts.shape[1])
        for start in range(0, len(self.acts), step):
            block = self.acts[start : start + step].astype(rows.dtype, copy=False).T
            for part in parts:
                reached[part, start : start + step] = rows[part] @ block
        if not precise:
            for row, own in enumerate(owners):
                reached[row, own] = self.exact(own) @ directions[row]
        return reached

    def rows_of(self, class_index: int) -> slice:
        """The samples of one class."""
        start = int(self.starts[class_index])
        return slice(start, start + int(self.counts[class_index]))

    def others(self, class_index: int) -> Bool[np.ndarray, " k"]:
        """(k,) True for classes other than this one that have samples."""
        present = self.counts > 0
        present[class_index] = False
        return present

    def class_accuracies(self, correct: Bool[np.ndarray, "s n"]) -> Float[np.ndarray, "s k"]:
        """Accuracy of every class; 0 where it has no samples."""
        sums = np.zeros((correct.shape[0], correct.shape[1] + 1), dtype=np.int64)
        np.cumsum(correct, axis=1, out=sums[:, 1:])
        n_correct = sums[:, self.starts + self.counts] - sums[:, self.starts]
        return n_correct / np.maximum(self.counts, 1)


def sort_samples(acts: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], head: AffineHead) -> AuditSamples:
    """Sorted copies in float64, those of a huge split in float32; the caller's arrays stay as they are."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=head.bias.shape[0])
    own = acts[order]
    if own.size > SINGLE_VALUES:
        logits = np.empty((len(head.bias), len(own)))
        step = max(1, SINGLE_VALUES // (4 * own.shape[1]))
        for start in range(0, len(own), step):
            np.matmul(head.weight, own[start : start + step].astype(np.float64).T, out=logits[:, start : start + step])
        logits += head.bias[:, None]
    else:
        own = own.astype(np.float64)
        logits = head.weight @ own.T + head.bias[:, None]
    return AuditSamples(own, labels[order], logits, counts, np.cumsum(counts) - counts)


class EditedLogits:
    """The audit samples' logits under one intervention, at any strength; see `edit_logits`.

    Edits that are linear in their strength cost one projection per sample, once; all others a matrix product per
    strength.
    """

    def __init__(
        self, samples: AuditSamples, intervention: Intervention, reach: Float[np.ndarray, "r n"] | None
    ) -> None:
        self.samples = samples
        self.intervention = intervention
        self.factors = intervention.factors
        self.reach = reach  # how far every sample reaches along a linear edit; None: the weights stay

    def thinned(self) -> EditedLogits:
        """This edit on the samples of `AuditSamples.thinned`."""
        rows = self.samples.thinned_rows
        if rows is None:
            return self
        reach = None if self.reach is None else self.reach[:, rows]
        return EditedLogits(self.samples.thinned, self.intervention, reach)

    def at(self, strengths: Float[np.ndarray, " s"]) -> LogitsOfRows:
        """A function from a slice of samples to their logits at these strengths, (s, k, rows)."""
        if self.factors is None:
            return self._multiplied(strengths)
        logits, scale = self.samples.logits, strengths[:, None, None]
        return lambda rows: logits[:, rows] + scale * self.shift(rows)

    def shift(self, rows: slice) -> Float[np.ndarray, "k rows"]:
        """Change of the logits per unit of strength under a linear edit."""
        edit = self.factors
        assert edit is not None, f"{self.intervention.method} is not linear in its strength"
        if self.reach is None:
            return np.broadcast_to(edit.bias[:, None], self.samples.logits[:, rows].shape)
        shift: np.ndarray = edit.left @ self.reach[:, rows]
        shift += edit.bias[:, None]
        return shift

    def correct(self, strengths: Float[np.ndarray, " s"]) -> Bool[np.ndarray, "s n"]:
        """True where the label's logit is strictly above every other; ties count as wrong (docs/method.md §3)."""
        labels = self.samples.labels
        if self.factors is not None:
            margins = Margins(self.samples.logits, labels, self.factors, self.reach)
            return recognised(margins, self.samples.rivals, strengths)
        correct = np.empty((len(strengths), len(labels)), dtype=bool)
        for chosen in self.batches(strengths):
            logits_of = self.at(strengths[chosen])
            for rows in self.blocks(len(chosen)):
                logits = logits_of(rows)
                own = logits[:, labels[rows], np.arange(logits.shape[2])]  # (s, rows)
                correct[chosen, rows] = np.count_nonzero(logits >= own[:, None, :], axis=1) == 1
        return correct

    def accuracy_of(self, class_index: int, strength: float) -> float:
        """Accuracy of one class, from its own samples."""
        own = self.samples.rows_of(class_index)
        logits_of, right = self.at(np.array([strength])), 0
        for rows in self.blocks(1, within=own):
            logits = logits_of(rows)[0]
            right += np.count_nonzero(np.count_nonzero(logits >= logits[class_index], axis=0) == 1)
        return right / (own.stop - own.start)

    def batches(self, strengths: Float[np.ndarray, " s"]) -> Iterator[Int[np.ndarray, " chosen"]]:
        """Indices of neighbouring strengths whose heads fit into a block."""
        n_classes, d = self.samples.logits.shape[0], self.samples.acts.shape[1]
        step = max(1, min(STRENGTHS_PER_PRODUCT, BLOCK_VALUES // (n_classes * d)))
        order = np.argsort(strengths, kind="stable")
        return (order[start : start + step] for start in range(0, len(order), step))

    def blocks(self, n_strengths: int, within: slice | None = None) -> Iterator[slice]:
        """Slices of samples, all or those `within`, whose logits at `n_strengths` strengths fit into a block."""
        n_classes, n = self.samples.logits.shape
        first, last = (within.start, within.stop) if within is not None else (0, n)
        step = max(1, BLOCK_VALUES // (n_strengths * n_classes))
        return (slice(start, min(start + step, last)) for start in range(first, last, step))

    def _multiplied(self, strengths: Float[np.ndarray, " s"]) -> LogitsOfRows:
        heads = [self.intervention.head(float(strength)) for strength in strengths]
        weights = np.concatenate([head.weight for head in heads])  # (s k, d)
        biases = np.concatenate([head.bias for head in heads])[:, None]
        alive = np.flatnonzero(weights.any(axis=0))  # strong suppression leaves few coordinates
        sparse = alive.size < ALIVE_SHARE * weights.shape[1]
        weights = weights[:, alive] if sparse else weights

        def logits_of(rows: slice) -> Float[np.ndarray, "s k rows"]:
            acts = self.samples.exact(rows)
            logits: np.ndarray = weights @ (acts[:, alive] if sparse else acts).T
            logits += biases
            return logits.reshape(len(heads), -1, logits.shape[1])

        return logits_of


def edit_logits(
    samples: AuditSamples, interventions: Sequence[Intervention], class_index: int | None = None
) -> list[EditedLogits]:
    """The edited logits of several interventions on one class (None: on no class in particular)."""
    return edit_groups(samples, [(class_index, interventions)])[0]


def edit_groups(
    samples: AuditSamples, groups: Sequence[tuple[int | None, Sequence[Intervention]]]
) -> list[list[EditedLogits]]:
    """The edited logits for several classes with their interventions; a method's projections are one matrix product.

    Where the split is so large that projections are in float32, those of the class edited (all without one) are not.
    """
    every = slice(0, len(samples.labels))
    flat = [(every if index is None else samples.rows_of(index), edit) for index, edits in groups for edit in edits]
    reaches = _reach_along(samples, flat)
    edited = (EditedLogits(samples, edit, reaches.get(at)) for at, (_, edit) in enumerate(flat))
    return [[next(edited) for _ in edits] for _, edits in groups]


def _reach_along(
    samples: AuditSamples, edits: Sequence[tuple[slice, Intervention]]
) -> dict[int, Float[np.ndarray, "r n"]]:
    """Position of an edit that moves weights linearly -> how far every sample reaches along it."""
    rights: dict[str, dict[int, Float[np.ndarray, "r d"]]] = {}  # by method
    for at, (_, intervention) in enumerate(edits):
        factors = intervention.factors
        if factors is not None and factors.left.any():
            rights.setdefault(intervention.method, {})[at] = factors.right
    if not rights:
        return {}
    rows, parts, places = 0, [], {}
    for own in rights.values():
        first = rows
        for at, right in own.items():
            places[at] = slice(rows, rows + len(right))
            rows += len(right)
        parts.append(slice(first, rows))
    directions = np.concatenate([right for own in rights.values() for right in own.values()])
    owners = [edits[at][0] for at, place in places.items() for _ in range(place.start, place.stop)]
    reached = samples.reach(directions, owners, parts)
    return {at: reached[place] for at, place in places.items()}
