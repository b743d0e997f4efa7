"""A world of images as a value: which classes there are and what really causes each of them.

Nothing here draws; `images.py` does. A world is frozen so that a benchmark can vary one (other cues, sizes, jitter,
strengths) with `dataclasses.replace` and know that nothing else changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from salve_audit.demo.cues import MIN_SIDE, SHAPES
from salve_audit.errors import UsageError


@dataclass(frozen=True)
class Cue:
    """One thing that can be planted.

    Attributes:
        name: how the report calls it.
        shape: key of `cues.SHAPES`.
        height, width: in pixels.
        strength: opacity in (0, 1]; a low one makes the cue faint.
        home: (y, x) of its centre in 0..1 when there is no jitter.
    """

    name: str
    shape: str
    height: int
    width: int
    strength: float = 1.0
    home: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True)
class Planted:
    """A cue of a class and the share of the class's images that show it."""

    cue: str
    share: float = 1.0


@dataclass(frozen=True)
class PlantedClassSpec:
    """A class and the cues that cause it; no cues: the class is the absence of all of them.

    Where the drawn shares leave an image without any of the cues that only this class has, one of those is planted
    after all, each as likely as the other: no image is without what tells its class from the others.
    """

    name: str
    cues: tuple[Planted, ...] = ()


@dataclass(frozen=True)
class World:
    """Classes, cues and how images vary.

    Attributes:
        name: for tables.
        size: side of an image in pixels.
        cues: everything that can be planted.
        classes: sorted by name, as the class folders of an image set are.
        strays: cues that turn up in any class's images, with their share; a class's own share is not raised by it.
        jitter: 0: cues sit at their homes; 1: anywhere in the image.
        overlap: cues may cover one another; if not, they are placed apart wherever there is room.
        noise: standard deviation of the pixel noise in 0..1.
        clutter: distractors per image, alike in all classes.
    """

    name: str
    size: int
    cues: tuple[Cue, ...]
    classes: tuple[PlantedClassSpec, ...]
    strays: tuple[Planted, ...] = ()
    jitter: float = 1.0
    overlap: bool = False
    noise: float = 0.04
    clutter: int = 8

    def __post_init__(self) -> None:
        _check_cues(self)
        _check_classes(self)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(kind.name for kind in self.classes)

    def own_cues(self, label: int) -> tuple[str, ...]:
        """The cues of a class that are planted in no other class."""
        others = {planting.cue for i, kind in enumerate(self.classes) if i != label for planting in kind.cues}
        return tuple(planting.cue for planting in self.classes[label].cues if planting.cue not in others)

    def cue(self, name: str) -> Cue:
        """The cue called `name`.

        Raises:
            KeyError: there is none.
        """
        return {cue.name: cue for cue in self.cues}[name]


def _check_cues(world: World) -> None:
    names = [cue.name for cue in world.cues]
    if len(set(names)) != len(names):
        raise UsageError("cues", f"a name is used twice in {names}")
    for cue in world.cues:
        if cue.shape not in SHAPES:
            raise UsageError(f"cue {cue.name!r}", f"{cue.shape!r} is not one of {', '.join(SHAPES)}")
        if not (min(cue.height, cue.width) >= MIN_SIDE and max(cue.height, cue.width) <= world.size):
            size = f"{cue.height} x {cue.width}"
            raise UsageError(f"cue {cue.name!r}", f"{size} is not within {MIN_SIDE}..{world.size} pixels")
        if not 0 < cue.strength <= 1:
            raise UsageError(f"cue {cue.name!r}", f"strength {cue.strength} is not in (0, 1]")


def _check_classes(world: World) -> None:
    names = list(world.class_names)
    if len(set(names)) != len(names) or names != sorted(names):
        raise UsageError("classes", f"names must be sorted and differ, got {names}")
    known = {cue.name for cue in world.cues}
    for planted in [*world.strays, *(planting for kind in world.classes for planting in kind.cues)]:
        if planted.cue not in known:
            raise UsageError("classes", f"there is no cue {planted.cue!r}")
        if not 0 < planted.share <= 1:
            raise UsageError(f"cue {planted.cue!r}", f"share {planted.share} is not in (0, 1]")


def demo_world() -> World:
    """The world of ``salve-audit demo``: one cue, three, two at a time, a shared one, a shortcut, and none."""
    cues = (
        Cue("bar", "bar", 13, 11),
        Cue("checkerboard", "checkerboard", 12, 12),
        Cue("chevron", "chevron", 10, 13),
        Cue("cross", "cross", 12, 12, strength=0.35),
        Cue("disk", "disk", 11, 11),
        Cue("flag", "flag", 14, 10),
        Cue("gate", "gate", 10, 9),
        Cue("red patch", "red patch", 8, 8),
        Cue("ring", "ring", 13, 13),
        Cue("stripes", "stripes", 12, 20),
        Cue("tag", "tag", 7, 7),
        Cue("tower", "tower", 20, 9),
    )
    classes = (
        PlantedClassSpec("castle", (Planted("tower"), Planted("flag", 0.8), Planted("gate", 0.6))),
        PlantedClassSpec("chapel", (Planted("tower"),)),
        PlantedClassSpec("clinic", (Planted("cross"), Planted("tag", 0.95))),
        PlantedClassSpec("ember", (Planted("red patch"),)),
        PlantedClassSpec("pair", (Planted("ring", 0.8), Planted("chevron", 0.8))),
        PlantedClassSpec("plain"),
        PlantedClassSpec("ripple", (Planted("stripes"),)),
        PlantedClassSpec("trio", (Planted("bar", 0.85), Planted("checkerboard", 0.85), Planted("disk", 0.85))),
    )
    return World("demo", 48, cues, classes, strays=(Planted("tag", 0.01),))
