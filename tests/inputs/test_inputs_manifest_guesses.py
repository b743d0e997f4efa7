"""Tables as they come: flags instead of splits, ids instead of paths, labels under any name or as zeros and ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_data import png

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import choose_audit_part, guess_role
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.imageset import ImageSet


def write_images(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((6, 6, 3), np.uint8)).save(folder / name)


def write_csv(file: Path, columns: dict[str, list[Any]]) -> Path:
    rows = zip(*columns.values(), strict=True)
    file.write_text("\n".join(",".join(map(str, row)) for row in (tuple(columns), *rows)) + "\n")
    return file


def counts(images: ImageSet) -> tuple[int, int]:
    return len(images.fit.paths), len(images.audit.paths)


NAMES = [f"{name}{index}.png" for name in "ab" for index in range(10)]
LABELS = [name[0] for name in NAMES]
THIRD = [index % 5 == 0 for index in range(20)]  # 4 of them


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("is_valid", THIRD, (16, 4)),
        ("Is_Valid", ["TRUE" if flag else "FALSE" for flag in THIRD], (16, 4)),
        ("valid", THIRD, (16, 4)),
        ("isVal", [int(flag) for flag in THIRD], (16, 4)),
        ("Val Set", ["Y" if flag else "N" for flag in THIRD], (16, 4)),
        ("dev", THIRD, (16, 4)),
        ("eval", THIRD, (16, 4)),
        ("is-test", THIRD, (16, 4)),
        ("is_test", [int(flag) for flag in THIRD], (16, 4)),
        ("is_train", [not flag for flag in THIRD], (16, 4)),
        ("is_training_image", ["yes" if not flag else "no" for flag in THIRD], (16, 4)),
        ("Usage", ["PublicTest" if flag else "Training" for flag in THIRD], (16, 4)),
        ("phase", ["val_1" if flag else "train_1" for flag in THIRD], (16, 4)),
    ],
)
def test_columns_that_mark_the_part_of_an_image(column: str, values: list, expected: tuple, tmp_path: Path) -> None:
    write_images(tmp_path, NAMES)
    images = load_images(write_csv(tmp_path / "l.csv", {"path": NAMES, "label": LABELS, column: values}), seed=0)
    assert counts(images) == expected
    assert not images.attributes


def test_other_columns_of_yes_and_no_with_a_splits_word_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, NAMES)
    columns = {"path": NAMES, "label": LABELS, "my_val_flag": THIRD, "sharp": THIRD, "interval": THIRD}
    images = load_images(write_csv(tmp_path / "l.csv", columns), seed=0)
    said = [decision for decision in images.decisions if decision.what == "split"]
    assert [decision.taken for decision in said] == ["not from 'my_val_flag'"]
    assert "call it is_valid or is_test" in said[0].conflict
    assert counts(images) == (12, 8)


def test_a_flag_in_a_table_of_images(tmp_path: Path) -> None:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = pa.array([{"bytes": png(i), "path": ""} for i in range(12)], kind)
    flags = {"is_test": [i % 4 == 0 for i in range(12)], "sharp": [i % 2 == 0 for i in range(12)]}
    flags["old_test"] = flags["sharp"]
    table = pa.table({"image": cells, "label": [i // 4 for i in range(12)], **flags})
    pq.write_table(table, tmp_path / "t.parquet")
    images = load_images(tmp_path / "t.parquet", seed=0)
    assert counts(images) == (9, 3)
    assert set(images.attributes) == {"sharp", "old_test"}
    assert [decision.taken for decision in images.decisions] == ["9 rows to fit", "not from 'old_test'"]


def test_numbered_folds_are_named_and_not_used(tmp_path: Path) -> None:
    write_images(tmp_path, NAMES)
    file = write_csv(tmp_path / "l.csv", {"path": NAMES, "label": LABELS, "fold": [i % 5 for i in range(20)]})
    images = load_images(file, seed=0)
    assert counts(images) == (12, 8)
    assert any(decision.what == "folds" and decision.conflict for decision in images.decisions)


@pytest.mark.parametrize("column", ["id", "image_id", "Image", "filename", "id_code"])
@pytest.mark.parametrize("folder", ["train_images", "images", "some where"])
@pytest.mark.parametrize("has_ending", [True, False])
def test_ids_beside_a_folder_of_images(column: str, folder: str, has_ending: bool, tmp_path: Path) -> None:
    write_images(tmp_path / folder, NAMES)
    names = NAMES if has_ending else [name.removesuffix(".png") for name in NAMES]
    images = load_images(write_csv(tmp_path / "train.csv", {column: names, "label": LABELS}), seed=0)
    assert set(images.fit.paths + images.audit.paths) == {f"{folder}/{name}" for name in NAMES}
    assert any(decision.what == "image files" for decision in images.decisions)


def test_ids_over_several_folders(tmp_path: Path) -> None:
    write_images(tmp_path, [f"part_{1 + (i > 9)}/{name}" for i, name in enumerate(NAMES)])
    ids = [name.removesuffix(".png") for name in NAMES]
    images = load_images(write_csv(tmp_path / "meta.csv", {"image_id": ids, "dx": LABELS}), seed=0)
    assert {path.partition("/")[0] for path in images.fit.paths} == {"part_1", "part_2"}


def test_one_id_for_two_files_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, [f"p/{name}" for name in NAMES[:-1]] + [f"q/{name}" for name in NAMES[-2:]])
    with pytest.raises(DataError, match="may be p/"):
        load_images(write_csv(tmp_path / "m.csv", {"id": NAMES, "label": LABELS}), seed=0)


@pytest.mark.parametrize("folders", [["train_images"], ["train_images", "test_images"], ["images"]])
def test_a_folder_that_holds_such_a_table_names_it(folders: list[str], tmp_path: Path) -> None:
    for folder in folders:
        write_images(tmp_path / folder, NAMES)
    for name in ("sample_submission.csv", "test.csv", "train.csv"):
        write_csv(tmp_path / name, {"id": NAMES, "label": LABELS})
    with pytest.raises(DataError) as caught:
        load_images(tmp_path, seed=0)
    assert f"is the manifest {tmp_path / 'train.csv'}?" in (caught.value.hint or "")


def test_names_of_nothing_say_where_images_lie(tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", NAMES)
    file = write_csv(tmp_path / "m.csv", {"id": [f"q{i}" for i in range(20)], "label": LABELS})
    with pytest.raises(DataError, match="none of its first 20 files exists") as caught:
        load_images(file, seed=0)
    assert "images lie in pictures/" in (caught.value.hint or "")


def test_the_only_other_column_is_the_label(tmp_path: Path) -> None:
    write_images(tmp_path, NAMES)
    images = load_images(write_csv(tmp_path / "m.csv", {"path": NAMES, "kind_of_leaf": LABELS}), seed=0)
    assert images.classes == ("a", "b")
    assert "the column 'kind_of_leaf'" in {decision.taken for decision in images.decisions}


def test_columns_of_zeros_and_ones_are_classes(tmp_path: Path) -> None:
    write_images(tmp_path, NAMES)
    one_hot = {name: [float(label == name) for label in LABELS] for name in "ab"}
    images = load_images(write_csv(tmp_path / "m.csv", {"image": NAMES, **one_hot}), seed=0)
    assert images.classes == ("a", "b")
    assert all(path.startswith("ab"[label]) for path, label in zip(images.fit.paths, images.fit.labels, strict=True))


def test_columns_that_may_both_be_1_are_no_classes(tmp_path: Path) -> None:
    write_images(tmp_path, NAMES)
    with pytest.raises(DataError, match="no column 'label'"):
        load_images(write_csv(tmp_path / "m.csv", {"path": NAMES, "red": [1] * 20, "wet": [0, 1] * 10}), seed=0)


FILES = [f"img/{name}" for name in NAMES]
PAIRS = [*zip(FILES, LABELS, strict=True)]
FORMS: dict[str, tuple[str, bytes]] = {
    "backslashes": ("m.csv", "\n".join(["path,label", *(f"img\\{f[4:]},{c}" for f, c in PAIRS)]).encode()),
    "UTF-16": ("m.csv", "\r\n".join(["path\tlabel", *(f"{f}\t{c}" for f, c in PAIRS)]).encode("utf-16")),
    "Excel": ("m.csv", "\r\n".join(["sep=;", "path;label", *(f"{f};{c}" for f, c in PAIRS)]).encode("utf-8-sig")),
    "no header": ("m.csv", "\n".join(f"{f},{c}" for f, c in PAIRS).encode()),
    "label first": ("m.tsv", "\n".join(f"{c}\t{f}" for f, c in PAIRS).encode()),
    "list": ("m.txt", "\n".join(f"{f} {c}" for f, c in PAIRS).encode()),
    "list, label first": ("m.txt", "\n".join(f"{c}  {f}" for f, c in PAIRS).encode()),
    "numbers": ("m.lst", "\n".join(f"{i}\t{c}\t{f}" for i, (f, c) in enumerate(PAIRS)).encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_manifests_as_other_programs_write_them(form: str, tmp_path: Path) -> None:
    write_images(tmp_path, FILES)
    name, content = FORMS[form]
    (tmp_path / name).write_bytes(content)
    images = load_images(tmp_path / name, seed=0)
    assert images.classes == ("a", "b")
    assert {*images.fit.paths, *images.audit.paths} == set(FILES)
    said = {decision.what: decision for decision in images.decisions}
    expected = {"backslashes": "paths", "UTF-16": None, "Excel": None}.get(form, "columns")
    assert (expected is None and not said) or bool(expected in said and said[expected].why)


def test_a_table_without_header_that_has_splits_and_one_of_something_else(tmp_path: Path) -> None:
    write_images(tmp_path, FILES)
    lines = [f"{f},{'val' if flag else 'train'},{c}" for (f, c), flag in zip(PAIRS, THIRD, strict=True)]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    assert counts(load_images(tmp_path / "m.csv", seed=0)) == (16, 4)
    (tmp_path / "r.txt").write_text("read this first\n")
    with pytest.raises(DataError, match="not a known format"):
        load_images(tmp_path / "r.txt", seed=0)


@pytest.mark.parametrize(
    ("parts", "first", "why"),
    [
        (("PublicTest", "PrivateTest"), "PublicTest", "what serves as validation comes before PrivateTest"),
        (("test", "dev"), "dev", "validation comes before test"),
        (("test", "my_val"), "my_val", "validation comes before test"),
        (("test_1", "test_2"), "test_1", "the first of test_1, test_2"),
    ],
)
def test_which_of_several_parts_is_audited_and_why(parts: tuple, first: str, why: str) -> None:
    sizes = {name: {"a": [str(i) for i in range(40)]} for name in parts}
    chosen, decisions = choose_audit_part(sizes, parts)
    assert (chosen, decisions[0].why) == (first, why)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("PrivateTest", "audit"), ("train_1", "fit"), ("Validation", "audit"), ("training set", "fit"),
        ("constraint", ""), ("contest", ""), ("train_test", ""), ("x", ""), ("devices", ""),
    ],
)  # fmt: skip
def test_words_of_splits(name: str, role: str) -> None:
    assert guess_role(name) == role
