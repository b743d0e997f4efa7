"""Interventions at matched suppression."""

from __future__ import annotations

from dataclasses import dataclass, field

from salve_audit.results.schema import AS_CLASS


@dataclass(frozen=True)
class InterventionResult:
    """One method on one class, brought to a target accuracy of that class."""

    method: str
    class_name: str = field(metadata=AS_CLASS)
    feature: int | None
    strength: float
    target_accuracy: float
    reached_accuracy: float
    reached: bool
    others_accuracy: float
    others_worst: float | None  # None: of too few images per class to say
    kl: float  # nats, on the other classes' samples
    agreement: float  # with the original predictions on the other classes' samples
    weight_change: float  # ||W' - W||_F / ||W||_F
    area: float | None  # under (target suppressed, others kept), 1 is best; None: not traced
    low: float  # 95 % bootstrap interval of others_accuracy, over samples and the method's keys or seeds
    high: float
    bias_change: float = 0.0  # ||b' - b|| / ||b||, 0 where there is no bias
    n_others: int | None = None  # images of other classes behind others_accuracy; None: all of the audit split


@dataclass(frozen=True)
class MethodSummary:
    """One method over all classes at one target; intervals from one bootstrap over samples that all methods share."""

    method: str
    target_accuracy: float
    n_classes: int
    n_reached: int
    others_accuracy: float  # mean over all classes, at the best strength where the target is not reached
    low: float
    high: float
    area: float  # mean over all classes
    n_common: int  # classes in which this method and row scaling both reach the target
    difference: float | None  # of others' accuracy to row scaling's over those classes, paired; None: none in common
    difference_low: float | None
    difference_high: float | None
    n_common_salve: int = 0  # classes in which this method and SALVE both reach the target
    to_salve: float | None = None  # others' accuracy less SALVE's there, paired; None: no class, or SALVE itself
    to_salve_low: float | None = None
    to_salve_high: float | None = None
    p_salve: float | None = None  # of no difference to SALVE, two-sided, by the joint bootstrap
    p_salve_holm: float | None = None  # the same, adjusted for all methods at this target


@dataclass(frozen=True)
class MethodSpread:
    """Spread of others_accuracy over the free choice that a method has: its keys (ROME) or the autoencoder's seed."""

    method: str
    class_name: str = field(metadata=AS_CLASS)
    target_accuracy: float
    n_keys: int  # choices that reach the target
    low: float
    median: float
    high: float
    over: str = "keys"  # or "seeds"
