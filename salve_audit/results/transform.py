"""The steps from an image to a tensor, as one record from the checkpoint's settings to audit.json."""

from __future__ import annotations

from dataclasses import dataclass, fields

STORED, UPRIGHT = "stored", "upright"  # what becomes of an EXIF orientation
PREPARED = "none"  # in place of an interpolation: images were given as tensors that the network takes


@dataclass(frozen=True)
class TransformSpec:
    """The evaluation transform, in the names that timm gives its settings.

    Attributes:
        input_size: (channels, height, width).
        mean, std: per channel, in 0..1.
        interpolation: timm's name, for instance ``bicubic``; `PREPARED`: images were given as tensors.
        crop_pct: share of the resized image that the crop keeps.
        source: "checkpoint" or "architecture default (timm)", or a mixture in words.
        crop_mode: timm's name for how the crop is taken: ``center``, ``squash`` or ``border``. An audit.json written
            before the field existed is read as ``center``.
        orientation: ``stored``: an EXIF orientation is ignored, as torchvision's and timm's loaders do; ``upright``:
            images are turned by it. An audit.json written before the field existed is read as ``upright``.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    source: str
    crop_mode: str = "center"
    orientation: str = UPRIGHT

    @property
    def is_prepared(self) -> bool:
        """True where images were given as the network takes them, so that mean and std only show them."""
        return self.interpolation == PREPARED


# What a file may say of it: checkpoints, JSON files, ONNX metadata and the user's code all use these names.
TRANSFORM_FIELDS = tuple(field.name for field in fields(TransformSpec) if field.name != "source")
