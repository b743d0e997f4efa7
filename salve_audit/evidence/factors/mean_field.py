"""The mean field: what the images of a class have in common at low resolution, such as dark corners or a sky above."""

from __future__ import annotations

from torch.nn import functional

from salve_audit.evidence.factors.record import Factor, Pixels, Shift, Statistics

FIELD = 8  # cells along each side


def mean_field(images: Pixels) -> Statistics:
    """Each image's own 8 × 8 means."""
    return functional.adaptive_avg_pool2d(images, FIELD).flatten(1)


def shift_field(images: Pixels, shift: Shift) -> Pixels:
    """Add the target's mean image less the source's, smoothly."""
    difference = (shift.target - shift.source).view(-1, images.shape[1], FIELD, FIELD)
    size = (images.shape[2], images.shape[3])
    return images + functional.interpolate(difference, size, mode="bicubic", align_corners=False)


FACTORS = (Factor("mean field", "mean field", 1.0, shift_field, shift_field, mean_field, own_change=True),)
