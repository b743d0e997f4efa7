"""Pictures of an audit as the templates print them: data URLs, with words for those who cannot see them."""

from __future__ import annotations

from dataclasses import dataclass

from salve_audit.report.tables import Shown, Thumbnails
from salve_audit.results import Picture, Seeing, TopImage

THUMB = 64  # CSS pixels of the longer side in a table


@dataclass(frozen=True)
class Tile:
    """Pictures one above the other, with lines below them; `made`: no photograph."""

    images: tuple[Shown, ...]
    lines: tuple[str, ...]
    made: bool = False


@dataclass(frozen=True)
class Strip:
    """Tiles side by side under one caption; `empty` is said where there are none."""

    heading: str
    note: str
    tiles: tuple[Tile, ...]
    empty: str = ""
    anchor: str = ""


def show(picture: Picture, alt: str, longest: int | None = None) -> Shown:
    """The picture at its own size, or with its longer side at `longest`."""
    scale = 1.0 if longest is None else longest / max(picture.width, picture.height)
    width, height = (max(1, round(scale * side)) for side in (picture.width, picture.height))
    return Shown(f"data:image/jpeg;base64,{picture.jpeg}", width, height, alt)


def thumbnails(images: tuple[TopImage, ...], seeing: Seeing | None, feature: int) -> Thumbnails | None:
    """Those of the images whose pictures lie in the galleries; None where none does."""
    pictures = seeing.pictures if seeing is not None else {}
    found = tuple(
        (show(pictures[one.path], f"Feature {feature}: {one.path}, class {one.class_name}", THUMB), one.class_name)
        for one in images
        if one.path in pictures
    )
    return Thumbnails(found) if found else None
