"""Folders as users have them: other files, links, thumbnails, splits under many names, data sets of other tasks."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_files import load_image
from PIL import Image

from salve_audit.errors import DataError
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.results.decisions import Decision


def decision(images: ImageSet, what: str) -> Decision:
    return next(decision for decision in images.decisions if decision.what == what)


def counts(images: ImageSet) -> tuple[int, int]:
    return len(images.fit.paths), len(images.audit.paths)


def refusal(root: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        load_images(root, seed=0)
    return caught.value


@pytest.mark.parametrize("ending", ["jfif", "jpe", "ppm", "pgm", "pbm", "pnm", "PGM"])
def test_endings_that_torchvision_reads_and_others_of_the_same_formats(ending: str, make_folder) -> None:
    root = make_folder({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1})
    kind = {"j": "JPEG", "p": "PPM"}[ending[0].lower()]
    grey = ending.lower() in ("pgm", "pbm")
    Image.fromarray(np.full((9, 9), 77, np.uint8) if grey else np.full((9, 9, 3), 77, np.uint8)).save(
        root / "val" / "a" / f"x.{ending}", kind
    )
    images = load_images(root, seed=0)
    assert f"val/a/x.{ending}" in images.audit.paths
    assert load_image(root / f"val/a/x.{ending}").size == (9, 9)


def test_a_pgm_of_16_bits_is_scaled(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([0, 255, 128, 0]))
    assert np.asarray(load_image(tmp_path / "a.pgm", 1)).tolist() == [[0, 128]]


def test_other_files_are_counted_and_images_among_them_are_a_conflict(make_folder) -> None:
    root = make_folder({"a": 4, "b": 4})
    for index in range(3):
        (root / "a" / f"{index}.txt").write_text("notes")
    (root / "a" / "000.png").rename(root / "a" / "000")
    said = decision(load_images(root, seed=0), "other files")
    assert (said.taken, said.why) == ("4 left out", "by their endings: 3 .txt, 1 no ending")
    assert said.conflict == "files with no ending (PNG) are images by their first bytes"


HEIC = b"\0\0\0\x18ftypheic" + bytes(30)


@pytest.mark.parametrize("form", ["folder", "zip", "tar", "gztar"])
def test_images_of_formats_that_are_not_read_are_named_in_archives_too(form: str, make_folder, tmp_path: Path) -> None:
    root = make_folder({"a": 4, "b": 4})
    for index in range(3):
        (root / "b" / f"{index}.heic").write_bytes(HEIC)
    if form != "folder":
        root = Path(shutil.make_archive(str(tmp_path / "data"), form, root))
    said = decision(load_images(root, seed=0), "other files")
    assert (said.taken, said.why) == ("3 left out", "by their endings: 3 .heic")
    assert said.conflict == "files with .heic (HEIC) are images by their first bytes"


@pytest.mark.parametrize("classes", [("a", "b"), ("b",)])
def test_images_without_any_ending_are_called_what_they_are(classes: tuple[str, ...], make_folder) -> None:
    root = make_folder({"a": 3, "b": 3})
    for file in [file for name in classes for file in (root / name).iterdir()]:
        file.rename(file.with_suffix(""))
    assert (refusal(root).hint or "").startswith("files with no ending (PNG) are images by their first bytes")


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize("form", ["folder", "zip", "manifest"])
def test_images_that_are_pointers_are_refused_and_some_are_said(form: str, make_folder, tmp_path: Path) -> None:
    root = make_folder({"a": 5, "b": 5})
    files = sorted(root.rglob("*.png"))
    (root / "m.csv").write_text(
        "\n".join(["path,label", *(f"{f.parent.name}/{f.name},{f.parent.name}" for f in files)])
    )

    def given() -> Path:
        if form == "zip":
            return Path(shutil.make_archive(str(tmp_path / "data"), "zip", root))
        return root / "m.csv" if form == "manifest" else root

    files[0].write_text(POINTER)
    said = decision(load_images(given(), seed=0), "image files")
    assert (said.taken, said.conflict) == ("1 of 10 looked at are none", "git lfs pull fetches it")
    for file in files:
        file.write_text(POINTER)
    error = refusal(given())
    assert "files that stand for them: a/000.png is a Git LFS pointer" in error.why
    assert error.hint == "git lfs pull fetches it"


def test_links_in_a_tar_are_counted(make_folder, tmp_path: Path, caplog) -> None:
    root = make_folder({"a": 3, "b": 3})
    for index in range(3):
        (root / "a" / f"l{index}.png").symlink_to(f"00{index}.png")
    load_images(Path(shutil.make_archive(str(tmp_path / "data"), "tar", root)), seed=0)
    assert len(caplog.records) == 1
    assert caplog.records[0].message.endswith(".png' is a symbolic link, left out, as are 2 others")


@pytest.mark.skipif(os.name == "nt", reason="needs links")
@pytest.mark.parametrize("kind", ["files", "class folders", "part"])
def test_links_out_of_the_data_are_one_line_and_followed_on_demand(kind: str, make_folder, tmp_path: Path) -> None:
    store = make_folder({f"{part}/{name}": 5 for part in ("train", "val") for name in "ab"}, "store")
    root = tmp_path / "data"
    pattern = {"files": "*/*/*.png", "class folders": "*/*", "part": "*"}[kind]
    for target in sorted(store.glob(pattern)):
        link = root / target.relative_to(store)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    error = refusal(root)
    assert "links that lead out of the data are not followed" in error.why
    assert "--follow-links" in (error.hint or "")
    assert counts(load_images(root, seed=0, follow_links=True)) == (10, 10)


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_some_links_out_are_counted_and_broken_ones_named(make_folder, tmp_path: Path) -> None:
    root = make_folder({"a": 4, "b": 4})
    elsewhere = make_folder({"x": 1}, "elsewhere")
    (root / "a" / "out.png").symlink_to(elsewhere / "x" / "000.png")
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    images = load_images(root, seed=0)
    assert decision(images, "links").taken == "1 that lead out of the data not followed"
    assert decision(images, "broken links").taken == "1 left out"


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_linked_folders_inside_the_data_are_entered_once_and_circles_end(make_folder) -> None:
    root = make_folder({"a": 2, "b": 2, "a/more": 1})
    (root / "b" / "again").symlink_to(root / "a" / "more")
    (root / "b" / "round").symlink_to(root / "b")
    paths = [path for split in (load_images(root, seed=0).fit, load_images(root, seed=0).audit) for path in split.paths]
    assert sorted(path for path in paths if path.startswith("b/")) == ["b/000.png", "b/001.png", "b/again/000.png"]


@pytest.mark.parametrize("folder", ["@eaDir", "thumbs", "Thumbnails", "__MACOSX", "#recycle"])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_folders_of_file_servers_and_thumbnails_are_left_out_and_said(
    folder: str, form: str, make_folder, tmp_path: Path
) -> None:
    parts = {f"{part}/{name}": 3 for part in ("train", "val") for name in "ab"}
    root = make_folder({**parts, f"train/a/{folder}/x.png": 2, **({"@eaDir": 1} if folder == "@eaDir" else {})})
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for file in sorted(root.rglob("*.png")):
                if file.is_file():
                    archive.write(file, file.relative_to(root).as_posix())
        root = tmp_path / "data.zip"
    images = load_images(root, seed=0)
    assert counts(images) == (6, 6)
    assert images.classes == ("a", "b")
    if (form, folder) != ("zip", "__MACOSX"):
        assert folder in decision(images, "foreign folders").taken


def test_a_class_may_be_called_thumbs(make_folder) -> None:
    assert load_images(make_folder({"fists": 3, "thumbs": 3}), seed=0).classes == ("fists", "thumbs")


def test_images_that_are_called_as_thumbnails_are_taken_and_said(make_folder) -> None:
    root = make_folder({"a": 3, "b": 3})
    (root / "a" / "000.png").rename(root / "a" / "001_thumb.png")
    assert decision(load_images(root, seed=0), "thumbnails").taken == "1 images taken"


@pytest.mark.parametrize(
    ("fit", "audit"),
    [
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("Train_Images", "Val_Images"),
        ("train2017", "val2017"),
        ("trainset", "testset"),
        ("training_set/training_set", "test_set/test_set"),
    ],
)
def test_splits_under_longer_names_are_splits(fit: str, audit: str, make_folder) -> None:
    root = make_folder({f"{part}/{name}": 2 for part in (fit, audit) for name in "ab"})
    images = load_images(root, seed=0)
    assert images.classes == ("a", "b")
    assert {path.partition("/")[0] for path in images.audit.paths} == {audit.partition("/")[0]}


def test_splits_inside_of_the_class_folders(make_folder) -> None:
    root = make_folder({f"{name}/{part}": 2 for part in ("train", "test") for name in ("cat", "dog")})
    images = load_images(root, seed=0)
    assert images.classes == ("cat", "dog")
    assert images.audit.paths == ("cat/test/000.png", "cat/test/001.png", "dog/test/000.png", "dog/test/001.png")


@pytest.mark.parametrize("names", [("train", "test"), ("train_images", "test_images")])
def test_splits_without_class_folders_are_no_two_classes(names: tuple[str, str], make_folder) -> None:
    error = refusal(make_folder(dict.fromkeys(names, 4)))
    assert error.why == "images without labels: no class folders"
    assert "are called as splits" in (error.hint or "")


def test_training_images_alone_are_split_and_a_flat_test_folder_is_named(make_folder) -> None:
    images = load_images(make_folder({"train/a": 10, "train/b": 10, "test": 4}), seed=0)
    assert counts(images) == (12, 8)
    assert decision(images, "folder test").taken == "not used"
    assert "looks better there than it is" in decision(images, "audited part").conflict


def test_a_validation_part_with_hardly_any_images_gives_way_to_the_test_part(make_folder) -> None:
    root = make_folder({"train/a": 3, "train/b": 3, "val/a": 2, "val/b": 2, "test/a": 9, "test/b": 6})
    images = load_images(root, seed=0)
    assert images.layout == "train/ to fit, test/ to audit"
    said = decision(images, "audited part")
    assert (said.taken, said.why) == ("test/ (6 in its smallest class)", "val/ has 2 images in its smallest class")


YOLO = {"images/train": 3, "images/val": 3}
TASKS = {
    "yolo": (YOLO, ["labels/train/0.txt", "labels/val/0.txt"], "object detection"),
    "roboflow": (
        {"train/images": 3, "valid/images": 3},
        ["train/labels/0.txt", "valid/labels/0.txt"],
        "object detection",
    ),
    "voc": ({"JPEGImages": 3}, ["Annotations/0.xml"], "object detection"),
    "coco": ({"train2017": 3, "val2017": 3}, ["annotations/instances.json"], "object detection"),
    "segmentation": ({"images": 3, "masks": 3}, [], "segmentation"),
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_data_sets_of_other_tasks_are_called_what_they_are(name: str, form: str, make_folder, tmp_path: Path) -> None:
    folders, files, task = TASKS[name]
    root = make_folder(folders)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("0 .5 .5 .1 .1")
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for file in sorted(path for path in root.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(root).as_posix())
        root = tmp_path / "data.zip"
    assert f"looks like a data set of {task}" in refusal(root).why


@pytest.mark.parametrize("names", [("fold_0", "fold_1"), ("Fold1", "Fold2", "Fold3"), ("split-1", "split-2")])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_folds_are_no_classes_and_are_taken_together(names: tuple[str, ...], form: str, make_folder, tmp_path) -> None:
    root = make_folder({f"{fold}/{name}": 5 for fold in names for name in ("cat", "dog")})
    if form == "zip":
        root = Path(shutil.make_archive(str(tmp_path / "data"), "zip", root))
    images = load_images(root, seed=0)
    assert images.classes == ("cat", "dog")
    assert sum(counts(images)) == 10 * len(names)
    assert "the one that it was not trained on" in decision(images, "folds").conflict


def test_folds_with_parts_of_their_own_ask_for_one(make_folder) -> None:
    parts = {f"fold{k}/{part}/{name}": 2 for k in (0, 1) for part in ("train", "val") for name in "ab"}
    error = refusal(make_folder(parts))
    assert error.why == "2 folds, each with parts of its own"
    assert (error.hint or "").endswith("fold0")


@pytest.mark.parametrize("beside", ["masks", "Annotation", "labels"])
@pytest.mark.parametrize("place", ["", "train/", "whole"])
def test_masks_beside_images_are_no_classes(beside: str, place: str, make_folder) -> None:
    parts = ("train/", "val/") if place == "train/" else ("",)
    inner = ("train/", "val/") if place == "whole" else ("",)
    folders = [f"{kind}/{split}{name}" for kind in ("images", beside) for split in inner for name in ("cat", "dog")]
    images = load_images(make_folder({f"{part}{folder}": 5 for part in parts for folder in folders}), seed=0)
    assert images.classes == ("cat", "dog")
    assert sum(counts(images)) == 10 * len(parts) * len(inner)
    assert not any(f"{beside}/" in path for path in (*images.fit.paths, *images.audit.paths))
    assert decision(images, f"folder {beside}").taken == "not used"


def test_class_folders_below_images_are_classes(make_folder) -> None:
    root = make_folder({"images/cat": 3, "images/dog": 3})
    assert load_images(root, seed=0).classes == ("cat", "dog")
