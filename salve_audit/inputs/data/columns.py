"""Names that data sets give to the columns of a table, in any case, and what the values of a column say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from salve_audit.inputs.names import show_name, words_of
from salve_audit.results.decisions import Decision

PATH_COLUMNS = (
    "path", "file_name", "filename", "file", "filepath", "file_path", "image_path", "img_path", "image_file",
    "image_name", "img_name", "imagename", "image_filename", "image", "img", "image_id", "img_id", "imageid", "fname",
    "file_id", "fileid", "id_code", "isic_id", "id",
)  # fmt: skip
IMAGE_COLUMNS = ("image", "img", "picture", "images", "pixel_values", "jpg", "png")
# no single letters: x and y are coordinates more often than labels
LABEL_COLUMNS = (
    "label", "labels", "cls", "class", "class_id", "target", "category", "class_name", "label_name", "fine_label",
    "classname", "category_id", "category_name", "label_id", "labelname", "target_name", "diagnosis", "breed",
    "species", "dx",
)  # fmt: skip
SPLIT_COLUMNS = (
    "split", "subset", "partition", "set", "data_split", "dataset_split", "split_name", "phase", "usage", "tvt",
    "train_val_test", "train_test", "data_set", "dataset",
)  # fmt: skip
# column of yes and no -> the split of a yes, and of a no
FLAG_COLUMNS: Mapping[str, tuple[str, str]] = {
    name: (yes, no)
    for yes, no, names in (
        ("valid", "train", ("is_valid", "isvalid", "valid", "valid_set", "in_valid")),
        (
            "val",
            "train",
            ("is_val", "isval", "is_validation", "val", "validation", "val_set", "validation_set", "in_val"),
        ),
        ("dev", "train", ("is_dev", "dev", "dev_set")),
        ("test", "train", ("is_test", "istest", "test", "test_set", "in_test", "is_testing", "testing")),
        ("test", "train", ("is_holdout", "holdout", "held_out")),
        ("eval", "train", ("is_eval", "eval", "eval_set", "is_evaluation", "evaluation")),
        ("train", "test", ("is_train", "istrain", "is_training", "is_training_image", "train", "training", "in_train")),
        ("train", "test", ("train_set", "training_set")),
    )
    for name in names
}
# a column of yes and no that is called so may mark a split, or something of the image
SPLIT_WORDS = frozenset(
    {
        "train", "training", "trn", "val", "valid", "validate", "validation", "dev", "test", "testing", "tst", "eval",
        "evaluation", "holdout", "heldout", "split", "subset", "partition",
    }
)  # fmt: skip
YES, NO = frozenset({"true", "yes", "y", "t", "1", "1.0"}), frozenset({"false", "no", "n", "f", "0", "0.0", ""})
ONES = frozenset({"1", "1.0"})
ZEROS_AND_ONES = ONES | {"0", "0.0"}
FOLD = re.compile(r"(k_?)?folds?(_?(id|no|idx|number))?", re.IGNORECASE)


def find_column(names: Iterable[str], known: Sequence[str]) -> str | None:
    """The first of the `known` names that is there, as it is written or but for case."""
    there = list(names)
    loose = {name.strip().casefold(): name for name in reversed(there)}
    return next((name if name in there else loose[name] for name in known if name in loose), None)


def find_flag_columns(table: Mapping[str, Sequence[object]]) -> list[str]:
    """Columns that mark one split with yes and the others with no; a validation flag before a test flag."""
    loose = {_plain(name): name for name in reversed([*table])}
    names = [loose[known] for known in FLAG_COLUMNS if known in loose]
    return [name for name in dict.fromkeys(names) if is_flag(table[name])]


def describe_other_flags(table: Mapping[str, Sequence[object]], taken: Sequence[str]) -> tuple[Decision, ...]:
    """The decision about columns of yes and no whose names have a split's word, and which are not taken as splits."""
    others = [name for name in table if name not in taken and words_of(name) & SPLIT_WORDS and is_flag(table[name])]
    shown = ", ".join(map(show_name, others[:4]))
    conflict = "if it marks the images that the model was not trained on, call it is_valid or is_test"
    return (
        (Decision("split", f"not from {shown}", "says yes or no, and has a split's word", conflict),) if others else ()
    )


def _plain(name: str) -> str:
    """`name` in lower case with underscores: ``Is Valid``, ``isValid`` and ``is-valid`` are ``is_valid``."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s\-.]+", "_", spaced).casefold()


def is_flag(values: Sequence[object]) -> bool:
    """True for values that are all yes or no, both of them."""
    words = {_word(value) for value in values}
    return bool(words & YES) and bool(words & NO) and words <= YES | NO


def splits_of_flags(table: Mapping[str, Sequence[object]], flags: Sequence[str]) -> list[str]:
    """The split of each row: that of the first flag that says yes, else what a no of the first one means."""
    rows = list(zip(*(table[name] for name in flags), strict=True))
    meanings = [FLAG_COLUMNS[_plain(name)] for name in flags]
    return [
        next((yes for value, (yes, _) in zip(row, meanings, strict=True) if _word(value) in YES), meanings[0][1])
        for row in rows
    ]


def find_one_hot(table: Mapping[str, Sequence[object]], but: Sequence[str | None]) -> list[str]:
    """Columns of zeros and ones, two or more, of which every row has exactly one 1; empty where there are none."""
    names = [name for name in table if name not in but and {_word(value) for value in table[name]} <= ZEROS_AND_ONES]
    if len(names) < 2:
        return []
    ones = zip(*([_word(value) in ONES for value in table[name]] for name in names), strict=True)
    return names if all(sum(row) == 1 for row in ones) else []


def one_hot_labels(table: Mapping[str, Sequence[object]], names: Sequence[str]) -> list[str]:
    """The name of the column that has each row's 1."""
    rows = zip(*(table[name] for name in names), strict=True)
    return [names[[_word(value) in ONES for value in row].index(True)] for row in rows]


def _word(value: object) -> str:
    return "" if value is None else str(value).strip().lower()
