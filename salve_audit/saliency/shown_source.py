"""Images that were given prepared, as pixels for whoever looks at images instead of running a network on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from salve_audit.inputs.data.sources.source import ImageSource
from salve_audit.results import TransformSpec
from salve_audit.saliency.thumbnails import to_display_pixels


@dataclass(frozen=True)
class ShownSource:
    """Pixels (h, w, 3) of prepared images.

    Attributes:
        source: of prepared images (c, h, w).
        spec: how they are shown.
    """

    source: ImageSource
    spec: TransformSpec

    @property
    def resident_bytes(self) -> int:
        """Bytes that the wrapped source holds in memory."""
        return self.source.resident_bytes

    def read(self, key: str) -> UInt8[np.ndarray, "h w 3"]:
        """Pixels of the image `key`; raises as the wrapped source does."""
        prepared = np.asarray(self.source.read(key), np.float32)
        return to_display_pixels(prepared[None], self.spec.mean, self.spec.std)[0]


def shown_source(source: ImageSource, spec: TransformSpec) -> ImageSource:
    """The source itself, or, where its images were given prepared, one of their pixels."""
    return ShownSource(source, spec) if spec.is_prepared else source
