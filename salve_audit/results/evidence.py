"""Records of image reliance, measured by removing evidence from images and running the network again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from salve_audit.results.looks import ConceptLook, ConceptProperties
from salve_audit.results.schema import AS_CLASS
from salve_audit.results.seeing import Thumbnail


@dataclass(frozen=True)
class OcclusionCheck:
    """Agreement with another way of removing the same places: their bounding boxes covered with the mean colour."""

    concept: int  # index in concepts[]: the evidence regions that the class depends on most
    n: int  # of the images that show it those that were covered, 10 at most
    agreement: float  # share of these that are misclassified both ways, or neither
    low: float  # 95 % interval
    high: float
    kappa: float | None  # agreement beyond chance; None: both say the same of every image
    occluded: float  # drop of the class's accuracy with the boxes covered, to compare with the concept's effect
    occluded_low: float  # 95 % interval
    occluded_high: float


@dataclass(frozen=True)
class FactorEffect:
    """The effect of a global factor of the images on a class, both ways, beside its controls.

    Intervals are at 1 - 0.05 / (number of factors), so that all of a class hold together in 95 of 100 audits.
    """

    name: str  # for instance "border", "wide lower border", "colour", "mean field", "sharpness", "compression"
    removed: float  # share of the class's images that are misclassified without it; 0 in 0 to 1: it is only inserted
    low: float  # interval over images
    high: float
    chance: float | None = None  # the same of the other classes' images; None: in files of before, not run
    inserted: float | None = None  # share of other classes' images that become the class with it; None: not measured
    kind: str = ""  # of related factors: "border", "colour", "mean field", "sharpness", "compression"; empty: the name
    n: int = 0  # images of the class that it was removed from; 0 without `excess`: none, or in files of before all
    chance_low: float | None = None
    chance_high: float | None = None
    excess: float | None = None  # removed less chance
    excess_low: float | None = None  # above 0: beyond chance
    excess_high: float | None = None
    n_inserted: int = 0  # images of other classes that it was inserted into
    inserted_chance: float | None = None  # share that become the class with another class's inserted
    inserted_excess: float | None = None  # inserted less that
    inserted_excess_low: float | None = None  # above 0: beyond chance
    inserted_excess_high: float | None = None

    @property
    def is_removed(self) -> bool:
        """False for a factor that is only inserted, or that there was no time to remove."""
        return bool(self.n) or (self.low, self.high) != (0.0, 1.0)

    @property
    def is_inserted(self) -> bool:
        """True for a factor that was put into images of other classes; files of before do not say into how many."""
        return self.inserted is not None and self.n_inserted > 0

    @property
    def is_inserted_in_vain(self) -> bool:
        """True where inserting it does no more than another class's: the class may be known by what its images lack."""
        return self.is_inserted and self.inserted_excess_low is not None and self.inserted_excess_low <= 0

    @property
    def strength(self) -> float:
        """The larger excess over chance of removal and insertion, by which findings are ordered."""
        return max(self.excess or 0.0, self.inserted_excess or 0.0)


@dataclass(frozen=True)
class ImageReliance:
    """The dependence of one class on a single thing in the image."""

    n: int  # audit images examined
    n_correct: int  # of these, correct before anything is removed
    reliance: float  # largest drop of the class's accuracy when one concept or global factor is removed
    low: float  # 95 % interval over images
    high: float
    kind: str | None  # of that one: "region", or a global factor's ("border", "colour" ...); None: nothing lowers it
    concept: int | None  # its index in concepts[]
    redundancy: int | None  # evidence regions removed, strongest first, until accuracy <= 50 %; None: beyond the limit
    redundancy_low: int | None  # 95 % interval over images; None: beyond the limit
    redundancy_high: int | None
    redundancy_limit: int
    chance: float | None  # the drop by chance: random places shaped like the strongest region; None: not drawn
    thin: bool
    chance_low: float | None = None  # 95 % interval
    chance_high: float | None = None
    check: OcclusionCheck | None = None
    factors: tuple[FactorEffect, ...] = ()  # every global factor, that with the largest excess over chance first
    sufficient: str | None = None  # the one whose insertion turns most other images into the class, beyond chance
    examinations: int = 1  # 2: examined again on more images, since the first did not decide; the gate allows for it

    @property
    def is_by_chance(self) -> bool:
        """True where the 95 % interval of image reliance less chance contains zero.

        The interval of the difference is put together from those of the two shares, which takes them for independent:
        the images are the same, so it is rather too wide. Source: Newcombe, Statistics in Medicine 17, 1998,
        method 10.
        """
        if self.chance is None:
            return False
        if self.chance_high is None:  # written before chance had an interval
            return self.low <= self.chance
        return self.reliance - self.chance <= math.hypot(self.reliance - self.low, self.chance_high - self.chance)


