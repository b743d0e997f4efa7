"""Arguments by what the files are: a wrong order is told before anything is loaded."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from salve_audit.errors import UsageError

MODEL, IMAGE, AUDIT, DATA = "MODEL", "IMAGE", "AUDIT", "DATA"
WORDS = {
    MODEL: "a model",
    IMAGE: "an image",
    AUDIT: "an audit",
    DATA: "labelled images",
}
WEIGHTS = (".pt", ".pth", ".th", ".bin", ".ckpt", ".safetensors", ".onnx", ".pt2", ".h5")
TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".tar", ".tgz")
MODEL_FOLDER = ("config.json", "model.safetensors", "pytorch_model.bin", "adapter_config.json")
HEAD_BYTES = 16


def check_order(command: str, roles: Sequence[str], paths: Sequence[Path]) -> None:
    """Checks that no argument is, by its content, what another place is for.

    Args:
        command: its words, such as ``salve-audit explain``.
        roles: of the arguments, in the order of the command; the role in the middle of three may have several.
        paths: in the order of the command line.

    Raises:
        UsageError: an argument has the kind of another place; the hint is the command in its order.
    """
    middle = list(roles[1:2]) * (len(paths) - len(roles) + 1)
    expected = [roles[0], *middle, *roles[2:]]
    kinds = [find_kind(path) for path in paths]
    for path, role, kind in zip(paths, expected, kinds, strict=True):
        if kind not in (None, DATA, role) and (kind, role) not in ((MODEL, DATA), (IMAGE, DATA)):
            raise UsageError(role, f"{path} is {WORDS[kind]}", hint=_reorder(command, roles, paths, kinds))
    if expected == [MODEL, DATA] and kinds == [DATA, MODEL]:
        raise UsageError(MODEL, f"{paths[0]} is {WORDS[DATA]}", hint=_reorder(command, roles, paths, kinds))


def check_subject(command: str, model: str, data: str | None) -> None:
    """Checks the order of MODEL and DATA, which may be missing.

    Raises:
        UsageError: as of `check_order`.
    """
    paths = [Path(model), *([] if data is None else [Path(data)])]
    if find_kind(paths[0]) == AUDIT:
        audit = shlex.quote(model)
        raise UsageError(MODEL, f"{model} is an audit", hint=f"salve-audit gate {audit}, or salve-audit report {audit}")
    check_order(command, (MODEL, DATA)[: len(paths)], paths)


def find_kind(path: Path) -> str | None:
    """`MODEL`, `IMAGE`, `AUDIT` or `DATA`; None: there is no such file, or nothing speaks for one of them."""
    try:
        return _find_folder_kind(path) if path.is_dir() else _find_file_kind(path) if path.is_file() else None
    except OSError:
        return None


def _find_folder_kind(folder: Path) -> str:
    if (folder / "audit.json").is_file():
        return AUDIT
    return MODEL if any((folder / name).is_file() for name in MODEL_FOLDER) else DATA


def _find_file_kind(file: Path) -> str | None:
    if file.name == "audit.json":
        return AUDIT
    from salve_audit.inputs.data.leftovers import name_image  # loads numpy, which the gate does without
    from salve_audit.inputs.model.formats.sniff import FileKind, sniff

    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if name_image(head):
        return IMAGE
    if file.suffix.lower() in TABLES:
        return DATA
    if file.suffix.lower() in WEIGHTS:
        return MODEL
    return None if sniff(file) in (FileKind.PICKLE, FileKind.OTHER_ZIP) else MODEL


def _reorder(command: str, roles: Sequence[str], paths: Sequence[Path], kinds: Sequence[str | None]) -> str:
    """The command with its arguments in order, or in words where they are not all there."""
    if sorted(set(roles)) == sorted({kind or "" for kind in kinds}):
        ordered = [path for role in roles for path, kind in zip(paths, kinds, strict=True) if kind == role]
        return " ".join([command, *(shlex.quote(str(path)) for path in ordered)])
    return " ".join([command, *(f"{role}..." if role == IMAGE else role for role in roles)])
