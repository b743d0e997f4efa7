"""Class folders against outputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from salve_audit.errors import DataError, UsageError
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.labels.imagenet import load_imagenet
from salve_audit.inputs.labels.matching import match_classes

IMAGES = ImageSet(
    root=Path("data"),
    classes=("cat", "dog", "emu"),
    fit=ImageSplit(("cat/1", "dog/1", "emu/1", "emu/2"), (0, 1, 2, 2)),
    audit=ImageSplit(("cat/3", "dog/3", "emu/3"), (0, 1, 2)),
    layout="",
)


@pytest.mark.parametrize("names", [None, ("a", "b")])
def test_sorted_folders_are_the_outputs_in_order(names) -> None:
    matched = match_classes(IMAGES, 3, names)
    assert (matched.classes, matched.fit, matched.audit) == (IMAGES.classes, IMAGES.fit, IMAGES.audit)
    assert matched.mapping == "by order: classes sorted by name are outputs 0 to 2"


def test_names_decide_where_they_are_the_folders() -> None:
    matched = match_classes(IMAGES, 3, ("emu", "cat", "dog"))
    assert matched.classes == ("emu", "cat", "dog")
    assert matched.fit == ImageSplit(IMAGES.fit.paths, (1, 2, 0, 0))
    assert matched.audit == ImageSplit(IMAGES.audit.paths, (1, 2, 0))
    for split in (matched.fit, matched.audit):
        assert [matched.classes[label] for label in split.labels] == [path[:3] for path in split.paths]


@pytest.mark.parametrize("names", [("Emu", "CAT", "dog"), ("emu", "big cat", "dog")])
def test_names_may_differ_in_case_and_separators(names) -> None:
    images = dataclasses.replace(IMAGES, classes=("Big_Cat" if "big cat" in names else "cat", "dog", "emu"))
    matched = match_classes(images, 3, names)
    assert matched.classes == names
    assert matched.audit.labels == (1, 2, 0)
    assert matched.mapping == "by the checkpoint's label names"


def test_a_subset_by_name_keeps_the_others_as_rivals() -> None:
    matched = match_classes(IMAGES, 5, ("ant", "emu", "fox", "cat", "dog"))
    assert matched.classes == ("ant", "emu", "fox", "cat", "dog")
    assert matched.audit.labels == (3, 4, 1)
    assert matched.mapping == (
        "by the checkpoint's label names; 3 of 5 outputs have images, the others are rivals only"
    )


def test_other_names_are_warned_of() -> None:
    matched = match_classes(IMAGES, 3, ("a", "b", "c"))
    assert matched.audit == IMAGES.audit
    assert matched.decisions[-1].conflict == (
        "the checkpoint's class names are not the data's; matched by order: 'cat' is taken for 'a', "
        "'dog' is taken for 'b', 'emu' is taken for 'c'"
    )


def test_names_that_contradict_the_order_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        match_classes(IMAGES, 3, ("dog", "cat", "fox"))
    assert str(caught.value) == "data: 'cat' is output 1 by name but 'emu' is none"


@pytest.mark.parametrize(
    ("n_outputs", "names", "hint"),
    [
        (10, None, "one class per output is needed, in the outputs' order when sorted by name; or map"),
        (4, ("cat", "dog", "bee", "fox"), "no images of 'bee', 'fox'; map them by hand with --classes FILE"),
        (9, ("cat", *"abcdefgh"), "no images of 'a', 'b', 'c', 'd', 'e' and others; map them by hand"),
        (2, ("cat", "dog"), "one class per output is needed, in the outputs' order when sorted by name; or map"),
    ],
)
def test_a_mismatch_shows_both_counts(n_outputs: int, names, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        match_classes(IMAGES, n_outputs, names)
    has = "distinguishes 2 classes" if n_outputs == 2 else f"has {n_outputs} outputs"
    assert str(caught.value) == f"data: 3 classes, but the model {has}"
    assert caught.value.hint.startswith(hint)


def test_numbers_are_outputs() -> None:
    images = dataclasses.replace(IMAGES, classes=("0", "7", "11"), indices=(0, 7, 11))
    matched = match_classes(images, 12)
    assert matched.audit.labels == (0, 7, 11)
    assert matched.classes[7:9] == ("7", "output 8")
    assert matched.mapping.startswith("by index: labels are the outputs' numbers; 3 of 12 outputs have images")


def test_numbers_with_names_keep_the_names() -> None:
    images = dataclasses.replace(IMAGES, classes=("zero", "seven", "two"), indices=(0, 3, 2))
    assert match_classes(images, 4).classes == ("zero", "output 1", "two", "seven")


def test_labels_that_count_from_one_are_told() -> None:
    images = dataclasses.replace(IMAGES, classes=("1", "2", "3"), indices=(1, 2, 3))
    with pytest.raises(DataError) as caught:
        match_classes(images, 3)
    assert str(caught.value) == "data: the label 3 is no output: the model has 3 outputs, 0 to 2"
    assert caught.value.hint.startswith("its labels count from 1")


@pytest.mark.parametrize(
    ("classes", "outputs", "how"),
    [
        (("n01440764", "n02102040", "n03888257"), (0, 217, 701), "by WordNet id (imagenet-1k)"),
        (("English_springer", "parachute", "Tench"), (217, 701, 0), "by ImageNet name (imagenet-1k)"),
        (("goldfish", "Carassius auratus x", "tench"), None, ""),
    ],
)
def test_a_subset_of_imagenet(classes, outputs, how: str) -> None:
    """Output numbers as published with ImageNet's class list: tench 0, English springer 217, parachute 701."""
    images = dataclasses.replace(IMAGES, classes=classes)
    if outputs is None:
        with pytest.raises(DataError, match="1 of 3 classes are no imagenet-1k classes"):
            match_classes(images, 1000)
        return
    matched = match_classes(images, 1000)
    assert matched.audit.labels == outputs
    assert matched.mapping.startswith(f"{how}; 3 of 1,000 outputs")
    assert len(set(matched.classes)) == len(matched.classes) == 1000
    assert [matched.classes[output] for output in sorted(outputs)] == ["tench", "English springer", "parachute"]


