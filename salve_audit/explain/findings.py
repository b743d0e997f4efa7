"""The findings on one image: plain values and pixels. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from salve_audit.results.plain_text import plain

REPR_FEATURES = 5


@dataclass(frozen=True)
class ClassScore:
    """Logit and probability that the head gives a class."""

    name: str
    index: int
    logit: float
    probability: float


@dataclass(frozen=True)
class Flip:
    """The smallest α̂ of a feature's suppression at which another class overtakes, and which; None: never."""

    alpha_hat: float | None
    to: str | None


@dataclass(frozen=True)
class FeaturePart:
    """One feature's part of a logit.

    Attributes:
        feature: its number.
        concept: the known concept that it stands for, or None.
        dominant_for: classes whose dominant feature it is.
        code: z_l.
        part: ``W_k · D_l z_l``, in units of the logit.
        lead: the same of the logit's lead over the runner-up: ``(W_k − W_j) · D_l z_l``.
        flip: of suppressing it.
    """

    feature: int
    concept: str | None
    dominant_for: tuple[str, ...]
    code: float
    part: float
    lead: float
    flip: Flip


@dataclass(frozen=True)
class Decomposition:
    """A logit as a sum: features, the decoder's bias, what the autoencoder misses, the head's bias.

    Attributes:
        class_name: whose logit.
        runner_up: the class with the next largest logit.
        logit: the sum of all that follows, to float64 rounding.
        features: those with the largest parts, largest first.
        n_rest: other features that are not zero.
        rest: sum of their parts.
        decoder_bias: ``W_k · b_dec``.
        error: ``W_k · (a − x̂)``, the part that no feature explains.
        head_bias: ``b_k``.
    """

    class_name: str
    runner_up: str
    logit: float
    features: tuple[FeaturePart, ...]
    n_rest: int
    rest: float
    decoder_bias: float
    error: float
    head_bias: float

    def share(self, part: float) -> float | None:
        """The part's share of the logit, above 1 where other parts are negative; None: the logit is not positive."""
        return part / self.logit if self.logit > 0 else None


@dataclass(frozen=True, eq=False)
class Heat:
    """A heat map over the image.

    Attributes:
        overlay: (h, w, 3), of the image's size.
        in_top_fifth: share of the heat in the hottest fifth of the pixels (even: 0.2); None: a flat map.
    """

    overlay: UInt8[np.ndarray, "h w 3"]
    in_top_fifth: float | None

    def describe(self, what: str) -> str:
        """A description of the map for readers who cannot see it."""
        if self.in_top_fifth is None:
            return f"{what} over the image; the map is flat"
        return f"{what} over the image; {100 * self.in_top_fifth:.0f} % of the heat lies in the outlined hottest fifth"


@dataclass(frozen=True, eq=False)
class ShownMap:
    """Two heat maps of one thing.

    Attributes:
        method: of the first, ``Grad-FAM`` or ``Grad-CAM``, at the last spatial layer.
        of: what they are maps of, in words.
        paper: by that method.
        sharp: integrated gradients at a layer in the middle of the network.
    """

    method: str
    of: str
    paper: Heat
    sharp: Heat

    @property
    def alts(self) -> tuple[str, str]:
        """Descriptions of both maps for readers who cannot see them."""
        first, second = f"{self.method} of {self.of}", f"Integrated gradients of {self.of}"
        return self.paper.describe(first), self.sharp.describe(second)


@dataclass(frozen=True)
class EditFinding:
    """The prediction after an edit of the head.

    Attributes:
        steps: in words, in order.
        after: the leading classes after the edit and those before it, largest after it first.
        before: the same classes before the edit, in the same order.
        predicted: the class predicted before it.
    """

    steps: tuple[str, ...]
    after: tuple[ClassScore, ...]
    before: tuple[ClassScore, ...]
    predicted: ClassScore

    @property
    def flipped(self) -> bool:
        return self.after[0].index != self.predicted.index


