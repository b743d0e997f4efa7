"""Data sets of other tasks than classification, recognised by their folders, and refused with what they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from salve_audit.errors import DataError
from salve_audit.inputs.data.catalogue import guess_role

HINT = "image classification needs one folder per class, or a manifest with the columns path and label"
IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpegimages", "rgb"})
MASK_FOLDERS = frozenset(
    {
        "masks", "mask", "segmentation", "segmentations", "segmentationclass", "segmentationobject", "gt", "gtfine",
        "groundtruth", "ground_truth", "labelmaps", "annotations", "labels", "trimaps",
    }
)  # fmt: skip
BOX_FOLDERS = frozenset({"labels", "annotations", "label", "annotation", "bboxes", "xmls"})
BOX_ENDINGS = (".txt", ".xml", ".json")
DEEPEST = 2


class Listing(Protocol):
    """What of a tree of folders is looked at here."""

    root: Path

    def list_any_folders(self, part: str) -> list[str]:
        """Sorted names of the visible folders in `part`, those without images too."""

    def list_images(self, part: str) -> list[str]:
        """Sorted names of the images directly in `part`."""

    def has_files(self, part: str, ending: str) -> bool:
        """True for files with that ending directly in `part`."""


def refuse_other_task(tree: Listing, base: str) -> None:
    """Raises for a data set of object detection or segmentation; nothing else than folders' names is needed for most.

    Raises:
        DataError: names the task and what shows it.
    """
    for part in _list_parts(tree, base.rstrip("/")):
        names = {name.lower(): name for name in tree.list_any_folders(part)}
        images = next((names[name] for name in names if name in IMAGE_FOLDERS), None)
        if images is None or len(names) == 1 or _has_classes(tree, _join(part, images)):
            continue
        where = str(tree.root / part)
        boxes = [names[name] for name in names if name in BOX_FOLDERS]
        for folder in boxes:
            if any(_has_below(tree, _join(part, folder), ending) for ending in BOX_ENDINGS):
                why = f"looks like a data set of object detection (YOLO, COCO or VOC): {images}/ beside {folder}/"
                raise DataError(where, why, hint=HINT)
        masks = [names[name] for name in names if name in MASK_FOLDERS]
        if masks and set(names) <= IMAGE_FOLDERS | MASK_FOLDERS | {"imagesets"}:
            why = f"looks like a data set of segmentation: {images}/ beside {masks[0]}/"
            raise DataError(where, why, hint=HINT)
    _refuse_coco(tree, base.rstrip("/"))


def _refuse_coco(tree: Listing, base: str) -> None:
    """COCO: images without class folders in train2017/, and annotations/ with JSON beside them."""
    names = {name.lower(): name for name in tree.list_any_folders(base)}
    folder = next((names[name] for name in names if name in BOX_FOLDERS), None)
    others = [name for name in names.values() if name != folder]
    if folder is None or not others or not any(tree.has_files(_join(base, folder), end) for end in (".json", ".xml")):
        return
    if tree.list_images(_join(base, folder)) or any(tree.list_any_folders(_join(base, name)) for name in others):
        return
    why = f"looks like a data set of object detection (YOLO, COCO or VOC): annotations in {folder}/"
    raise DataError(str(tree.root / base), why, hint=HINT)


def _list_parts(tree: Listing, base: str) -> Iterator[str]:
    """`base` and the folders in it: splits may lie above images and labels."""
    yield base
    for name in tree.list_any_folders(base)[:64]:
        yield _join(base, name)


def _has_classes(tree: Listing, part: str, depth: int = 1) -> bool:
    """True for folders in `part`, or in the splits there, that are no splits: classes, whatever lies beside them."""
    names = tree.list_any_folders(part)
    if any(not guess_role(name) for name in names):
        return True
    return depth > 0 and any(_has_classes(tree, _join(part, name), depth - 1) for name in names)


def _has_below(tree: Listing, part: str, ending: str, depth: int = DEEPEST) -> bool:
    if tree.has_files(part, ending):
        return True
    return depth > 0 and any(
        _has_below(tree, _join(part, name), ending, depth - 1) for name in tree.list_any_folders(part)
    )


def _join(part: str, name: str) -> str:
    return f"{part}/{name}" if part else name
