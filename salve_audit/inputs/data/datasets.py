"""The DATA argument to an ImageSet: its kind is recognised by its contents, and nothing in it is run."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.archive import read_archives
from salve_audit.inputs.data.array_data import is_idx, read_idx_data, read_npy_data, read_npz_data
from salve_audit.inputs.data.catalogue import Catalogue, find_role, split_catalogue
from salve_audit.inputs.data.folder import read_folder
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.data.layout import EXTENSIONS, NO_LABELS
from salve_audit.inputs.data.manifest import ENDINGS, LISTS, read_manifest
from salve_audit.inputs.data.manifest_text import is_list
from salve_audit.inputs.data.remote_data import read_remote
from salve_audit.inputs.data.saved_dataset import is_saved_dataset, read_saved_dataset
from salve_audit.inputs.data.sources.source import reader_of_heads
from salve_audit.inputs.data.table_data import has_images, read_schema, read_tables, split_of_file
from salve_audit.inputs.foreign import HEAD_BYTES, describe_foreign, describe_placeholder
from salve_audit.inputs.model.formats.sniff import FileKind, sniff
from salve_audit.inputs.remote import is_url
from salve_audit.results.decisions import Decision

MAX_SHARDS = 100_000
MAX_LISTED = 1_000_000  # entries of a folder that are looked at to see what it is
FORMATS_HINT = (
    "expected a folder of class folders, a manifest (.csv, .tsv, .jsonl, .parquet, .txt), .zip, .tar, .npz, IDX files, "
    "Parquet with an image column, or a data set saved by Hugging Face datasets"
)
CHECKPOINTS = (FileKind.ZIPPED, FileKind.TORCHSCRIPT, FileKind.EXPORTED)
LOOKED_AT = 20  # files of a folder without class folders
NO_CLASSES = ("no class folders", "no images", NO_LABELS)
GLOB_MARKS = re.compile(r"[*?\[{]")


def load_images(data: str | Path, seed: int, limit: int | None = None, follow_links: bool = False) -> ImageSet:
    """The labelled images that `data` names, in a fit part and an audit part.

    Args:
        data: a folder of class folders, of WebDataset shards, of Parquet, NPY or IDX files, or written by
            `datasets.save_to_disk`; or a manifest, a .zip, .tar or .tar.gz, an .npz, an IDX file, a Parquet file; or
            shards as ``train-{000..007}.tar`` or ``*.tar``; or a folder of class folders or a manifest under a URL.
        seed: of the 60/40 split per class where the data names no splits, and of the choice under `limit`.
        limit: at most so many images per class and split.
        follow_links: read what links outside of a folder lead to.

    Raises:
        DataError: what is there cannot be used; says why, and what would be.
    """
    return split_catalogue(read_catalogue(data, follow_links), seed, limit)


def read_catalogue(data: str | Path, follow_links: bool = False) -> Catalogue:
    """The catalogue of labelled images that `load_images` splits; raises the same errors."""
    if is_url(data):
        return read_remote(str(data))
    return _check_fetched(_read_local(data, follow_links))


def _check_fetched(catalogue: Catalogue) -> Catalogue:
    """`catalogue`, with a decision where some of its first images only stand for others.

    Raises:
        DataError: all of them do.
    """
    read_head = reader_of_heads(catalogue.source)
    keys = [key for part in catalogue.parts.values() for own in part.values() for key in own]
    sample = keys[:: max(1, len(keys) // LOOKED_AT)][:LOOKED_AT] if read_head else []
    heads = {key: read_head(key, HEAD_BYTES) for key in sample} if read_head else {}
    standing = {key: placeholder for key, head in heads.items() if (placeholder := describe_placeholder(head))}
    if not standing:
        return catalogue
    key, (what, remedy) = next(iter(standing.items()))
    if len(standing) == len(sample):
        why = f"no images, but files that stand for them: {key} {what}"
        raise DataError(str(catalogue.root), why, hint=remedy)
    taken = f"{len(standing)} of {len(sample)} looked at are none"
    decision = Decision("image files", taken, f"{key} {what}", remedy or "")
    return replace(catalogue, decisions=(*catalogue.decisions, decision))


def _read_local(data: str | Path, follow_links: bool) -> Catalogue:
    path = Path(data)
    if not os.path.lexists(path):
        if GLOB_MARKS.search(str(data)):
            return _read_shards(str(data))
        raise DataError(str(data), "no such file or folder")
    try:
        path = path.resolve(strict=True)
        if path.is_dir():
            return _read_folder(path, follow_links)
        if not path.is_file():
            raise DataError(str(data), "is neither a file nor a folder", hint=FORMATS_HINT)
        return _read_file(path, follow_links)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "a circle of links"
        raise DataError(str(data), f"cannot be read ({reason})") from error


def _read_file(path: Path, follow_links: bool) -> Catalogue:
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        raise DataError(str(path), "the file is empty")
    placeholder = describe_placeholder(head)
    if placeholder is not None:
        raise DataError(str(path), placeholder.what, hint=placeholder.remedy)
    if is_idx(path):
        return read_idx_data(path.parent, [file for file in path.parent.iterdir() if is_idx(file)])
    if head.startswith((b"PAR1", b"ARROW1")) or path.suffix == ".arrow":
        return _read_table(path, follow_links)
    if path.suffix.lower() in ENDINGS or (path.suffix.lower() in LISTS and is_list(head)):
        return read_manifest(path, follow_links)
    if head.startswith(b"\x93NUMPY"):
        return read_npy_data(path.parent, [file for file in path.parent.iterdir() if file.suffix == ".npy"])
    if sniff(path) in CHECKPOINTS or path.suffix.lower() in (".onnx", ".safetensors"):
        raise DataError(str(path), "is a model, no data", hint="MODEL comes first, then DATA")
    if head.startswith(b"PK"):
        return read_npz_data(path) if path.suffix.lower() == ".npz" else read_archives([path], path)
    if head[257:262] == b"ustar" or head.startswith(b"\x1f\x8b") or path.suffix == ".tar":
        return read_archives([path], path)
    if path.suffix.lower() in EXTENSIONS:
        raise DataError(str(path), "one image, without labels", hint=FORMATS_HINT)
    _refuse_known(path)
    raise DataError(str(path), "not a known format", hint=FORMATS_HINT)


def _read_table(path: Path, follow_links: bool) -> Catalogue:
    if has_images(read_schema(path)):
        return read_tables([(path, "")], path, "Parquet" if path.suffix != ".arrow" else "Arrow")
    return read_manifest(path, follow_links)


def _read_folder(root: Path, follow_links: bool) -> Catalogue:
    if is_saved_dataset(root):
        return read_saved_dataset(root)
    names = _list_files(root, follow_links)
    if any(is_idx(Path(name)) for name in names):
        return read_idx_data(root, [root / name for name in names if is_idx(Path(name))])
    for ending in (".tar", ".parquet"):
        files = _find_shards(root, names, ending, follow_links)
        if files and ending == ".tar":
            return read_archives(files, root if len(files) > 1 else files[0])
        if files and all(has_images(read_schema(path)) for path in files):
            return read_tables([(path, split_of_file(path)) for path in files], root, "Parquet files")
    if sum(name.endswith(".npy") for name in names) >= 2:
        return read_npy_data(root, sorted(root / name for name in names if name.endswith(".npy")))
    try:
        return read_folder(root, follow_links)
    except DataError as error:
        listed = sorted((name for name in names if name.lower().endswith(ENDINGS)), key=_rank_manifest)
        if error.why not in NO_CLASSES and not (listed and error.why.startswith("one class only")):
            raise
        if listed:
            hint = f"is the manifest {root / listed[0]}? Name it as DATA"
            raise DataError(error.what, error.why, hint=hint) from None
        for name in names[:LOOKED_AT]:
            _refuse_known(root / name)
        raise


def _rank_manifest(name: str) -> tuple[bool, bool, str]:
    """The likeliest list of labels first: train.csv before sample_submission.csv and test.csv."""
    low = name.lower()
    is_likely = any(word in low for word in ("train", "label", "meta", "annot"))
    return not is_likely, any(word in low for word in ("test", "submission", "sample")), low


def _refuse_known(path: Path) -> None:
    """Raises for a file of a known kind that is not supported, and names the kind."""
    with path.open("rb") as stream:
        foreign = describe_foreign(stream.read(HEAD_BYTES))
    if foreign is not None:
        raise DataError(str(path), f"{foreign.what}; not read", hint=foreign.remedy or FORMATS_HINT)


def _list_files(root: Path, follow_links: bool) -> list[str]:
    """Visible plain files directly in `root`, sorted; links that leave it are left out."""
    names = []
    with os.scandir(root) as entries:
        for count, entry in enumerate(entries):
            if count > MAX_LISTED:
                break
            if entry.name.startswith(".") or not entry.is_file():
                continue
            if follow_links or not entry.is_symlink() or Path(entry.path).resolve().is_relative_to(root):
                names.append(entry.name)
    return sorted(names)


def _find_shards(root: Path, names: list[str], ending: str, follow_links: bool) -> list[Path]:
    """Files with that ending in `root`, else in its folders that are called as splits, or in ``data/``."""
    shards = [root / name for name in names if name.lower().endswith(ending)]
    if shards:
        return shards
    folders = [root / name for name in sorted(os.listdir(root)) if name.lower() == "data" or find_role(name)]
    own = [folder for folder in folders if folder.is_dir()]
    inside = [folder for folder in own if follow_links or folder.resolve().is_relative_to(root)]
    return [
        folder / name
        for folder in inside
        for name in _list_files(folder, follow_links)
        if name.lower().endswith(ending)
    ]


def _read_shards(pattern: str) -> Catalogue:
    """Reads the shards that a pattern with ``{000..007}``, ``{a,b}``, ``*`` and ``?`` names."""
    paths: list[str] = []
    for expanded in expand_braces(pattern):
        paths += sorted(glob.glob(expanded)) if re.search(r"[*?\[]", expanded) else [expanded]
        if len(paths) > MAX_SHARDS:
            raise DataError(pattern, f"more than {MAX_SHARDS:,} shards")
    missing = next((path for path in paths if not os.path.isfile(path)), None)
    if not paths or missing is not None:
        raise DataError(pattern, f"no such file: {missing}" if missing else "no file fits")
    files = [Path(path).resolve() for path in dict.fromkeys(paths)]
    root = Path(os.path.commonpath([file.parent for file in files])) if len(files) > 1 else files[0]
    if all(file.suffix == ".parquet" for file in files):
        return read_tables([(file, split_of_file(file)) for file in files], root, "Parquet files")
    return read_archives(files, root)


def expand_braces(pattern: str) -> Iterator[str]:
    """Writes ``a{1..3}`` and ``a{x,y}`` out; leading zeros stay.

    Raises:
        DataError: more than `MAX_SHARDS`.
    """
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        yield pattern
        return
    span = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", braces.group(1))
    if span:
        first, last = int(span.group(1)), int(span.group(2))
        if abs(last - first) > MAX_SHARDS:
            raise DataError(pattern, f"more than {MAX_SHARDS:,} shards")
        words = [f"{number:0{len(span.group(1))}}" for number in range(min(first, last), max(first, last) + 1)]
    else:
        words = braces.group(1).split(",")
    for word in words:
        yield from expand_braces(pattern[: braces.start()] + word + pattern[braces.end() :])
