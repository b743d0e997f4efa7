"""Every form that DATA may take, audited through the command line: the numbers are those of the plain folder."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from dataset_files import (
    NAMES,
    OTHER_ORDER,
    SAME,
    SavedImage,
    add,
    write_folder,
    write_manifest,
    write_zip,
)
from PIL import Image

pytestmark = pytest.mark.slow

QUICK = (
    "--format",
    "json",
    "--interventions",
    "salve",
    "--no-cache",
    "--limit",
    "8",
    "--sae",
    "paper",
    "--evidence",
    "off",
    "--no-images",
)


@pytest.fixture(scope="module")
def images(colour_data: Path) -> list[SavedImage]:
    """The first 10 images of every class and split, in the order of their paths."""
    images = []
    for path in sorted(colour_data.rglob("00*.png")):
        split, name, _ = path.relative_to(colour_data).parts
        relative = path.relative_to(colour_data).as_posix()
        images.append(SavedImage(split, name, relative, path.read_bytes(), np.asarray(Image.open(path))))
    assert len(images) == 60
    return images


def audit(salve: Callable, model: Path, data: object, out: Path) -> dict:
    done = salve(model, data, "--out", out, *QUICK)
    assert done.code == 0, done.err
    return json.loads((out / "audit.json").read_text())


@pytest.fixture(scope="module")
def expected(colour_model: Path, images: list[SavedImage], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The audit of the plain folder."""
    from salve_audit.cli.app import run

    root = tmp_path_factory.mktemp("plain")
    data = write_folder(root / "data", images)
    assert run([str(colour_model), str(data), "--out", str(root / "out"), *QUICK]) == 0
    return json.loads((root / "out" / "audit.json").read_text())


@pytest.mark.parametrize("form", SAME)
def test_the_same_numbers_as_the_folder(
    form: str, salve: Callable, colour_model: Path, images: list[SavedImage], expected: dict, tmp_path: Path
) -> None:
    """Lossless forms with the images in the same order give the same audit to the last digit."""
    result = audit(salve, colour_model, SAME[form](tmp_path, images), tmp_path / "out")
    for class_record, other in zip(result["classes"], expected["classes"], strict=True):
        assert {**class_record, "name": ""} == {**other, "name": ""}
    assert (result["data"]["n_fit"], result["data"]["n_audit"]) == (24, 24)
    assert result["provenance"]["model_sha256"] == expected["provenance"]["model_sha256"]
    if not form.startswith("np"):  # pixels have other digests than files
        assert result["provenance"]["data_sha256"] == expected["provenance"]["data_sha256"]


@pytest.mark.parametrize("form", OTHER_ORDER)
def test_other_forms(
    form: str, salve: Callable, colour_model: Path, images: list[SavedImage], expected: dict, tmp_path: Path
) -> None:
    """Forms that are read in their own order: the same classes, accuracies as far as the images are the same."""
    result = audit(salve, colour_model, OTHER_ORDER[form](tmp_path, images), tmp_path / "out")
    assert (result["data"]["n_fit"], result["data"]["n_audit"], result["data"]["n_skipped"]) == (24, 24, 0)
    names = list(NAMES) if form in ("hub parquet", "save_to_disk") else ["0", "1", "2"]
    assert [class_record["name"] for class_record in result["classes"]] == names
    if not form.startswith("idx"):  # grey images
        assert [class_record["accuracy"] for class_record in result["classes"]] == [
            class_record["accuracy"] for class_record in expected["classes"]
        ]


