from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from salve_audit.demo.images import DemoImage, ImageKey, class_keys, draw, draw_many, draw_split
from salve_audit.demo.world import World, demo_world

N = 40


def _images(world: World, label: int, n: int = N, seed: int = 5) -> list[DemoImage]:
    return [draw(world, key) for key in class_keys("val", label, n, seed)]


def _digest() -> str:
    return hashlib.sha256(draw_split(demo_world(), "train", 3, 9).pixels.tobytes()).hexdigest()


def test_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from salve_audit.demo.images import draw_split; "
        "from salve_audit.demo.world import demo_world; "
        "print(hashlib.sha256(draw_split(demo_world(), 'train', 3, 9).pixels.tobytes()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == _digest()


def test_does_not_depend_on_the_order_of_drawing(world: World) -> None:
    drawn = draw_split(world, "train", 5, seed=2)
    shuffled = list(range(len(drawn.keys)))
    random.Random(0).shuffle(shuffled)
    for row in shuffled:
        np.testing.assert_array_equal(draw(world, drawn.keys[row]).pixels, drawn.pixels[row])
    np.testing.assert_array_equal(draw_split(world, "train", 2, seed=2).pixels[2:4], drawn.pixels[5:7])


def test_every_part_of_the_key_matters(world: World) -> None:
    keys = [ImageKey(s, split, c, i) for s in (0, 1) for split in ("train", "val") for c in (0, 1) for i in (0, 1)]
    assert len({draw(world, key).pixels.tobytes() for key in keys}) == len(keys)


def test_labels_follow_the_keys(world: World) -> None:
    drawn = draw_split(world, "val", 3, seed=0)
    assert drawn.labels.tolist() == [label for label in range(8) for _ in range(3)]
    assert drawn.pixels.shape == (24, world.size, world.size, 3)
    assert drawn.pixels.dtype == np.uint8


@pytest.mark.parametrize("overlap", [False, True])
def test_leaving_a_cue_out_changes_its_mask_and_nothing_else(world: World, overlap: bool) -> None:
    world = replace(world, overlap=overlap)
    for label in range(len(world.classes)):
        for key in class_keys("val", label, 12, seed=1):
            whole = draw(world, key)
            for cue, mask in whole.masks.items():
                without = draw(world, key, (cue,))
                changed = (whole.pixels != without.pixels).any(-1)
                assert not changed[~mask].any(), (key, cue)
                assert mask.any() or overlap
                if world.cue(cue).strength == 1:  # a faint cue may vanish in the rounding or under another
                    assert changed[mask].mean() > 0.95 or mask.sum() < 20, (key, cue)
                assert cue not in without.masks
                assert set(without.masks) == set(whole.masks) - {cue}


def test_a_faint_cue_is_there(world: World) -> None:
    label = world.class_names.index("clinic")
    shares = []
    for key in class_keys("val", label, N, seed=1):
        whole, without = draw(world, key), draw(world, key, ("cross",))
        shares.append((whole.pixels != without.pixels).any(-1)[whole.masks["cross"]].mean())
    assert np.mean(shares) > 0.9


def test_leaving_all_out_is_leaving_each_out(world: World) -> None:
    for key in class_keys("val", world.class_names.index("trio"), 10, seed=1):
        whole = draw(world, key)
        bare = draw(world, key, ("disk", "checkerboard", "bar", "tag"))
        assert not bare.masks
        touched = np.logical_or.reduce([*whole.masks.values()])
        assert not (whole.pixels != bare.pixels).any(-1)[~touched].any()


def test_draw_many_leaves_out_too(world: World) -> None:
    keys = class_keys("val", 0, 4, seed=1)
    many = draw_many(world, keys, ("flag",))
    np.testing.assert_array_equal(many, np.stack([draw(world, key, ("flag",)).pixels for key in keys]))


def test_cues_stay_apart_unless_allowed(world: World) -> None:
    label = world.class_names.index("trio")
    apart = sum(np.add.reduce([m.astype(int) for m in p.masks.values()]).max() > 1 for p in _images(world, label))
    assert apart == 0
    # full sizes are seen when nothing is covered, and parts of them are missing when it is
    sizes = [p.masks["checkerboard"].sum() for p in _images(world, label) if "checkerboard" in p.masks]
    assert set(sizes) == {12 * 12}
    mixed = _images(replace(world, overlap=True), label)
    assert min(p.masks["checkerboard"].sum() for p in mixed if "checkerboard" in p.masks) < 12 * 12


def test_jitter(world: World) -> None:
    label = world.class_names.index("ember")
    still = {p.masks["red patch"].tobytes() for p in _images(replace(world, jitter=0.0), label)}
    assert len(still) == 1
    centres = np.array([np.argwhere(p.masks["red patch"]).mean(0) for p in _images(world, label, 200)])
    assert np.ptp(centres, axis=0).min() > 0.9 * (world.size - 8 - 1)  # all of the image is used
    (mask,) = still
    home = np.argwhere(np.frombuffer(mask, bool).reshape(world.size, world.size)).mean(0)
    np.testing.assert_allclose(home, (world.size - 1) / 2)


def test_shares_are_as_planted(world: World) -> None:
    """Within 4 standard errors of a binomial share."""
    n = 800
    for name, cue, share in [("clinic", "tag", 0.95), ("clinic", "cross", 1.0), ("trio", "disk", 0.85)]:
        planted_share = np.mean([cue in p.masks for p in _images(world, world.class_names.index(name), n)])
        bound = 4 * np.sqrt(share * (1 - share) / n) + (0.006 if name == "trio" else 0)  # 0.15^3 are refilled
        assert abs(planted_share - share) <= bound, (name, cue, planted_share)
    stray = np.mean(["tag" in p.masks for c in (0, 3, 6) for p in _images(world, c, 300)])
    assert 0 < stray < 0.03


def test_no_image_is_without_what_tells_its_class(world: World) -> None:
    for label, kind in enumerate(world.classes):
        planted, own = {cue.cue for cue in kind.cues}, set(world.own_cues(label))
        for image in _images(world, label, 150):
            assert set(image.masks) - {"tag"} <= planted
            assert not own or own & set(image.masks)
    label = world.class_names.index("chapel")
    assert all({"tower"} == set(p.masks) - {"tag"} for p in _images(world, label))


def test_backgrounds_do_not_tell_the_class(world: World) -> None:
    """With every cue left out, class means differ no more than images of one class do."""
    names = tuple(cue.name for cue in world.cues)
    means = [draw_many(world, class_keys("val", c, 100, 3), names).mean((1, 2)) for c in range(8)]  # (100, 3) each
    overall = np.concatenate(means)
    for mean in means:
        z = np.abs(mean.mean(0) - overall.mean(0)) / (overall.std(0) / np.sqrt(len(mean)))
        assert z.max() < 4.5
