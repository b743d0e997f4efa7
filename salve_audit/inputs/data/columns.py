"""Names that data sets give to the columns of a table, in any case."""

from __future__ import annotations

from collections.abc import Iterable

PATH_COLUMNS = ("path", "file_name", "filename", "file", "filepath", "file_path", "image_path", "image", "img")
IMAGE_COLUMNS = ("image", "img", "picture", "images", "pixel_values", "jpg", "png")
# no single letters: x and y are coordinates more often than labels
LABEL_COLUMNS = (
    "label", "labels", "cls", "class", "class_id", "target", "category", "class_name", "label_name", "fine_label",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "subset", "partition", "set")


def find_column(names: Iterable[str], known: tuple[str, ...]) -> str | None:
    """The first of the `known` names that is there, as it is written or but for case."""
    there = list(names)
    loose = {name.strip().casefold(): name for name in reversed(there)}
    return next((name if name in there else loose[name] for name in known if name in loose), None)
