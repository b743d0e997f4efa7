from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salve_audit.demo.files import image_path, write_world
from salve_audit.demo.images import draw
from salve_audit.demo.world import World
from salve_audit.errors import OutputError
from salve_audit.inputs.data.datasets import load_images


def test_is_an_image_folder_with_the_drawn_images(world: World, tmp_path: Path) -> None:
    splits = write_world(world, tmp_path / "data", 4, 3, seed=7)
    imageset = load_images(tmp_path / "data", seed=0)
    assert imageset.classes == world.class_names
    assert (len(imageset.fit.paths), len(imageset.audit.paths)) == (32, 24)
    for drawn, listed in ((splits["train"], imageset.fit), (splits["val"], imageset.audit)):
        assert [image_path(world, key) for key in drawn.keys] == list(listed.paths)
        assert drawn.labels.tolist() == list(listed.labels)
        for key, pixels, path in zip(drawn.keys, drawn.pixels, listed.paths, strict=True):
            stored = np.asarray(Image.open(tmp_path / "data" / path))
            np.testing.assert_array_equal(stored, pixels)
            np.testing.assert_array_equal(stored, draw(world, key).pixels)


def test_same_bytes_twice(world: World, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_world(world, tmp_path / name, 2, 1, seed=7)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.png"))
    assert len(files) == 24
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_keeps_what_is_there_and_leaves_nothing_behind(world: World, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("precious")
    with pytest.raises(OutputError, match=r"data: .*not empty"):
        write_world(world, tmp_path / "data", 1, 1, seed=0)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data" / "mine.txt").read_text() == "precious"


def test_unwritable_place(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Not a directory"):
        write_world(world, tmp_path / "file" / "data", 1, 1, seed=0)