@dataclass(frozen=True)
class ConceptEffect:
    """Drop of a class's accuracy when a concept is removed, in 0..1; negative where removing it helps."""

    class_name: str = field(metadata=AS_CLASS)
    drop: float
    low: float  # 95 % interval over images
    high: float


@dataclass(frozen=True)
class InsertedImage:
    """An image of another class with what one class depends on put into it."""

    path: str
    class_name: str = field(metadata=AS_CLASS)  # of the image
    image: Thumbnail
    predicted: str  # class that it then gets; empty: a tie


@dataclass(frozen=True)
class ConceptImage:
    """An image that shows a concept, and the same image without it."""

    path: str
    outlined: Thumbnail  # of a global factor: the image as it is
    without: Thumbnail
    flipped: bool  # the prediction flips without it
    heat: Thumbnail | None = None  # evidence for the class once stronger regions are gone, this one outlined
    image: Thumbnail | None = None  # as it is; None: not kept
    predicted: str = ""  # class that it gets without the concept; empty: not recorded, or a tie
    inserted: InsertedImage | None = None  # what is removed here, in an image of another class; None: not tried


@dataclass(frozen=True)
class ConceptRemoval:
    """The effect on predictions of removing a concept at every position of a layer, before the network's rest runs on.

    The removal is the projection that ``salve-audit edit --concept`` moves into the weights.
    """

    layer: str
    n: int  # images of the class that were correct
    drop: float  # share of these that are misclassified at strength 1
    low: float  # 95 % interval over images
    high: float
    strength: float | None  # smallest that flips an image, median over these; None: most stay correct at 1
    effect: tuple[ConceptEffect, ...]  # on every class examined, its own first: of images that were correct
    others: float | None  # mean drop of the other classes; None: there are none
    others_low: float | None
    others_high: float | None
    chance: float  # drop of its own class with as many random directions removed
    rank: int  # directions of the projection


@dataclass(frozen=True)
class ConceptInsertion:
    """What pasting a concept's regions over images of other classes does: whether it alone is enough."""

    n: int  # images of other classes
    inserted: float  # share that becomes the concept's class
    low: float  # 95 % interval
    high: float
    chance: float  # the same with random places of the same images pasted
    chance_high: float


@dataclass(frozen=True)
class Concept:
    """Something in the images of one class that the network reads."""

    index: int
    layer: str  # whose activations distinguish evidence regions; "image" for a global factor
    class_name: str = field(metadata=AS_CLASS)  # the class whose evidence it was found in
    channels: tuple[int, ...]  # of the layer, those that lose most where it is removed, strongest first
    mask_share: float  # of the positions of an image that show it, on average
    n_images: int  # images of the class that show it
    effect: tuple[ConceptEffect, ...]  # on its own class
    kind: str = "region"  # or a global factor's: "border", "colour" ...
    signature: tuple[float, ...] = ()  # what the layer loses where it is removed
    images: tuple[ConceptImage, ...] = ()  # empty too where images are kept out of the report
    removal: ConceptRemoval | None = None  # of the concepts that classes depend on most, where a projection exists
    factor: str = ""  # name of the global factor; empty: a region, or, in files of before, the kind is the name
    look: ConceptLook | None = None  # by which a later audit knows it again; None: a global factor, or an earlier file
    properties: ConceptProperties | None = None  # None: too few regions, or as above
    insertion: ConceptInsertion | None = None  # of each class's strongest region; a factor's is in factors[]


@dataclass(frozen=True)
class EvidenceInfo:
    """The settings of the image measure; `why_absent` is the reason where it was not made."""

    method: str  # in a few sentences
    layer: str = ""  # whose activations distinguish evidence regions
    n_per_class: int = 0  # images per class, at most
    n_passes: int = 0  # of one image through the network, a backward pass counted as two
    n_classes_left_out: int = 0  # less fragile classes that there was no time to measure
    why_absent: str = ""
    n_images: int = 0  # examined, of all classes
    share_of_audit: float | None = None  # what these are of the audit split; None: an earlier version wrote the audit
    not_removed: str = ""  # why no concept could be removed inside the network; empty: it could, or was not tried
    why_left_out: str = ""  # why classes were left out; empty: none were, or an earlier version wrote the audit
