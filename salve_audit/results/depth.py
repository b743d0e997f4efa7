"""What the classes rest on in the picture, measured by taking it out and asking the network again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from salve_audit.records import AS_CLASS
from salve_audit.results.seeing import Picture


@dataclass(frozen=True)
class OcclusionCheck:
    """What another way of taking the same places out says: their bounding boxes covered with the mean colour."""

    concept: int  # index in concepts[]: the one of places that the class rests on most
    n: int  # pictures that show it
    agreement: float  # share of these that turn wrong both ways, or neither
    low: float  # 95 % interval
    high: float
    kappa: float | None  # agreement beyond chance; None: both say the same of every picture
    occluded: float  # drop of the class's accuracy with the boxes covered, to set beside the concept's effect
    occluded_low: float  # 95 % interval
    occluded_high: float


@dataclass(frozen=True)
class ClassDepth:
    """Reliance of one class at depth."""

    n: int  # audit pictures examined
    n_correct: int  # of these, right before anything is removed
    reliance: float  # largest drop of the class's accuracy when any one concept is removed
    low: float  # 95 % interval over pictures
    high: float
    concept: int | None  # index in concepts[] of that one; None: none lowers the accuracy
    redundancy: (
        int | None
    )  # pieces taken out of each picture, strongest first, until accuracy is at most 50 %; None: not within limit
    redundancy_low: int | None  # 95 % interval over pictures; None: beyond the limit
    redundancy_high: int | None
    redundancy_limit: int
    null: float | None  # the same by chance: random places shaped like the strongest piece; None: not drawn
    thin: bool
    null_low: float | None = None  # 95 % interval
    null_high: float | None = None
    check: OcclusionCheck | None = None

    @property
    def is_by_chance(self) -> bool:
        """Whether the 95 % interval of reliance less its null contains zero.

        The interval of the difference is put together from those of the two shares, which takes them for independent:
        the pictures are the same, so it is rather too wide. Source: Newcombe, Statistics in Medicine 17, 1998,
        method 10.
        """
        if self.null is None:
            return False
        if self.null_high is None:  # written before the null had an interval
            return self.low <= self.null
        return self.reliance - self.null <= math.hypot(self.reliance - self.low, self.null_high - self.null)


@dataclass(frozen=True)
class ConceptEffect:
    """Drop of a class's accuracy when a concept is removed, in 0..1; negative where removing it helps."""

    class_name: str = field(metadata=AS_CLASS)
    drop: float
    low: float  # 95 % interval over pictures
    high: float


@dataclass(frozen=True)
class ConceptImage:
    """A picture that shows a concept, and the same with it taken out."""

    path: str
    outlined: Picture
    without: Picture
    lost: bool  # the class, with it taken out
    heat: Picture | None = None  # what speaks for the class where pieces before this one are gone, this one outlined


@dataclass(frozen=True)
class ConceptRemoval:
    """What a layer loses with a concept: taken out at every position, with the rest of the network run on.

    By the latents of a dictionary that write what the concept's pieces are, or as the projection that
    ``salve-audit edit --concept`` moves into the weights.
    """

    layer: str
    latents: tuple[int, ...]  # of the layer's dictionary, that write what the concept's pieces are, strongest first
    n_latents: int  # in that dictionary
    n: int  # pictures of the class that were right
    drop: float  # share of these that turn wrong at strength 1
    low: float  # 95 % interval over pictures
    high: float
    strength: float | None  # smallest that turns a picture wrong, median over these; None: most stay right at 1
    effect: tuple[ConceptEffect, ...]  # on every class examined, its own first: of pictures that were right
    others: float | None  # mean drop of the other classes; None: there are none
    others_low: float | None
    others_high: float | None
    null: float  # drop of its own class with as many random latents, or directions, taken out
    rank: int = 0  # directions of the projection; 0: latents were taken out


@dataclass(frozen=True)
class Concept:
    """Something in the pictures that the network reads, in one class."""

    index: int
    layer: str
    class_name: str = field(metadata=AS_CLASS)  # the class whose evidence it was found in
    latents: tuple[int, ...]  # coordinates of the layer that lose most where it is taken out, strongest first
    mask_share: float  # of the positions of a picture that show it, on average
    n_images: int  # pictures of the class that show it
    effect: tuple[ConceptEffect, ...]  # on its own class
    kind: str = "place"  # or "frame", "overall colour": taken out of the picture as a whole
    trait: tuple[float, ...] = ()  # its signature: what the layer loses where it is taken out
    images: tuple[ConceptImage, ...] = ()  # empty too where pictures are kept out of the report
    removals: tuple[ConceptRemoval, ...] = ()  # of the concepts that classes rest on most, where latents were asked for


@dataclass(frozen=True)
class Depth:
    """How reliance at depth was measured; `why_absent` says why not, where it was not."""

    method: str  # in one sentence
    layers: tuple[str, ...] = ()
    n_per_class: int = 0  # pictures per class, at most
    n_passes: int = 0  # of one picture through the network, a backward pass counted as two
    n_classes_left_out: int = 0  # less fragile classes that were too many to measure
    why_absent: str = ""
    n_pictures: int = 0  # examined, of all classes
    share_of_audit: float | None = None  # what these are of the audit split; None: an earlier version wrote the audit
    not_removed: tuple[str, ...] = ()  # layers at which no concept could be taken out, and why
