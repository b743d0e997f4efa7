"""The request of an explanation. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from salve_audit.errors import UsageError

MOST_IMAGES = 64
MOST_FEATURES = 100
TOP = ""  # in place of a name: the feature that speaks most for the predicted class


@dataclass(frozen=True)
class ExplainRequest:
    """The request that `explain_images` answers.

    Attributes:
        model: the checkpoint file or folder that was audited.
        images: image files.
        audit: the audit's result folder, or its audit.json.
        suppress, enhance: a feature by number or name, a class for its dominant feature, ``feature=`` or ``class=``
            before it where it could be either, or `TOP`; None: no such edit. Suppression comes first.
        alpha_hat: of the edits.
        n_features: of those listed, the ones with the largest part of the logit.
        saliency_layer: module whose output the maps are made of; None: the last spatial layer.
        arch, head, weights, trust_model: as for the audit; None: the setting of the audit, as far as that runs no code.
        device: auto, cpu or cuda.
        insert: the class whose global factors are inserted into the images; None: none.
    """

    model: Path
    images: tuple[Path, ...]
    audit: Path
    suppress: str | None = None
    enhance: str | None = None
    alpha_hat: float = 1.0
    n_features: int = 10
    saliency_layer: str | None = None
    arch: str | None = None
    head: str | None = None
    weights: str | None = None
    trust_model: bool = False
    device: str = "auto"
    insert: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.alpha_hat < math.inf:
            raise UsageError("--alpha-hat", f"{self.alpha_hat:g} is not a positive number")
        if not 1 <= self.n_features <= MOST_FEATURES:
            raise UsageError("--features", f"{self.n_features} is not in 1..{MOST_FEATURES}")
        if not 1 <= len(self.images) <= MOST_IMAGES:
            raise UsageError("IMAGE", f"{len(self.images)} images, expected 1 to {MOST_IMAGES}")