def test_inspect_shows_layout_mapping_and_attributes(
    salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    done = salve("inspect", colour_model, write_manifest(tmp_path, images, "csv"))
    assert done.code == 0, done.err
    lines = dict(line.split("  ", 1) for line in done.out.splitlines())
    assert lines["layout"].strip() == "CSV manifest, train to fit, val to audit"
    assert lines["mapping"].strip() == "by order: classes sorted by name are outputs 0 to 2"
    assert lines["classes"].strip() == "3, all outputs: blue = 0, green = 1, red = 2"
    assert lines["attributes"].strip() == "camera"


@pytest.mark.parametrize(
    ("fit", "audits"),
    [("train", "val"), ("train", "test"), ("training", "validation"), ("Train", "Valid"), ("fit", "eval")],
)
def test_split_names(
    fit: str, audits: str, salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    done = salve("inspect", colour_model, write_folder(tmp_path, images, {"train": fit, "val": audits}))
    assert done.code == 0, done.err
    assert f"{fit}/ to fit, {audits}/ to audit" in done.out
    assert "30 to fit, 30 to audit" in done.out


def test_long_lists_and_names_are_shortened(salve: Callable, images: list[SavedImage], tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet", num_classes=30).state_dict(), tmp_path / "30.pt")
    for number in range(30):
        for i, image in enumerate(images[:4]):
            file = tmp_path / "data" / f"{number:02d}{'x' * 150}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image.content)
    done = salve("inspect", tmp_path / "30.pt", tmp_path / "data")
    assert done.code == 0, done.err
    lines = dict(line.split("  ", 1) for line in done.out.splitlines())
    assert lines["classes"].strip().startswith("30, all outputs: 00xxx")
    assert lines["classes"].endswith(" = 11 and 18 more")
    assert "x" * 50 not in done.out
    assert [line.split()[0] for line in done.out.splitlines() if "00xxx" in line] == ["classes", "taken"]


def test_by_the_checkpoints_label_names(
    salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    """The order of the outputs is that of the names in the file, not that of the folders."""
    content = torch.load(colour_model, weights_only=True)
    torch.save({**content, "class_names": ["Red", "blue", "GREEN"]}, tmp_path / "named.pt")
    done = salve("inspect", tmp_path / "named.pt", write_folder(tmp_path / "data", images))
    assert done.code == 0, done.err
    assert "by the checkpoint's label names" in done.out
    assert "red = 0 (Red), blue = 1, green = 2 (GREEN)" in done.out


def test_a_subset_of_imagenet_by_names(salve: Callable, images: list[SavedImage], tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet", num_classes=1000).state_dict(), tmp_path / "thousand.pt")
    names = {"blue": "English springer", "green": "parachute", "red": "tench"}
    data = write_folder(tmp_path / "data", [image._replace(name=names[image.name]) for image in images])
    done = salve("inspect", tmp_path / "thousand.pt", data)
    assert done.code == 0, done.err
    assert "3 of 1,000 outputs: tench = 0, English springer = 217, parachute = 701" in done.out


def test_folders_called_by_numbers(salve: Callable, images: list[SavedImage], tmp_path: Path) -> None:
    """By number, all or some of the outputs; what is no output's number is sorted as text, and said."""
    for n in (3, 12):
        torch.save(timm.create_model("test_resnet", num_classes=n).state_dict(), tmp_path / f"{n}.pt")
    for names in (("0", "1", "2"), ("2", "10", "3"), ("9", "2", "11")):
        renamed = dict(zip(NAMES, names, strict=True))
        write_folder(tmp_path / "-".join(names), [image._replace(name=renamed[image.name]) for image in images])
    assert "warning" not in salve("inspect", tmp_path / "3.pt", tmp_path / "0-1-2").err
    said = salve("inspect", tmp_path / "3.pt", tmp_path / "2-10-3")
    assert "timm's train.py, which ignores case and counts numbers, would have '2' as output 0" in said.out
    assert "10 = 0, 2 = 1, 3 = 2" in said.out
    assert "2 = 2, 9 = 9, 11 = 11" in salve("inspect", tmp_path / "12.pt", tmp_path / "9-2-11").out


def test_twelve_folders_called_by_numbers(salve: Callable, images: list[SavedImage], tmp_path: Path) -> None:
    """By number as the labels of a manifest are, and said that ImageFolder would sort them as text."""
    torch.save(timm.create_model("test_resnet", num_classes=12).state_dict(), tmp_path / "12.pt")
    for number in range(12):
        for i, image in enumerate(images[:4]):
            file = tmp_path / "data" / str(number) / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image.content)
    done = salve("inspect", tmp_path / "12.pt", tmp_path / "data")
    assert done.code == 0, done.err
    assert "9 = 9, 10 = 10, 11 = 11" in done.out
    assert "torchvision's ImageFolder sorts such names as text, with '10' as output 2" in done.out


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("header", [("path", "label", "split"), ("Filename", "Class", "Set")])
def test_separators_and_names_of_columns(
    mark: str, header: tuple[str, ...], salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    write_folder(tmp_path, images)
    rows = [header, *((image.path, image.name, image.split) for image in images)]
    (tmp_path / "list.csv").write_text("".join(mark.join(row) + "\n" for row in rows))
    done = salve("inspect", colour_model, tmp_path / "list.csv")
    assert done.code == 0, done.err
    assert "blue = 0, green = 1, red = 2" in done.out
    said = "(columns path: 'Filename', label: 'Class', split: 'Set')"
    assert (said in done.out) == (header[0] == "Filename")


def test_coordinates_are_no_labels(
    salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    write_folder(tmp_path, images)
    rows = "".join(f"{image.path},1,{i % 3},5,5,{image.name}\n" for i, image in enumerate(images))
    (tmp_path / "boxes.csv").write_text("path,x,y,w,h,breed\n" + rows)
    done = salve("inspect", colour_model, tmp_path / "boxes.csv")
    assert done.code == 0, done.err
    assert "CSV manifest (columns label: 'breed')" in done.out
    assert "x, y, w, h" in next(line for line in done.out.splitlines() if line.startswith("attributes"))


def test_a_quoted_file_of_classes(
    salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    names = {"blue": "cat, small", "green": "dog", "red": "a fox"}
    data = write_folder(tmp_path / "data", [image._replace(name=names[image.name]) for image in images])
    (tmp_path / "map.csv").write_text('"cat, small",2\n"dog", "0"\na fox,1\n')
    done = salve("inspect", colour_model, data, "--classes", tmp_path / "map.csv")
    assert done.code == 0, done.err
    assert "dog = 0, a fox = 1, cat, small = 2" in done.out


def test_what_is_no_data_is_named(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    done = salve("inspect", colour_model, colour_model)
    assert (done.code, done.err.splitlines()) == (
        2,
        [f"error: {colour_model}: is a model, no data", "hint: MODEL comes first, then DATA"],
    )
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x04.")
    assert "data_batch_1: is a pickle, which is code; not read" in salve("inspect", colour_model, tmp_path).err


def test_a_name_of_two_imagenet_classes(salve: Callable, images: list[SavedImage], tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet", num_classes=1000).state_dict(), tmp_path / "thousand.pt")
    names = {"blue": "crane", "green": "parachute", "red": "tench"}
    data = write_folder(tmp_path / "data", [image._replace(name=names[image.name]) for image in images])
    assert "'crane' may be n02012849 or n03126707" in salve("inspect", tmp_path / "thousand.pt", data).err


def test_a_gate_on_a_wrong_order_measures_nothing(
    salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    other = {"blue": "zebra", "green": "ape", "red": "monkey"}
    data = write_folder(tmp_path / "data", [image._replace(name=other[image.name]) for image in images])
    assert salve(colour_model, data, "--out", tmp_path / "out", *QUICK).code == 0
    assert salve("gate", tmp_path / "out", "--fail-under", 1).code == 2
    gated = salve(colour_model, data, "--out", tmp_path / "gated", "--fail-under", 1, *QUICK)
    assert gated.code == 2
    assert "nothing trustworthy was measured" in gated.err
    assert (tmp_path / "gated" / "audit.json").is_file()


def test_names_that_are_not_the_checkpoints_are_said(
    salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    content = torch.load(colour_model, weights_only=True)
    torch.save({**content, "class_names": ["blue", "green", "other"]}, tmp_path / "named.pt")
    done = salve("inspect", tmp_path / "named.pt", write_folder(tmp_path / "data", images))
    assert "matched by order: 'red' is taken for 'other'" in done.out


def test_of_two_images_with_one_key_the_plain_one_counts(
    salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    """Depth maps or masks beside the images of a WebDataset; the sorted first one would be the depth map."""
    for split in ("train", "val"):
        own = [image for image in images if image.split == split]
        with tarfile.open(tmp_path / f"{split}-0.tar", "w") as archive:
            for i, image in enumerate(own):
                add(archive, f"{i:05}.depth.png", b"no image")
                add(archive, f"{i:05}.png", image.content)
                add(archive, f"{i:05}.cls", str(NAMES.index(image.name)).encode())
    done = salve(colour_model, tmp_path, "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    assert "keys have several images, the plainest name counts" in done.err
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["data"]["skipped"] == []


def test_splits_inside_of_classes_are_taken_and_said(
    salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    for image in images:
        file = tmp_path / "data" / image.name / image.split / Path(image.path).name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image.content)
    done = salve("inspect", colour_model, tmp_path / "data")
    assert done.code == 0, done.err
    assert "train/ to fit, val/ to audit" in done.out
    assert "train/ and val/ inside the class folders (every class folder has these subfolders)" in done.out


def test_one_part_is_split(salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path) -> None:
    train = [image for image in images if image.split == "train"]
    flat = [image._replace(path=image.path.removeprefix("train/")) for image in train]
    done = salve("inspect", colour_model, write_zip(tmp_path, flat))
    assert done.code == 0, done.err
    assert "one folder per class, split 60/40 per class by seed 0" in done.out
    assert "18 to fit, 12 to audit" in done.out


def test_classes_by_hand(
    salve: Callable, colour_model: Path, images: list[SavedImage], expected: dict, tmp_path: Path
) -> None:
    """Renamed folders in another order, put right by a file."""
    other = {"blue": "zebra", "green": "ape", "red": "monkey"}
    data = write_folder(tmp_path / "data", [image._replace(name=other[image.name]) for image in images])
    (tmp_path / "map.csv").write_text("zebra,0\nape,1\nmonkey,2\n")
    done = salve(colour_model, data, "--classes", tmp_path / "map.csv", "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert [class_record["name"] for class_record in result["classes"]] == ["zebra", "ape", "monkey"]
    assert [class_record["accuracy"] for class_record in result["classes"]] == [
        class_record["accuracy"] for class_record in expected["classes"]
    ]
    shown = salve("inspect", colour_model, data, "--classes", tmp_path / "map.csv")
    assert "by hand: map.csv" in shown.out
    assert "zebra = 0, ape = 1, monkey = 2" in shown.out


def test_a_wrong_order_is_warned_of_with_the_right_one(
    salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path
) -> None:
    other = {"blue": "zebra", "green": "ape", "red": "monkey"}  # sorted: ape, monkey, zebra
    data = write_folder(tmp_path / "data", [image._replace(name=other[image.name]) for image in images])
    done = salve(colour_model, data, "--out", tmp_path / "out", *QUICK)
    assert "no better than chance" in done.err
    assert "ape -> output 1, monkey -> output 2, zebra -> output 0" in done.err
    assert "no better than chance" in (tmp_path / "out" / "audit.json").read_text()


def test_a_subset_of_imagenet_by_wordnet_ids(salve: Callable, images: list[SavedImage], tmp_path: Path) -> None:
    """As Imagenette: three folders of the thousand classes; the other outputs are rivals."""
    kwargs = {"channels": (8, 8, 16, 32), "stem_width": 8}
    state = timm.create_model("resnet10t", num_classes=1000, **kwargs).state_dict()
    args = {"num_classes": 1000, "img_size": 32, "model_kwargs": kwargs}
    torch.save({"arch": "resnet10t", "state_dict": state, "args": args}, tmp_path / "thousand.pt")
    ids = {"blue": "n01440764", "green": "n02102040", "red": "n03888257"}
    data = write_folder(tmp_path / "data", [image._replace(name=ids[image.name]) for image in images])
    shown = salve("inspect", tmp_path / "thousand.pt", data)
    assert "by WordNet id (imagenet-1k)" in shown.out
    names = "n01440764 = 0 (tench), n02102040 = 217 (English springer), n03888257 = 701 (parachute)"
    assert f"3 of 1,000 outputs: {names}" in shown.out
    done = salve(tmp_path / "thousand.pt", data, "--out", tmp_path / "out", "--format", "html,json", *QUICK[2:])
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert result["model"]["n_classes"] == 1000
    assert result["data"]["mapping"]["pairs"][1] == {"name": "n02102040", "output": 217}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Classes and outputs, matched by WordNet id (imagenet-1k); 3 of 1,000 outputs have images" in page
    assert re.search(r"n02102040<.{0,90}>217<.{0,90}>English springer<", page, re.DOTALL)
    occupied = [class_record for class_record in result["classes"] if class_record["n"]]
    assert [(class_record["index"], class_record["name"]) for class_record in occupied] == [
        (0, "tench"),
        (217, "English springer"),
        (701, "parachute"),
    ]


@pytest.mark.skipif(os.name == "nt", reason="such names are not allowed there")
def test_hostile_names_are_data(salve: Callable, colour_model: Path, images: list[SavedImage], tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "=cmd()\n::error::\x1b[31m", "\u202e" + "x" * 10_000]
    renamed = dict(zip(NAMES, names, strict=True))
    file = write_manifest(tmp_path, images, "jsonl")
    rows = [json.loads(line) for line in file.read_text().split("\n") if line]
    file.write_text("".join(json.dumps({**row, "label": renamed[row["label"]]}) + "\n" for row in rows))
    done = salve(colour_model, file, "--out", tmp_path / "out", "--format", "html,json", *QUICK[2:])
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert sorted(class_record["name"] for class_record in result["classes"]) == sorted(names)
    assert "<script>alert(1)" not in (tmp_path / "out" / "report.html").read_text()
    for text in (done.out, done.err):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert not any(line.startswith("::error") for line in text.splitlines())
