"""Edits of the layers before the head, beside those of the head, on a part of the images."""

from __future__ import annotations

from dataclasses import dataclass, field

from salve_audit.results.schema import AS_CLASS


@dataclass(frozen=True)
class DeepScope:
    """The layers that one deep edit changes, and its distance at strength 1 from the projection of the head's input."""

    method: str
    layers: tuple[str, ...]  # whose weights change
    left: str  # what else writes into the same stream and stays, in words; "": nothing
    runs_from: str  # the module whose input was kept: only what comes from there on ran for every strength
    feature_left: float | None  # share of the feature's reading that is left, mean over the classes; None: not measured
    distance: float | None  # of the head's input from its projection, relative to what that moves


@dataclass(frozen=True)
class DeepResult:
    """One edit of one class, brought to a target accuracy on the class's images of the subset."""

    method: str
    class_name: str = field(metadata=AS_CLASS)
    feature: int
    target_accuracy: float
    strength: float
    reached_accuracy: float
    reached: bool
    others_accuracy: float
    low: float  # 95 % bootstrap interval over images
    high: float
    others_worst: float
    kl: float  # nats, on the other classes' images
    agreement: float
    weight_change: float  # ||W' - W||_F / ||W||_F over the edited layers, BatchNorm folded in
    to_salve: float | None  # others' accuracy less SALVE's, paired over images; None: SALVE, or one missed the target
    to_salve_low: float | None
    to_salve_high: float | None


@dataclass(frozen=True)
class DeepComparison:
    """Deep edits and edits of the head on the same images."""

    family: str  # of the network; "" where none is known
    reason: str  # why nothing was compared; "": something was
    n_samples: int = 0
    class_names: tuple[str, ...] = ()  # those edited
    n_per_class: int = 0  # images of an edited class
    scopes: tuple[DeepScope, ...] = ()
    results: tuple[DeepResult, ...] = ()
    notes: tuple[str, ...] = ()  # classes and features left out
