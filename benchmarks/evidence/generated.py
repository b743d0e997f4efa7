"""The generated worlds of `worlds.py` as `scenes.Scenes`: cues drawn in noise, each to be left out."""

from __future__ import annotations

from collections.abc import Collection

from scenes import ClassPlan, Drawn
from shortcuts import REGION, Cue
from worlds import worlds

from salve_audit.demo.images import ImageKey, draw


class GeneratedScenes:
    """One world, its images drawn for one seed."""

    has_object = False

    def __init__(self, name: str, seed: int) -> None:
        self.world, self.seed = worlds()[name], seed
        self.side = self.world.size
        self.bank = {cue.name: Cue(cue.shape, REGION, None) for cue in self.world.cues}
        self.plans = [ClassPlan(kind.name, {cue.cue: cue.share for cue in kind.cues}) for kind in self.world.classes]

    def draw(self, part: str, label: int, index: int, without: Collection[str] = ()) -> Drawn:
        key = ImageKey(self.seed, "val" if part == "val" else "train", label, index)
        image = draw(self.world, key, tuple(without))
        own = {name: mask for name, mask in image.masks.items() if name in self.plans[label].cues}
        return Drawn(image.pixels, own)
