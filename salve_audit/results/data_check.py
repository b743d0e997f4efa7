"""Records of what the images alone give away of their labels, without a model, and of images that are there twice."""

from __future__ import annotations

from dataclasses import dataclass, field

from salve_audit.results.schema import AS_CLASS


@dataclass(frozen=True)
class DataCue:
    """A property of images that tells a class from the rest."""

    property: str  # for instance "sharpness"; see DataCheck.properties
    class_name: str = field(metadata=AS_CLASS)
    auroc: float  # 0.5 to 1: of telling the class's images from all others by this property alone
    low: float  # interval, corrected for all properties and classes: 0.5 or below is no finding and not listed
    high: float
    is_higher: bool  # in the class's images; else lower
    median: float  # of the class's images, in the property's unit
    median_others: float
    n: int  # images of the class; of all others there are more
    kind: str = ""  # of the global factors of image reliance that act on it; empty: none does


@dataclass(frozen=True)
class DuplicatePair:
    """Two images that are the same to the eye."""

    path: str
    class_name: str = field(metadata=AS_CLASS)
    other_path: str
    other_class: str
    across: bool  # one is audited, the other of the fit split
    exact: bool  # the same file


@dataclass(frozen=True)
class DataCheck:
    """What a glance at the data shows, on at most a few hundred images for properties and on all for duplicates."""

    n_images: int = 0  # whose properties were measured
    n_classes: int = 0  # with enough of them
    n_classes_left_out: int = 0
    properties: tuple[str, ...] = ()  # all that were measured
    cues: tuple[DataCue, ...] = ()  # found, the clearest first
    n_compared: int = 0  # audit images that duplicates were looked for of
    n_audit_in_fit: int = 0  # of these, with a near-duplicate in the fit split
    n_within: int = 0  # of these, with one among the audit images
    n_conflicts: int = 0  # pairs with different labels
    pairs: tuple[DuplicatePair, ...] = ()  # conflicts first, then those across the splits; the first few
    why_absent: str = ""
    unread: int = 0  # images that could not be read
