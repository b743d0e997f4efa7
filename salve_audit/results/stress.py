"""Records of edits beyond one class at one strength: enhanced, combined, undone."""

from __future__ import annotations

from dataclasses import dataclass, field

from salve_audit.results.schema import AS_CLASS


@dataclass(frozen=True)
class EnhancementCurve:
    """A class's dominant feature enhanced more and more: accuracies at each alpha_hat, with 95 % Wilson intervals."""

    class_name: str = field(metadata=AS_CLASS)
    feature: int
    alpha_hat: tuple[float, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    others: tuple[float, ...]  # mean accuracy of the other classes; empty where there is none
    others_low: tuple[float, ...]
    others_high: tuple[float, ...]
    kept_until: float | None  # exact alpha_hat at which class or others first keep less than 99 %; None: never
    lost_by: str  # "class", "others", or "" where both keep it for ever


@dataclass(frozen=True)
class CompositionStep:
    """The state after so many edits. The others are the classes that no edit of the chain names, always the same."""

    n_edits: int
    others: float  # mean accuracy
    low: float  # 95 % bootstrap interval
    high: float
    change: float  # of others against the unedited model
    change_low: float  # paired: from the same draws
    change_high: float
    edited: float | None  # mean accuracy of the classes edited so far; None before the first edit


@dataclass(frozen=True)
class CompositionOrder:
    """A set of edits applied in both orders."""

    n_edits: int
    gap: float  # largest difference of any logit between the orders, over the largest logit
    agreement: float  # share of audit images that get the same prediction
    others_gap: float  # others' accuracy in the reverse order less that in this one


@dataclass(frozen=True)
class CompositionChain:
    """Edits of several classes, one after another, each at the strength that alone takes its class to the target."""

    method: str
    class_names: tuple[str, ...]  # in the order of the edits
    fragile: bool  # the most fragile classes; False: drawn
    steps: tuple[CompositionStep, ...]  # after 0, 1, 2, ... edits
    orders: tuple[CompositionOrder, ...]  # the first two edits, and all of them


@dataclass(frozen=True)
class Composition:
    """One method over its chains."""

    method: str
    n_chains: int
    commutes: bool  # the order changes no logit beyond rounding, in any chain
    steps: tuple[CompositionStep, ...]  # means over the chains, with intervals from one bootstrap
    gap: float  # others' accuracy after the last edit less that with the outputs removed, on the same chains, paired
    gap_low: float
    gap_high: float


@dataclass(frozen=True)
class RecoveryShare:
    """Share of images whose class a change of at most `budget` times the activation's norm restores."""

    budget: float
    share: float
    low: float  # 95 % Wilson interval
    high: float


@dataclass(frozen=True)
class ClassRecovery:
    """Recovery of one class after its edit."""

    class_name: str = field(metadata=AS_CLASS)
    n: int
    n_never: int
    median: float | None  # None: half of them or more are never restored


@dataclass(frozen=True)
class Recovery:
    """The smallest change of the activation that restores the class and leaves the feature's code as it is.

    `method` "unedited" is the yardstick: images of other classes, taken to the class, with no edit in place.
    """

    method: str
    n_classes: int
    n_unmatched: int  # classes that the method does not bring to the target: left out
    n: int  # images that were right before the edit and are wrong with it
    n_kept: int  # images of the sample that the edit leaves right: not counted in n
    n_never: int  # images that no such change restores
    median: float | None  # of size over the activation's norm; None: half of them or more are never restored
    low: float | None  # 95 % interval by order statistics; None: beyond the largest
    high: float | None
    shares: tuple[RecoveryShare, ...]
    classes: tuple[ClassRecovery, ...]


@dataclass(frozen=True)
class Stress:
    """The stress tests of edits, and the part of the audit split that they cover."""

    class_names: tuple[str, ...]  # classes examined, most fragile first
    n_classes_left_out: int
    n_samples: int  # audit images behind accuracies: all, or all of these classes and a few of every other
    n_per_class: int  # images per class behind recovery, at most
    target_accuracy: float | None  # that every edit is matched at; None: no methods were compared
    enhancement: tuple[EnhancementCurve, ...]
    composition: tuple[Composition, ...]
    chains: tuple[CompositionChain, ...]
    recovery: tuple[Recovery, ...]
    n_sweeps_left_out: int = 0  # cross-class features without a sweep
