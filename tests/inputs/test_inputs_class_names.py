"""Class names wherever a file keeps them, and the order in which scripts number class folders."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.labels.class_names import choose_class_names, find_class_names, read_class_names
from salve_audit.inputs.labels.matching import SORTED_ORDER, TIMM_ORDER, ClassOrder, match_classes
from salve_audit.inputs.labels.suspect import suspect_mapping
from salve_audit.inputs.model.checkpoint import load_classifier

ORDER = ("dog", "owl", "cat")
BY_INDEX = dict(enumerate(ORDER))
BY_NAME = {name: index for index, name in enumerate(ORDER)}


@pytest.mark.parametrize(
    "value",
    [
        list(ORDER),
        BY_INDEX,
        {str(index): name for index, name in BY_INDEX.items()},
        BY_NAME,
        {name: torch.tensor(index) for name, index in BY_NAME.items()},
        {name: np.int64(index) for name, index in BY_NAME.items()},
        np.array(ORDER),
        [{"id": 2, "name": "cat"}, {"id": 0, "name": "dog"}, {"id": 1, "name": "owl"}],
        {index: ["n000", name] for index, name in BY_INDEX.items()},
    ],
)
def test_forms_of_class_names(value: Any) -> None:
    assert read_class_names(value) == ORDER


@pytest.mark.parametrize("value", [{1: "a", 2: "b"}, {"a": 0, "b": 0}, ["a", 3], {}, [], "abc", {0: None}, {True: "a"}])
def test_what_is_no_list_of_names_in_output_order(value: Any) -> None:
    assert read_class_names(value) is None


@pytest.mark.parametrize(
    "content",
    [
        {"idx_to_class": BY_INDEX},
        {"meta": {"dataset_meta": {"classes": ORDER}}},
        {"meta": {"CLASSES": ORDER}},
        {"hyper_parameters": {"label2id": BY_NAME}},
        {"hyper_parameters": {"datamodule": {"class_names": list(ORDER)}}},
        {"args": argparse.Namespace(classes=list(ORDER))},
        {"vocab": list(ORDER)},
        {"names": BY_INDEX},
        {"config": {"data": {"categories": [{"name": name} for name in ORDER]}}},
    ],
)
def test_names_wherever_a_checkpoint_keeps_them(content: dict, save, tiny_state, tiny_arch) -> None:
    classifier = load_classifier(save({"state_dict": tiny_state, **content}), tiny_arch)
    assert classifier.class_names == ORDER
    assert any(decision.what == "class names" for decision in classifier.decisions)


def test_of_several_lists_the_one_with_a_name_for_each_output_is_taken_and_another_order_is_said() -> None:
    named = find_class_names({"classes": ["one", "two"], "class_to_idx": BY_NAME, "names": ["cat", "dog", "owl"]})
    chosen, conflict = choose_class_names(named, 3)
    assert chosen is not None
    assert (chosen.place, chosen.names) == ("class_to_idx", ORDER)
    assert conflict.startswith("names in the same file has another order")


def test_a_json_file_that_is_nothing_but_names(save, tiny_state, tiny_arch, tmp_path: Path) -> None:
    path = save(tiny_state)
    path.with_suffix(".json").write_text(json.dumps({str(index): name for index, name in BY_INDEX.items()}))
    assert load_classifier(path, tiny_arch).class_names == ORDER


def folders(*names: str) -> ImageSet:
    split = ImageSplit(tuple(f"{name}/1.png" for name in names), tuple(range(len(names))))
    return ImageSet(Path("data"), names, split, split, "")


def outputs(images: ImageSet, order: ClassOrder) -> tuple[dict[str, int], str]:
    matched = match_classes(images, len(images.classes), order=order)
    return dict(matched.pairs), matched.decisions[-1].conflict


TIMM, SORTED = ClassOrder(TIMM_ORDER, "timm's train.py"), ClassOrder(SORTED_ORDER, "torchvision's references")


def test_timm_numbers_folders_without_regard_to_case_and_by_number() -> None:
    assert outputs(folders("B2", "B10", "a"), TIMM)[0] == {"a": 0, "B2": 1, "B10": 2}
    assert outputs(folders("B10", "B2", "a"), SORTED)[0] == {"B10": 0, "B2": 1, "a": 2}


def test_timms_own_reader_agrees(tmp_path: Path) -> None:
    from timm.data.readers.reader_image_folder import find_images_and_targets

    names = ("x", "Zebra", "apple", "item12", "item2", "Item1", "_")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    _, class_to_idx = find_images_and_targets(str(tmp_path))
    assert outputs(folders(*sorted(names)), TIMM)[0] == class_to_idx


def test_where_both_orders_agree_nothing_is_warned_of() -> None:
    for order in (TIMM, SORTED, ClassOrder()):
        assert outputs(folders("cat", "dog", "owl"), order) == ({"cat": 0, "dog": 1, "owl": 2}, "")


def test_an_unknown_origin_keeps_torchvisions_order_and_names_timms() -> None:
    pairs, conflict = outputs(folders("Zebra", "apple"), ClassOrder())
    assert pairs == {"Zebra": 0, "apple": 1}
    assert "timm's train.py, which ignores case and counts numbers, would have 'apple' as output 0" in conflict


def test_names_in_another_order_than_the_scripts_own_are_taken_and_said() -> None:
    for names, conflict in (
        (("b", "a"), "would number class folders otherwise, with 'a' as output 0"),
        (("a", "b"), ""),
    ):
        matched = match_classes(folders("a", "b"), 2, names, order=SORTED)
        assert dict(matched.pairs) == {name: index for index, name in enumerate(names)}
        assert matched.decisions[-1].conflict.endswith(conflict)
        assert bool(matched.decisions[-1].conflict) is bool(conflict)


def test_a_class_map_that_is_not_in_the_file_is_said(save, tiny_state, tiny_arch) -> None:
    classifier = load_classifier(save({"state_dict": tiny_state, "args": {"class_map": "map.txt"}}), tiny_arch)
    said = next(decision for decision in classifier.decisions if decision.what == "class map")
    assert "--classes FILE" in said.conflict


def test_folders_called_by_numbers() -> None:
    names = tuple(sorted(map(str, range(11))))  # 0, 1, 10, 2, ...
    by_number = {str(index): index for index in range(11)}
    assert outputs(folders(*names), TIMM) == (by_number, "")
    assert "torchvision's ImageFolder sorts such names as text" in outputs(folders(*names), ClassOrder())[1]
    assert outputs(folders(*names), SORTED)[0]["10"] == 2


@pytest.mark.parametrize(
    ("args", "first"), [({"model": "m"}, "apple"), ({"val_crop_size": 64}, "Zebra"), ({"num_classes": 3}, "Zebra")]
)
def test_the_origin_is_known_by_what_the_script_leaves(args: dict, first: str, save, tiny_state, tiny_arch) -> None:
    content = {"arch": "m", "version": 2, "state_dict": tiny_state, "args": args}
    order = load_classifier(save(content), tiny_arch).class_order
    matched = match_classes(folders("Zebra", "apple", "beta"), 3, order=order)
    assert next(name for name, output in matched.pairs if output == 0) == first


def test_classes_matched_by_name_are_not_suspected_of_being_mapped_wrongly() -> None:
    images = folders("ostrich", "bird")
    assert match_classes(images, 2, ("bird", "ostrich")).matched_by_name
    assert not match_classes(images, 2).matched_by_name
    labels = np.repeat([0, 1, 2, 3], 50)
    swapped = np.array([1, 0, 2, 3])[labels]
    assert suspect_mapping(swapped, labels, 4) is not None
    assert suspect_mapping(swapped, labels, 4, matched_by_name=True) is None
    assert suspect_mapping(replace_all(labels), labels, 4, matched_by_name=True) is not None


def replace_all(labels: np.ndarray) -> np.ndarray:
    """Predictions at chance, which are a reason for a warning in any case."""
    return np.random.default_rng(0).permutation(labels)


def test_the_decision_is_kept_with_the_images() -> None:
    matched = match_classes(replace(folders("b", "a")), 2, ("a", "b"))
    assert str(matched.decisions[-1]) == "class order: 'a' = 0, 'b' = 1 (by the checkpoint's label names)"


class Encoder:
    """An object of another library that numbers the classes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    "content",
    [
        {"classes": np.array(ORDER)},
        {"classes": np.array(ORDER, dtype=object)},
        {"classes": np.array(ORDER, dtype="S3").astype("<U7")},
        {"class_to_idx": {name: np.int64(index) for name, index in BY_NAME.items()}},
        {"label_encoder": Encoder(classes_=np.array(ORDER))},
        {"hyper_parameters": {"le": Encoder(classes_=list(ORDER))}},
        {"idx_to_class": {index + 1: name for index, name in BY_INDEX.items()}},
        {"class_to_idx": {name: index + 1 for name, index in BY_NAME.items()}},
    ],
)
def test_names_in_objects_and_numbered_from_one(content: dict, save, tiny_state, tiny_arch) -> None:
    assert load_classifier(save({"state_dict": tiny_state, **content}), tiny_arch).class_names == ORDER


