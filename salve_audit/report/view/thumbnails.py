"""Images of an audit as the templates print them: data URLs, with words for those who cannot see them."""

from __future__ import annotations

from dataclasses import dataclass

from salve_audit.report.tables import Shown, Thumbnails
from salve_audit.results import Seeing, Thumbnail, TopImage

THUMB = 64  # CSS pixels of the longer side in a table


@dataclass(frozen=True)
class Tile:
    """Images one above the other, with lines below them; `visualisation`: a feature visualisation, not a photograph."""

    images: tuple[Shown, ...]
    lines: tuple[str, ...]
    visualisation: bool = False


@dataclass(frozen=True)
class Strip:
    """Tiles side by side under one caption; `empty` is said where there are none."""

    heading: str
    note: str
    tiles: tuple[Tile, ...]
    empty: str = ""
    anchor: str = ""


def show(image: Thumbnail, alt: str, longest: int | None = None) -> Shown:
    """The image at its own size, or with its longer side at `longest`."""
    scale = 1.0 if longest is None else longest / max(image.width, image.height)
    width, height = (max(1, round(scale * side)) for side in (image.width, image.height))
    return Shown(f"data:image/jpeg;base64,{image.jpeg}", width, height, alt)


def thumbnails(images: tuple[TopImage, ...], seeing: Seeing | None, feature: int) -> Thumbnails | None:
    """Thumbnails of the images that the galleries hold; None where they hold none."""
    gallery_images = seeing.images if seeing is not None else {}
    strip_images = tuple(
        (
            show(gallery_images[image.path], f"Feature {feature}: {image.path}, class {image.class_name}", THUMB),
            image.class_name,
        )
        for image in images
        if image.path in gallery_images
    )
    return Thumbnails(strip_images) if strip_images else None
