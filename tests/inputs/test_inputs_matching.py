"""Class folders against outputs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from salve_audit.errors import DataError
from salve_audit.inputs import ImageSet, ImageSplit, match_classes

IMAGES = ImageSet(
    root=Path("data"),
    classes=("cat", "dog", "emu"),
    fit=ImageSplit(("cat/1", "dog/1", "emu/1", "emu/2"), (0, 1, 2, 2)),
    audit=ImageSplit(("cat/3", "dog/3", "emu/3"), (0, 1, 2)),
    layout="",
)


@pytest.mark.parametrize("names", [None, ("cat", "dog", "emu")])
def test_sorted_folders_are_the_outputs_in_order(names) -> None:
    assert match_classes(IMAGES, 3, names) is IMAGES


def test_names_decide_where_they_are_the_folders() -> None:
    matched = match_classes(IMAGES, 3, ("emu", "cat", "dog"))
    assert matched.classes == ("emu", "cat", "dog")
    assert matched.fit == ImageSplit(IMAGES.fit.paths, (1, 2, 0, 0))
    assert matched.audit == ImageSplit(IMAGES.audit.paths, (1, 2, 0))
    for split in (matched.fit, matched.audit):
        assert [matched.classes[label] for label in split.labels] == [path[:3] for path in split.paths]


def test_other_names_are_warned_of(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert match_classes(IMAGES, 3, ("a", "b", "c")) is IMAGES
    assert caplog.messages == ["the checkpoint's class names are not the folders'; matched by order, sorted by name"]


@pytest.mark.parametrize(
    ("n_outputs", "names", "hint"),
    [
        (10, None, "one class folder per output is needed, in the outputs' order when sorted by name"),
        (4, ("cat", "dog", "emu", "fox"), "no folder for fox"),
        (9, ("cat", *"abcdefgh"), "no folder for a, b, c, d, e and others"),
        (2, ("cat", "dog"), "one class folder per output is needed, in the outputs' order when sorted by name"),
    ],
)
def test_a_mismatch_shows_both_counts(n_outputs: int, names, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        match_classes(IMAGES, n_outputs, names)
    assert str(caught.value) == f"data: 3 class folders, but the model has {n_outputs} outputs"
    assert caught.value.hint == hint