def test_names_in_an_object_that_cannot_be_read_are_said(save, tiny_state, tiny_arch) -> None:
    classifier = load_classifier(save({"state_dict": tiny_state, "classes": Encoder(a=1)}), tiny_arch)
    assert classifier.class_names is None
    said = [decision for decision in classifier.decisions if decision.what == "class names"]
    assert said[0].taken == "not read"
    assert "--classes FILE" in said[0].conflict


@pytest.mark.parametrize(
    "content", [{"mapping": BY_NAME}, {"extra": {"tokens": list(ORDER)}}, {"le_": {1: "dog", 2: "owl", 3: "cat"}}]
)
def test_other_lists_count_where_the_data_is_called_so(content: dict, save, tiny_state, tiny_arch) -> None:
    classifier = load_classifier(save({"state_dict": tiny_state, **content}), tiny_arch)
    assert classifier.class_names is None
    for classes, expected in ((("cat", "dog", "owl"), [2, 0, 1]), (("a", "b", "c"), [0, 1, 2])):
        split = ImageSplit(("0", "1", "2"), (0, 1, 2))
        matched = match_classes(ImageSet(Path(), classes, split, split, ""), 3, None, order=classifier.class_order)
        assert list(matched.fit.labels) == expected


@pytest.mark.parametrize("name", ["model.txt", "classes.txt", "labels.txt"])
@pytest.mark.parametrize("line", ["{name}", "{index} {name}", "{index}: {name}"])
def test_a_text_file_beside_the_checkpoint(name: str, line: str, save, tmp_path: Path, tiny_state, tiny_arch) -> None:
    path = save(tiny_state)
    (tmp_path / name).write_text("\n".join(line.format(name=own, index=index) for index, own in BY_INDEX.items()))
    split = ImageSplit(("0", "1", "2"), (0, 1, 2))
    images = ImageSet(Path(), ("cat", "dog", "owl"), split, split, "")
    matched = match_classes(images, 3, None, order=load_classifier(path, tiny_arch).class_order)
    assert matched.fit.labels == (2, 0, 1)
    assert matched.decisions[-1].why == f"by {name} beside the checkpoint"
