"""The imports of a pickle, read from its opcodes; nothing is run."""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import BinaryIO

from salve_audit.inputs.model.formats.sniff import FileKind

LARGEST_PICKLE = 64 << 20  # bytes; tensors lie beside the pickle, not in it
N_HEADERS = 3  # an old torch.save file begins with three pickles: magic number, protocol, machine
STRINGS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})
PLAIN = ("torch._utils.", "torch.serialization.", "collections.", "torch._tensor.", "torch.Size", "argparse.")
NETWORK_PARTS = ("torch.nn.modules.", "torch.nn.Module", "timm.layers.", "timm.models.", "torchvision.models.")


def list_globals(file: Path, kind: FileKind) -> tuple[str, ...]:
    """Names (``module.name``) that the pickle in `file` imports, in order; empty where it is no pickle."""
    try:
        return tuple(dict.fromkeys(_scan(_open_pickle(file, kind), kind)))
    except Exception:  # damaged in any way; who asks says so
        return ()


def find_network_class(names: tuple[str, ...]) -> str | None:
    """The class of a pickled network among the imported `names`, or None where they build no network."""
    if not any(name.startswith(NETWORK_PARTS) for name in names):
        return None
    return next((name for name in names if not name.startswith(PLAIN) and not name.endswith("Storage")), None)


def _open_pickle(file: Path, kind: FileKind) -> BinaryIO:
    if kind is not FileKind.ZIPPED:
        return file.open("rb")
    with zipfile.ZipFile(file) as archive:
        name = next(member_name for member_name in archive.namelist() if member_name.endswith("/data.pkl"))
        with archive.open(name) as member:
            return io.BytesIO(member.read(LARGEST_PICKLE))


def _scan(stream: BinaryIO, kind: FileKind) -> list[str]:
    imports: list[str] = []
    with stream:
        for _ in range(1 if kind is FileKind.ZIPPED else N_HEADERS + 1):
            imports += _scan_one(stream)
    return imports


def _scan_one(stream: BinaryIO) -> list[str]:
    """Imports of one pickle; the two names that STACK_GLOBAL takes are the last two strings, memoised or not."""
    imports: list[str] = []
    strings: list[str] = []
    memo: dict[int, str] = {}
    for opcode, argument, position in pickletools.genops(stream):
        if position is not None and position > LARGEST_PICKLE:
            break
        if opcode.name in STRINGS:
            strings.append(str(argument))
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = strings[-1] if strings else ""
        elif opcode.name in ("BINPUT", "LONG_BINPUT", "PUT") and argument is not None:
            memo[int(argument)] = strings[-1] if strings else ""
        elif opcode.name in ("BINGET", "LONG_BINGET", "GET") and argument is not None:
            strings.append(memo.get(int(argument), ""))
        elif opcode.name in ("GLOBAL", "INST"):
            imports.append(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            imports.append(".".join(strings[-2:]))
    return imports
