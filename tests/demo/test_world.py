from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from salve_audit.demo.world import Cue, Planted, PlantedClassSpec, World, demo_world
from salve_audit.errors import UsageError

CUES = (Cue("a", "disk", 9, 9), Cue("b", "ring", 9, 9))


def test_demo_world_has_every_kind_of_cause(world: World) -> None:
    kinds = {kind.name: kind for kind in world.classes}
    assert len(kinds) == 8
    n_cues = sorted(len(kind.cues) for kind in world.classes)
    assert n_cues == [0, 1, 1, 1, 2, 2, 3, 3]
    shared = [cue for cue in (c.name for c in world.cues) if sum(_has(kind, cue) for kind in world.classes) > 1]
    assert shared == ["tower"]
    assert world.own_cues(world.class_names.index("castle")) == ("flag", "gate")
    assert world.own_cues(world.class_names.index("chapel")) == ()
    assert Planted("tag", 0.95) in kinds["clinic"].cues
    assert world.cue("cross").strength < 0.5
    assert 48 <= world.size <= 96


def _has(kind: PlantedClassSpec, cue: str) -> bool:
    return any(own_cue.cue == cue for own_cue in kind.cues)


def test_is_a_value() -> None:
    assert demo_world() == demo_world()
    assert hash(demo_world()) == hash(demo_world())
    assert replace(demo_world(), jitter=0.0) != demo_world()
    with pytest.raises(FrozenInstanceError):
        demo_world().size = 64  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cues": (CUES[0], CUES[0])}, "cues: a name is used twice in ['a', 'a']"),
        ({"cues": (replace(CUES[0], shape="cube"), CUES[1])}, "cue 'a': 'cube' is not one of bar, "),
        ({"cues": (replace(CUES[0], width=40), CUES[1])}, "cue 'a': 9 x 40 is not within 5..32 pixels"),
        ({"cues": (replace(CUES[0], strength=0.0), CUES[1])}, "cue 'a': strength 0.0 is not in (0, 1]"),
        ({"classes": (PlantedClassSpec("y"), PlantedClassSpec("x"))}, "classes: names must be sorted"),
        ({"classes": (PlantedClassSpec("x", (Planted("c"),)),)}, "classes: there is no cue 'c'"),
        ({"strays": (Planted("a", 1.5),)}, "cue 'a': share 1.5 is not in (0, 1]"),
    ],
)
def test_refuses_what_cannot_be_drawn(change: dict[str, object], message: str) -> None:
    sound = {"name": "t", "size": 32, "cues": CUES, "classes": (PlantedClassSpec("x", (Planted("a"),)),)}
    World(**sound)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as caught:
        World(**(sound | change))  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
