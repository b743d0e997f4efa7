"""Records of the images that features respond to, with heat maps, small enough to lie in audit.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from salve_audit.results.schema import AS_CLASS
from salve_audit.results.subject import SkippedFile


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG (RGB, without metadata) in base64, at the size at which it is shown."""

    width: int
    height: int
    jpeg: str


@dataclass(frozen=True)
class HeatMap:
    """A heat map laid over its image."""

    method: str  # "grad-fam", "grad-cam", or "integrated" for the sharper map beside them
    overlay: Thumbnail
    in_top_fifth: float | None  # share of the heat in the hottest fifth of the pixels (even: 0.2); None: a flat map
    faithful: float | None = None  # share of the score that its hottest fifth takes and brings back; None: not tried
    faithful_random: float | None = None  # the same of random fifths: a map that does no better shows no evidence
    overlap: float | None = None  # of its hottest fifth with the first map's of the image; None: it is the first


@dataclass(frozen=True)
class FeatureImage:
    """An audit image on which a feature is strong."""

    path: str  # also the key in `Seeing.images`, where it could be read again
    class_name: str = field(metadata=AS_CLASS)
    predicted: str
    code: float  # signed, in the units of the feature's codes
    maps: tuple[HeatMap, ...]  # Grad-FAM, then a sharper one; empty: the image could not be read again


@dataclass(frozen=True)
class SyntheticImage:
    """An image made to excite a feature (activation maximisation)."""

    image: Thumbnail
    code: float  # of exactly these pixels
    ratio: float | None  # to the strongest code on a real image; None: none fires in that direction


@dataclass(frozen=True)
class FeatureGallery:
    """The audit images with a feature's largest |code|, and the image made to excite it."""

    feature: int
    images: tuple[FeatureImage, ...]  # empty: it fires on no audit image
    synthetic: SyntheticImage | None = None


@dataclass(frozen=True)
class FragileImage:
    """An image that is right, and flips at a low strength of its class's dominant feature."""

    path: str
    alpha_hat: float
    flips_to: str
    maps: tuple[HeatMap, ...]  # Grad-CAM of the class, then a sharper one; empty: it could not be read again


@dataclass(frozen=True)
class ClassFragile:
    """The images of a class with the lowest flip thresholds."""

    class_name: str = field(metadata=AS_CLASS)
    feature: int  # the class's dominant one, which is suppressed
    images: tuple[FragileImage, ...]  # most fragile first; empty: none flips at any strength


@dataclass(frozen=True)
class Seeing:
    """Galleries of the dominant and shared features, and of the most fragile images of every class."""

    layer: str  # module whose output Grad-FAM and Grad-CAM are made of
    grid: tuple[int, ...]  # (height, width) of that output: no map of it is finer
    features: tuple[FeatureGallery, ...]  # dominant ones of the most fragile classes first, then shared ones
    fragile: tuple[ClassFragile, ...]  # most fragile class first
    images: Mapping[str, Thumbnail]  # path -> what the network saw of it
    n_features_left_out: int = 0
    n_classes_left_out: int = 0
    unreadable: tuple[SkippedFile, ...] = ()  # images lost or changed since their activations were computed
    sharp_layer: str = ""  # the same for the sharper maps beside them; "": there are none
    sharp_grid: tuple[int, ...] = ()
    why_absent: str = ""  # why there is nothing of all this; "" where there is
    why_no_synthetic: str = ""  # why no image was made by activation maximisation


def nothing_seen(why: str) -> Seeing:
    """The record of an audit without images."""
    return Seeing(layer="", grid=(), features=(), fragile=(), images={}, why_absent=why)
