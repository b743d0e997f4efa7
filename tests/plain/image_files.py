"""Single image files, decoded as the audit decodes the images of a data set."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from salve_audit.errors import DataError
from salve_audit.inputs.data.decoding import decode_image, describe_image_error
from salve_audit.inputs.data.sources.source import FolderSource


def load_image(path: Path, n_channels: int = 3, shown_side: int | None = None, is_upright: bool = False) -> Image.Image:
    """`decode_image` of a file, with the data set's words for a file that cannot be read."""
    try:
        content = FolderSource(path.parent).read(path.name)
    except OSError as error:
        raise DataError(str(path), describe_image_error(error)) from error
    except ValueError as error:
        raise DataError(str(path), str(error)) from error
    return decode_image(content, str(path), n_channels, shown_side, is_upright)