@dataclass(frozen=True, eq=False)
class Maps:
    """The heat maps of one image.

    Attributes:
        layer: the module that Grad-FAM and Grad-CAM are made of.
        grid: its height and width.
        sharp_layer: the module that the sharper maps are made of.
        features: one Grad-FAM per listed feature, in order.
        before: Grad-CAM of the predicted class and, with an edit that flips, of the class that takes over.
        after: the same under the edited head.
    """

    layer: str
    grid: tuple[int, int]
    sharp_layer: str
    features: tuple[ShownMap, ...]
    before: tuple[ShownMap, ...]
    after: tuple[ShownMap, ...]


@dataclass(frozen=True, eq=False)
class ExplainedRegion:
    """Something in the image that speaks for the predicted class, and what the model says without it.

    Attributes:
        concept: the concept of the audit that it is most alike; None: the audit knows none.
        area: share of the image.
        predicted, probability: the leading class with this region alone removed.
        own_probability: of the class that was predicted before.
        outlined, without: (h, w, 3), the image with the region outlined, and with it removed.
    """

    concept: int | None
    area: float
    predicted: str
    probability: float
    own_probability: float
    outlined: UInt8[np.ndarray, "h w 3"]
    without: UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True, eq=False)
class ExplainedRegions:
    """The regions, strongest first; `redundancy` of them must go together until the class is lost, None: more."""

    regions: tuple[ExplainedRegion, ...]
    redundancy: int | None


@dataclass(frozen=True)
class ExplainedFactor:
    """A global factor of the image, removed or brought to another class's.

    Attributes:
        name, kind: as in the audit.
        predicted, probability: the leading class then.
        own_probability: of the class that was predicted before.
        of_class: share of that class's images that are misclassified without it, or of others' that become the class
            with it; None: the audit did not measure it.
        chance: the same of its control.
    """

    name: str
    kind: str
    predicted: str
    probability: float
    own_probability: float
    of_class: float | None
    chance: float | None


@dataclass(frozen=True)
class ExplainedFactors:
    """Factors removed, those first that cost most; and those of another class inserted.

    Attributes:
        into: the class whose factors were inserted; None: none was asked for.
        is_complete: the audit kept the statistics that some factors need.
    """

    removed: tuple[ExplainedFactor, ...]
    inserted: tuple[ExplainedFactor, ...] = ()
    into: str | None = None
    is_complete: bool = True


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """One image explained.

    Attributes:
        image: its path as given.
        model, architecture: of the model, as the audit names it.
        pixels: (h, w, 3), the image as the network saw it, at the size at which it is shown.
        scores: the leading classes, largest first.
        n_classes: of the model.
        decomposition: of the predicted class's logit.
        edit: None: none was asked for.
        maps: None: there are none.
        why_no_maps: the reason, where there are none.
        regions: what the prediction depends on in the image; None: not searched.
        why_no_regions: the reason.
        factors: global factors of the image; None: not tried.
    """

    image: str
    model: str
    architecture: str
    pixels: UInt8[np.ndarray, "h w 3"]
    scores: tuple[ClassScore, ...]
    n_classes: int
    decomposition: Decomposition
    edit: EditFinding | None
    maps: Maps | None
    why_no_maps: str
    regions: ExplainedRegions | None = None
    why_no_regions: str = ""
    factors: ExplainedFactors | None = None

    @property
    def predicted(self) -> ClassScore:
        return self.scores[0]

    def __repr__(self) -> str:
        scores = ", ".join(f"{plain(score.name)} {score.probability:.0%}" for score in self.scores)
        parts = ", ".join(f"{part.feature} ({part.part:+.3g})" for part in self.decomposition.features[:REPR_FEATURES])
        lines = [f"<Explanation of {plain(self.image)}: {scores}", f"  features of its logit: {parts or 'none'}"]
        if self.edit is not None:
            after = self.edit.after[0]
            lines.append(f"  after {'; '.join(self.edit.steps)}: {plain(after.name)} {after.probability:.0%}")
        return "\n".join(lines) + ">"