def test_imagenet_ids_are_not_used_where_the_checkpoint_has_another_order() -> None:
    images = dataclasses.replace(IMAGES, classes=("n01440764", "n02102040", "n03888257"))
    with pytest.raises(DataError, match="3 classes, but the model has 1000 outputs"):
        match_classes(images, 1000, [f"thing {index}" for index in range(1000)])


def test_a_folder_for_every_imagenet_class_is_in_order() -> None:
    synsets = load_imagenet(1000).synsets
    images = dataclasses.replace(IMAGES, classes=synsets)
    assert match_classes(images, 1000).audit.labels == IMAGES.audit.labels


@pytest.mark.parametrize(
    "text",
    [
        "cat\t2\ndog\t0\n\nemu\t1\n",
        "# by hand\ncat,2\ndog , 0\nemu,1",
        '{"cat": 2, "dog": 0, "emu": "b"}',
        "cat,c\ndog,A\nemu,b\n",
    ],
)
def test_by_hand(text: str, tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text(text)
    matched = match_classes(IMAGES, 3, ("a", "b", "c"), tmp_path / "map.txt")
    assert matched.audit.labels == (2, 0, 1)
    assert matched.classes == ("dog", "emu", "cat")
    assert matched.mapping == "by hand: map.txt"


def test_by_hand_two_classes_may_share_an_output(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("cat,0\ndog,0\nemu,1")
    matched = match_classes(IMAGES, 2, None, tmp_path / "map.txt")
    assert (matched.classes, matched.audit.labels) == (("cat + dog", "emu"), (0, 0, 1))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "lists no classes"),
        ("cat", "line 1 is not understood"),
        ("cat,1\ncat,2", "'cat' is listed twice"),
        ('{"cat": 1, "cat": 2}', "'cat' is listed twice"),
        ('{"cat": [1]}', "the output of 'cat' is a list"),
        ("{", "not JSON"),
        ("cat,1\ndog,2", "no line for the class 'emu'"),
        ("cat,1\ndog,2\nemu,3", "3, given for 'emu', is no output of the model"),
        ("cat,1\ndog,2\nemu,zebra", "'zebra', given for 'emu', is no output of the model"),
    ],
)
def test_a_bad_file_is_named(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text(text)
    with pytest.raises((DataError, UsageError)) as caught:
        match_classes(IMAGES, 3, None, tmp_path / "map.txt")
    assert str(caught.value).startswith(f"{tmp_path / 'map.txt'}: ")
    assert why in str(caught.value)
