"""Backgrounds exchanged where masks are known: found where the network reads them, not where it reads the object."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from salve_audit.evidence.background import (
    NAME,
    OBJECT,
    MaskedImages,
    add_background,
    describe_exchanges,
    exchange_backgrounds,
    gather_masked,
)
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.data.masks import find_masks
from salve_audit.results import ImageReliance
from salve_audit.results.transform import TransformSpec

N, SIDE = 20, 24
BACKGROUND, THING = 0, 1  # channels
RECORD = ImageReliance(N, N, 0.1, 0.0, 0.2, None, None, None, None, None, 3, 0.0, False)


def draw(n_classes: int = 2) -> tuple[Tensor, np.ndarray, Tensor]:
    """Class k: background of level k in channel 0, and in a square a thing of level k in channel 1."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), N)
    images, masks = torch.zeros(len(labels), 3, SIDE, SIDE), torch.zeros(len(labels), 1, SIDE, SIDE)
    for row, label in enumerate(labels.tolist()):
        top, left = rng.integers(2, SIDE - 10, 2).tolist()
        images[row, BACKGROUND] = 1.0 + label
        images[row, BACKGROUND, top : top + 8, left : left + 8] = 0
        images[row, THING, top : top + 8, left : left + 8] = 1.0 + label
        masks[row, 0, top : top + 8, left : left + 8] = 1
    return images, labels, masks


def predict_by(channel: int):  # type: ignore[no-untyped-def]
    """A network that reads the largest value of one channel."""
    return lambda images: images[:, channel].amax((1, 2)).round().long().numpy() - 1


def gathered() -> MaskedImages:
    images, labels, masks = draw()
    found = gather_masked(
        labels, np.ones(len(labels), bool), lambda rows: images[torch.from_numpy(rows)], masks.__getitem__
    )
    assert found is not None
    return found


@pytest.mark.parametrize(("channel", "name"), [(BACKGROUND, NAME), (THING, OBJECT)])
def test_what_the_network_reads_is_what_costs(channel: int, name: str) -> None:
    images = gathered()
    exchanges = exchange_backgrounds(predict_by(channel), images, np.random.default_rng(1))
    effects = describe_exchanges(exchanges, images.labels, np.random.default_rng(2))
    for label in (0, 1):
        by_name = {effect.name: effect for effect in effects[label]}
        found, other = by_name[name], by_name[OBJECT if name == NAME else NAME]
        assert found.removed > 0.9
        assert (found.excess_low or 0) > 0.5
        assert other.removed < 0.1
        if name == NAME:
            assert (found.inserted, found.inserted_chance) == (1.0, 0.0)


def test_a_class_depends_on_its_background_and_never_on_its_object() -> None:
    images = gathered()
    for channel, kind in ((BACKGROUND, NAME), (THING, None)):
        exchanges = exchange_backgrounds(predict_by(channel), images, np.random.default_rng(1))
        effects = describe_exchanges(exchanges, images.labels, np.random.default_rng(2))
        records, concepts = add_background({0: RECORD, 1: RECORD}, (), effects, {0: 0.9, 1: 0.9}, ("a", "b"))
        assert [records[label].kind for label in (0, 1)] == [kind, kind]
        assert len(concepts) == (2 if kind else 0)
        assert {factor.name for factor in records[0].factors} == {NAME, OBJECT}
        assert records[0].factors[-1].name == OBJECT


def test_images_without_a_usable_mask_are_left_out() -> None:
    images, labels, masks = draw()
    masks[:N] = 1  # nothing but object
    load = lambda rows: images[torch.from_numpy(rows)]  # noqa: E731
    assert gather_masked(labels, np.ones(len(labels), bool), load, masks.__getitem__) is None
    assert gather_masked(labels, np.ones(len(labels), bool), load, lambda row: None) is None


@pytest.mark.parametrize("column", ["mask", "bbox", "BBox "])
def test_masks_and_boxes_are_prepared_as_images_are(tmp_path: Path, column: str) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    mask = np.zeros((20, 40), np.uint8)
    mask[5:15, 20:30] = 1
    Image.fromarray(mask).save(tmp_path / "a_mask.png")
    text = {"mask": "a_mask.png", "bbox": "20 5 30 15", "BBox ": "[20, 5, 10, 10]"}[column]
    split = ImageSplit(("a.png",), (0,))
    images = ImageSet(tmp_path, ("a",), split, split, "", attributes={column: {"a.png": text}})
    masks = find_masks(images)
    assert masks is not None
    spec = TransformSpec((3, 10, 10), (0.5,) * 3, (0.2,) * 3, "nearest", 1.0, "test")
    prepared = masks.preparer(spec)("a.png")  # the middle 20 x 20, halved: columns 10 to 30
    assert prepared is not None
    there = prepared[0] > 0.5
    assert there.sum() == 25
    assert there[2:8, 5:].sum() == 25
    assert masks.preparer(spec)("none.png") is None
    assert find_masks(dataclasses.replace(images, attributes={})) is None


def test_a_mask_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 255).save(tmp_path / "secret.png")
    (tmp_path / "data").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "data" / "a.png")
    split = ImageSplit(("a.png",), (0,))
    images = ImageSet(tmp_path / "data", ("a",), split, split, "", attributes={"mask": {"a.png": "../secret.png"}})
    masks = find_masks(images)
    assert masks is not None
    spec = TransformSpec((3, 4, 4), (0.5,) * 3, (0.2,) * 3, "nearest", 1.0, "test")
    assert masks.preparer(spec)("a.png") is None
