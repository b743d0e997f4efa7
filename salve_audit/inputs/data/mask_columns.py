"""The columns that say where objects are, and a hash of what they say; needs no torch."""

from __future__ import annotations

import hashlib

import numpy as np

from salve_audit.inputs.data.imageset import ImageSet

MASK, BOX = "mask", "bbox"


def find_mask_column(images: ImageSet) -> str | None:
    """The name of the column ``mask``, else of ``bbox``, in any case; None: the data have neither."""
    for wanted in (MASK, BOX):
        for name, texts in images.attributes.items():
            if name.strip().casefold() == wanted and any(texts.values()):
                return name
    return None


def hash_masks(images: ImageSet) -> str:
    """sha256 of the audit images' masks, or boxes; empty without any. A mask that cannot be read is hashed as such."""
    column = find_mask_column(images)
    if column is None:
        return ""
    texts, digest = images.attributes[column], hashlib.sha256()
    for key in images.audit.paths:
        text = texts.get(key, "")
        digest.update(f"{key}\n{text}\n".encode("utf-8", "surrogatepass"))
        if column.strip().casefold() == MASK and text:
            try:
                content = images.reader.read(text)
            except (OSError, ValueError, KeyError):
                continue
            digest.update(content.tobytes() if isinstance(content, np.ndarray) else content)
    return digest.hexdigest()
