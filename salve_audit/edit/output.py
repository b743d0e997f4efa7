"""The edited checkpoint's path: never over its input, never half-written, over other files only with --force."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from salve_audit.audit.publish import check_writable, publishing
from salve_audit.edit.record import RECORD_SUFFIX
from salve_audit.errors import OutputError, UsageError
from salve_audit.inputs.model.formats.hub import SUFFIXES, find_weight_files
from salve_audit.inputs.model.formats.sidecar import sidecar_of
from salve_audit.inputs.model.formats.sniff import FileKind, sniff


def check_model_out(model: Path, out: Path, force: bool) -> None:
    """Checks that the edit of `model` may be written to `out`.

    Raises:
        UsageError: it is the input, by whatever name, or of another format.
        OutputError: something is there and is not to be replaced, or the place cannot be written.
    """
    inputs = find_weight_files(model) if model.is_dir() else (model,)
    if out.is_dir() and not model.is_dir():
        raise OutputError(str(out), "is a folder", hint=f"-o {out / model.name}")
    targets = (out, *(out / file.name for file in inputs)) if model.is_dir() else (out, sidecar_of(out))
    for target in targets:
        if target.exists() and any(os.path.samefile(target, file) for file in (model, *inputs)):
            raise UsageError("-o", f"{out} is the input itself, which is never overwritten", hint="name another place")
    _check_format(model, inputs[0], out)
    if model.is_dir():
        _check_folder(out, force)
        check_writable(out)
    else:
        _check_file(model, out, force)
        check_writable(out.absolute().parent)


def _check_format(model: Path, first: Path, out: Path) -> None:
    if model.is_dir():
        if out.suffix in SUFFIXES:
            raise UsageError("-o", f"{model} is a folder, and so is its edit; formats are not converted")
        return
    is_safetensors = sniff(first) is FileKind.SAFETENSORS
    if is_safetensors != (out.suffix == ".safetensors") and (is_safetensors or out.suffix == ".safetensors"):
        hint = f"-o {out.with_suffix(model.suffix).name}"
        raise UsageError("-o", f"{model.name} and {out.name} are of different formats; none is converted", hint=hint)


def _check_folder(out: Path, force: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(str(out), "is a file, and the edit of a folder is one too")
    if any(out.iterdir()) and not force:
        raise OutputError(str(out), "is there already", hint="--force replaces files of the same names in it")


def _check_file(model: Path, out: Path, force: bool) -> None:
    settings, has_settings = sidecar_of(out), sidecar_of(model).is_file()
    if settings.exists() and not has_settings:
        why = f"lies where settings of {out.name} would be read from"
        raise OutputError(str(settings), why, hint="name another place with -o")
    beside = (out.with_name(out.name + RECORD_SUFFIX), *([settings] if has_settings else []))
    taken = [path for path in (out, *beside) if os.path.lexists(path)]
    if taken and not force:
        raise OutputError(str(taken[0]), "is there already", hint="--force replaces it, or name another place with -o")


@contextmanager
def staged(model: Path, out: Path) -> Iterator[Path]:
    """Yields a path to write to, whose content moves to `out` when the block ends without an error, else is removed.

    Raises:
        OutputError: the disk is full or the place cannot be written.
    """
    if model.is_dir():
        with publishing(out, replaces=()) as stage:
            yield stage
    else:  # a record that an edit before this one left beside the file goes, where this one leaves none
        with publishing(out.absolute().parent, replaces=(out.name + RECORD_SUFFIX,)) as stage:
            yield stage / out.name
