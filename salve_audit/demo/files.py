"""Writes a world as the image folder that any user would have, so that its audit takes the user's path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from salve_audit.demo.images import DrawnSplit, ImageKey, draw_split
from salve_audit.demo.world import World
from salve_audit.errors import OutputError


def write_world(world: World, folder: Path, n_train: int, n_val: int, seed: int) -> Mapping[str, DrawnSplit]:
    """Draws ``train/<class>/NNNNN.png`` and ``val/...``, so many per class, and returns what was drawn.

    Raises:
        OutputError: `folder` exists already or cannot be written; nothing is left of it then.
    """
    splits = {"train": draw_split(world, "train", n_train, seed), "val": draw_split(world, "val", n_val, seed)}
    partial = folder.with_name(folder.name + ".part")
    try:
        for drawn in splits.values():
            _write_split(world, partial, drawn)
        os.rename(partial, folder)
    except OSError as error:
        raise OutputError(str(folder), error.strerror or str(error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return splits


def image_path(world: World, key: ImageKey) -> str:
    """Path of an image below the folder, with posix separators."""
    return f"{key.split}/{world.class_names[key.label]}/{key.index:05d}.png"


def _write_split(world: World, folder: Path, drawn: DrawnSplit) -> None:
    for name in world.class_names:
        (folder / drawn.keys[0].split / name).mkdir(parents=True)
    for key, pixels in zip(drawn.keys, drawn.pixels, strict=True):
        Image.fromarray(pixels).save(folder / image_path(world, key), compress_level=1)
