"""DATA under a URL: a folder of class folders, or a manifest. Images are read where they lie, one by one."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from typing import cast

from salve_audit.errors import DataError, SalveError
from salve_audit.inputs.data.archive import NameTree
from salve_audit.inputs.data.catalogue import Catalogue
from salve_audit.inputs.data.layout import read_layout
from salve_audit.inputs.data.manifest import ENDINGS, catalogue_of_table, read_table
from salve_audit.inputs.data.manifest_folder import UrlFolder
from salve_audit.inputs.data.manifest_text import MAX_BYTES, Table
from salve_audit.inputs.data.sources.remote import RemoteSource
from salve_audit.inputs.data.table_data import has_images, read_schema
from salve_audit.inputs.remote import RemoteFolder, UrlPath

PACKED = (".tar", ".tgz", ".gz", ".zip", ".npz", ".npy", ".arrow")
NOT_THERE = "a folder of class folders and a manifest of image files can be read from a URL, and this is neither"


def read_remote(url: str) -> Catalogue:
    """The labelled images that a URL names.

    Raises:
        UsageError: the package for such URLs is not installed.
        DataError: there is nothing, or nothing that can be used.
    """
    name = PurePosixPath(url).name
    try:
        if name.lower().endswith(ENDINGS):
            return _read_manifest(url.rpartition("/")[0], name)
        if name.lower().endswith(PACKED):
            raise DataError(url, NOT_THERE, hint="copy it to a disk, or unpack it in its place")
        return _read_folder(RemoteFolder.open(url))
    except OSError as error:
        raise DataError(url, f"cannot be read ({error})") from error


def _read_folder(folder: RemoteFolder) -> Catalogue:
    names = folder.list_names()
    if not names:
        raise DataError(folder.url, "no such folder, or nothing in it")
    return read_layout(NameTree(cast(Path, UrlPath(folder.url)), names), RemoteSource(folder))


def _read_manifest(url: str, name: str) -> Catalogue:
    folder = RemoteFolder.open(url)
    return catalogue_of_table(
        cast(Path, UrlPath(f"{folder.url}/{name}")), _fetch_table(folder, name), UrlFolder(folder)
    )


def _fetch_table(folder: RemoteFolder, name: str) -> Table:
    """The columns of a manifest, read from a copy; errors name what it is a copy of."""
    with tempfile.TemporaryDirectory(prefix="salve-audit-") as here:
        copy = Path(here) / name
        copy.write_bytes(folder.read(name, MAX_BYTES + 1))
        try:
            if copy.suffix.lower() == ".parquet" and has_images(read_schema(copy)):
                raise DataError(str(copy), NOT_THERE, hint="copy it to a disk")
            return read_table(copy)
        except SalveError as error:
            raise DataError(f"{folder.url}/{name}", error.why, hint=error.hint) from error
