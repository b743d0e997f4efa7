"""Stage 1: checkpoint file -> Classifier, folder -> ImageSet.

Importing the package is light; what needs torch or timm is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Classifier": "classifier",
    "HeadReader": "heads",
    "ImageSet": "imageset",
    "ImageSplit": "imageset",
    "LinearHead": "head",
    "TransformSpec": "classifier",
    "build_transform": "transform",
    "count_parameters": "proof",
    "find_head": "heads",
    "load_classifier": "checkpoint",
    "load_image_folder": "folder",
    "load_images": "datasets",
    "load_picture": "picture",
    "match_classes": "matching",
    "prove_head": "proof",
    "suspect_mapping": "suspect",
}

__all__ = [
    "Classifier",
    "HeadReader",
    "ImageSet",
    "ImageSplit",
    "LinearHead",
    "TransformSpec",
    "build_transform",
    "count_parameters",
    "find_head",
    "load_classifier",
    "load_image_folder",
    "load_images",
    "load_picture",
    "match_classes",
    "prove_head",
    "suspect_mapping",
]

if TYPE_CHECKING:
    from salve_audit.inputs.checkpoint import load_classifier
    from salve_audit.inputs.classifier import Classifier, TransformSpec
    from salve_audit.inputs.datasets import load_images
    from salve_audit.inputs.folder import load_image_folder
    from salve_audit.inputs.head import LinearHead
    from salve_audit.inputs.heads import HeadReader, find_head
    from salve_audit.inputs.imageset import ImageSet, ImageSplit
    from salve_audit.inputs.matching import match_classes
    from salve_audit.inputs.picture import load_picture
    from salve_audit.inputs.proof import count_parameters, prove_head
    from salve_audit.inputs.suspect import suspect_mapping
    from salve_audit.inputs.transform import build_transform


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
