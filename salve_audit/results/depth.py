"""What the classes rest on in the picture, measured at a layer inside the network with its real tail."""

from __future__ import annotations

from dataclasses import dataclass, field

from salve_audit.records import AS_CLASS


@dataclass(frozen=True)
class ClassDepth:
    """Reliance of one class at depth."""

    n: int  # audit pictures examined
    n_correct: int  # of these, right before anything is removed
    reliance: float  # largest drop of the class's accuracy when any one concept is removed
    low: float  # 95 % interval over pictures
    high: float
    concept: int | None  # index in concepts[] of that one; None: none lowers the accuracy
    redundancy: int | None  # concepts removed, strongest first, until accuracy is at most 50 %; None: not within limit
    redundancy_low: int | None  # 95 % interval over pictures; None: beyond the limit
    redundancy_high: int | None
    redundancy_limit: int
    null: float | None  # the reliance that random concepts of the same size give; None: not drawn
    thin: bool


@dataclass(frozen=True)
class ConceptEffect:
    """Drop of a class's accuracy when a concept is removed, in 0..1; negative where removing it helps."""

    class_name: str = field(metadata=AS_CLASS)
    drop: float
    low: float  # 95 % interval over pictures
    high: float


@dataclass(frozen=True)
class Concept:
    """Something in the pictures that the network reads at a layer."""

    index: int
    layer: str
    class_name: str = field(metadata=AS_CLASS)  # the class whose evidence it was found in
    latents: tuple[int, ...]  # of the layer's dictionary
    mask_share: float  # of the positions of a picture that show it, on average
    n_images: int  # pictures of the class that show it
    effect: tuple[ConceptEffect, ...]  # its own class first, then those that it moves most


@dataclass(frozen=True)
class Depth:
    """How reliance at depth was measured; `why_absent` says why not, where it was not."""

    method: str  # in one sentence
    layers: tuple[str, ...] = ()
    n_per_class: int = 0  # pictures per class, at most
    n_passes: int = 0  # of one picture through the tail
    tail_share: float | None = None  # of the stage's time in the tail's forward passes: the floor
    why_absent: str = ""
