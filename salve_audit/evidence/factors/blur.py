"""Blur: of a lens out of focus, or of a camera that moved. It is only inserted: what it took is gone.

One square mean stands for all of them: on three networks with a class that depends on a blur, along one axis or both,
it turned more images into that class than a mean along either axis did.
"""

from __future__ import annotations

from torch.nn import functional

from salve_audit.evidence.factors.record import Factor, Pixels, Shift

LENGTH = 20  # the longer side over twice the reach of the mean, which is a pixel at least


def blur(images: Pixels, _: Shift) -> Pixels:
    """Mean of the pixels around each; the edges are repeated."""
    reach = max(1, round(max(images.shape[2:]) / LENGTH / 2))
    return functional.avg_pool2d(functional.pad(images, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)


FACTORS = (Factor("blur", "sharpness", 1.0, insert=blur, same_for_all=True),)
