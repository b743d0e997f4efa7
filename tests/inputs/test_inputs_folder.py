"""Folders of labelled images: layouts, splits, limits, links, and every way a folder can be bad."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from salve_audit.errors import DataError
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.layout import EXTENSIONS

LAYOUT_HINT = "expected train/ and val/ with one folder per class, or one folder per class"


def message_of(root: Path, at: Path | None = None) -> tuple[str, str | None]:
    with pytest.raises(DataError) as caught:
        load_images(root, seed=0)
    text = str(caught.value)
    assert text.startswith(f"{at or root}: "), text
    return text.removeprefix(f"{at or root}: "), caught.value.hint


@pytest.mark.parametrize("audit", ["val", "test"])
def test_train_and_val_or_test(audit: str, make_folder) -> None:
    root = make_folder({"train/dog": 3, "train/cat": 2, f"{audit}/cat": 1, f"{audit}/dog": 2})
    imageset = load_images(root, seed=0)
    assert imageset.classes == ("cat", "dog")
    assert imageset.fit.paths == (
        "train/cat/000.png", "train/cat/001.png", "train/dog/000.png", "train/dog/001.png", "train/dog/002.png",
    )  # fmt: skip
    assert imageset.fit.labels == (0, 0, 1, 1, 1)
    assert imageset.audit.paths == (f"{audit}/cat/000.png", f"{audit}/dog/000.png", f"{audit}/dog/001.png")
    assert imageset.audit.labels == (0, 1, 1)
    assert imageset.layout == f"train/ to fit, {audit}/ to audit"


def test_val_is_preferred_to_test(make_folder) -> None:
    root = make_folder({f"{part}/{name}": 1 for part in ("train", "val", "test") for name in "ab"})
    assert load_images(root, seed=0).audit.paths == ("val/a/000.png", "val/b/000.png")


@pytest.mark.parametrize(("n", "n_fit"), [(2, 1), (3, 2), (5, 3), (10, 6), (11, 7)])
def test_one_level_is_split_60_40_per_class(n: int, n_fit: int, make_folder) -> None:
    imageset = load_images(make_folder({"a": n, "b": 10}), seed=3)
    assert imageset.fit.labels.count(0) == n_fit
    assert imageset.audit.labels.count(0) == n - n_fit
    assert imageset.fit.labels.count(1) == 6
    assert not set(imageset.fit.paths) & set(imageset.audit.paths)
    assert len(set(imageset.fit.paths + imageset.audit.paths)) == n + 10
    assert imageset.fit.paths == tuple(sorted(imageset.fit.paths))
    assert imageset.layout == "one folder per class, split 60/40 per class by seed 3"


def test_the_split_depends_on_the_seed_alone(make_folder) -> None:
    root = make_folder({"a": 20, "b": 20})
    assert load_images(root, seed=1) == load_images(root, seed=1)
    assert load_images(root, seed=1).fit != load_images(root, seed=2).fit


def test_limit_per_class_and_split(make_folder) -> None:
    root = make_folder({"train/a": 9, "train/b": 2, "val/a": 5, "val/b": 5})
    imageset = load_images(root, seed=0, limit=3)
    assert imageset.fit.labels == (0, 0, 0, 1, 1)
    assert imageset.audit.labels == (0, 0, 0, 1, 1, 1)
    assert imageset.fit.paths == tuple(sorted(imageset.fit.paths))
    assert imageset == load_images(root, seed=0, limit=3)
    assert imageset.fit.paths != load_images(root, seed=5, limit=3).fit.paths
    assert imageset.layout.endswith(", at most 3 images per class and split")


def test_endings_hidden_files_and_subfolders(make_folder) -> None:
    root = make_folder({"a/.hidden": 1, "a/deep/er": 1, "b": 2, ".git": 1})
    for name in ("x.JPG", "x.jpeg", "x.webp", "x.bmp", "x.tif", "x.tiff", "x.gif", ".secret.png", "notes.txt", "x.svg"):
        (root / "a" / name).write_bytes(b"")
    (root / "README.md").write_text("not a class")
    imageset = load_images(root, seed=0)
    linked_paths = {path for path in imageset.fit.paths + imageset.audit.paths if path.startswith("a/")}
    assert linked_paths == {f"a/x.{end}" for end in ("JPG", "jpeg", "webp", "bmp", "tif", "tiff", "gif")} | {
        "a/deep/er/000.png"
    }


def test_links_that_leave_the_folder_are_not_followed(make_folder, tmp_path: Path) -> None:
    root = make_folder({"a": 2, "b": 2})
    elsewhere = make_folder({"c": 2}, name="elsewhere")
    (root / "a" / "outside.png").symlink_to(elsewhere / "c" / "000.png")
    (root / "c").symlink_to(elsewhere / "c")
    (root / "a" / "inside.png").symlink_to(root / "b" / "000.png")
    (root / "a" / "circle").symlink_to(root)
    imageset = load_images(root, seed=0)
    assert imageset.classes == ("a", "b")
    paths = imageset.fit.paths + imageset.audit.paths
    assert {path for path in paths if path.startswith("a/")} == {"a/000.png", "a/001.png", "a/inside.png"}
    said = next(decision for decision in imageset.decisions if decision.what == "links")
    assert said.taken == "2 that lead out of the data not followed"


def test_the_root_itself_may_be_a_link(make_folder, tmp_path: Path) -> None:
    root = make_folder({"a": 2, "b": 2})
    (tmp_path / "link").symlink_to(root)
    assert load_images(tmp_path / "link", seed=0).root == root.resolve()


def test_missing(tmp_path: Path) -> None:
    assert message_of(tmp_path / "none") == ("no such file or folder", None)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert message_of(tmp_path / "data") == ("the file is empty", None)


def test_empty(tmp_path: Path) -> None:
    assert message_of(tmp_path) == ("no class folders", LAYOUT_HINT)


def test_class_folders_without_any_image(make_folder) -> None:
    hint = f"known endings: {', '.join(sorted(EXTENSIONS))}"
    assert message_of(make_folder({"a": 0, "b": 0})) == ("no images", hint)


def test_one_class_folder_without_images(make_folder) -> None:
    root = make_folder({"train/a": 1, "train/b": 0, "val/a": 1, "val/b": 1})
    assert message_of(root, root / "train" / "b") == ("a class folder without images", "fill it or remove it")


@pytest.mark.parametrize("counts", [{"a": 5}, {"train/a": 3, "val/a": 2}])
def test_one_class_only(counts: dict[str, int], make_folder) -> None:
    root = make_folder(counts)
    at = root / "train" if "train/a" in counts else root
    assert message_of(root, at) == ("one class only ('a'), an audit needs two or more", None)


@pytest.mark.parametrize(("extra", "having", "lacking"), [("train", "train", "val"), ("val", "val", "train")])
def test_a_class_in_one_split_only(extra: str, having: str, lacking: str, make_folder) -> None:
    root = make_folder({"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1, f"{extra}/odd": 1})
    assert message_of(root) == (f"the class 'odd' is in {having}/ but not in {lacking}/", None)


def test_one_image_cannot_be_split(make_folder) -> None:
    root = make_folder({"a": 1, "b": 3})
    assert message_of(root) == (
        "the class 'a' has 1 image, too few for two parts",
        "add images, or give train and val",
    )


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_a_file_name_that_is_not_utf8(make_folder) -> None:
    root = make_folder({"a": 2, "b": 2})
    try:
        (root / "a" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system refuses such names")
    assert message_of(root, root / "a") == ("the file name '\\udcff.png' is not UTF-8", "rename it")


@pytest.mark.shared_data
def test_the_real_images(cifar10: Path) -> None:
    imageset = load_images(cifar10, seed=0)
    assert (len(imageset.fit.paths), len(imageset.audit.paths)) == (10_000, 5_000)
    assert imageset.classes[3] == "cat"
    assert imageset.layout == "train/ to fit, val/ to audit"
