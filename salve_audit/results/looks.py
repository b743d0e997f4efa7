"""The look of a concept as text that outlives the network it was found in, and how alike two looks are.

Channels and layers say nothing of another network. Two audits share what the images show: how a concept's regions look
(`values`), and where they lie in the images that both examined (`places`). Needs neither torch nor numpy.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CELLS = 64  # of an image's side, in which places are given
MOST_PLACES = 16
LEAST_SHARED = 4  # images that both audits examined, for their places to say anything
SAME_PLACE = 0.5  # mean overlap of places in shared images from which two concepts may be the same
SAME_LOOK = 0.09  # distance of looks below which they are, where their places agree
SAME_LOOK_ALONE = 0.055  # where no images are shared
_LEVELS = 127

Box = tuple[int, int, int, int]  # top, left, bottom, right in cells; the last two exclusive


@dataclass(frozen=True)
class ConceptLook:
    """How the regions of a concept look and where they lie, without the network.

    Attributes:
        values: what `encode_values` makes of the regions' mean appearance; see the evidence package.
        places: bounding boxes in a few images, as `encode_places` writes them.
    """

    values: str
    places: str = ""


@dataclass(frozen=True)
class ConceptProperties:
    """What may tell an object from a shortcut: shown, never judged."""

    n: int  # regions of as many images
    alike: float  # mean correlation between crops of them: 1 for copies, about 0 for things that vary
    alike_chance: float  # of crops as large, anywhere in the same images
    place_spread: float  # standard deviation of their middles, as a share of the image's side
    place_chance: float  # of middles anywhere
    size_spread: float  # standard deviation of their sides over the mean


def encode_values(values: Sequence[float]) -> str:
    """Numbers of -1 to 1, in steps of 1/127, as text; what lies beyond is cut off."""
    levels = bytes(round(min(1.0, max(-1.0, value)) * _LEVELS) + _LEVELS + 1 for value in values)
    return base64.b64encode(levels).decode("ascii")


def decode_values(text: str) -> tuple[float, ...]:
    """The numbers in a text of `encode_values`; none where it is something else."""
    try:
        levels = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return ()
    return tuple((level - _LEVELS - 1) / _LEVELS for level in levels)


def name_image(path: str) -> str:
    """A short name for an image that does not give its path away: a hash of its folder and file name."""
    parts = path.replace("\\", "/").split("/")
    return hashlib.sha256("/".join(parts[-2:]).encode()).hexdigest()[:8]


def encode_places(boxes: Mapping[str, Box]) -> str:
    """Boxes by image name, for instance ``5c1f09ab:3,10,12,20 ...``, in the order of the names."""
    return " ".join(f"{name}:{','.join(map(str, boxes[name]))}" for name in sorted(boxes))


def decode_places(text: str) -> dict[str, Box]:
    """Boxes by image name; what does not read as a place is passed over."""
    boxes: dict[str, Box] = {}
    for part in text.split():
        name, _, numbers = part.partition(":")
        sides = numbers.split(",")
        if len(sides) == 4 and all(side.isdigit() for side in sides):
            boxes[name] = (int(sides[0]), int(sides[1]), int(sides[2]), int(sides[3]))
    return boxes


def look_distance(a: str, b: str) -> float:
    """Root mean square difference of two looks' values; infinite where they cannot be compared."""
    one, other = decode_values(a), decode_values(b)
    if not one or len(one) != len(other):
        return math.inf
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(one, other, strict=True)) / len(one))


def place_overlap(a: str, b: str) -> tuple[int, float]:
    """How many images both looks have places in, and the mean overlap there: of the smaller box, with the other."""
    one, other = decode_places(a), decode_places(b)
    shared = sorted(one.keys() & other.keys())
    if not shared:
        return 0, 0.0
    return len(shared), sum(_overlap(one[name], other[name]) for name in shared) / len(shared)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, height) * max(0, width)
    total = _area(a) + _area(b) - both
    return both / total if total else 0.0


def _area(box: Box) -> int:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def is_same_look(a: ConceptLook, b: ConceptLook) -> bool:
    """True where two concepts of one class in different audits are taken for the same thing."""
    distance = look_distance(a.values, b.values)
    n_shared, overlap = place_overlap(a.places, b.places)
    if n_shared >= LEAST_SHARED:
        return overlap >= SAME_PLACE and distance <= SAME_LOOK
    return distance <= SAME_LOOK_ALONE


def find_nearest(known: ConceptLook, others: Sequence[ConceptLook]) -> int | None:
    """Which of several concepts of one audit is taken for the known one: of those that may be, the nearest; None: none.

    Where a thing was found in two parts one of them stays unknown, which is safer than two things with one name.
    """

    def order(place: int) -> tuple[float, float]:
        _, overlap = place_overlap(known.places, others[place].places)
        return -overlap, look_distance(known.values, others[place].values)

    return min((place for place, other in enumerate(others) if is_same_look(known, other)), key=order, default=None)
