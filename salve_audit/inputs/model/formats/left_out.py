"""torch.save files read around their objects: weights and plain values as they are, of all else only the names.

Training scripts put paths, optimisers' settings, arrays or whole networks beside their weights. Here no class or
function that a file names is imported or called, but for those that make tensors (torch's own list); everything else
becomes a `LeftOut`, which keeps what it was given and does nothing.
"""

from __future__ import annotations

import pickle
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.formats.opcodes import list_globals
from salve_audit.inputs.model.formats.remains import is_read, restore_arrays
from salve_audit.inputs.model.formats.sniff import FileKind

# a file that names one of these is no accident: it is refused, although nothing of it would be run
REFUSED_MODULES = frozenset(
    {
        "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy", "pty", "ctypes", "code",
        "codeop", "webbrowser", "pickle", "_pickle", "marshal", "multiprocessing", "asyncio", "commands", "popen2",
        "timeit", "pdb", "bdb", "profile", "cProfile", "pip", "http", "urllib", "requests", "ftplib", "smtplib",
        "tempfile", "fileinput", "signal", "threading", "_thread", "platform", "pydoc", "doctest", "trace", "idlelib",
    }
)  # fmt: skip
REFUSED_BUILTINS = frozenset(
    {
        "eval", "exec", "execfile", "compile", "open", "file", "input", "raw_input", "__import__", "breakpoint",
        "globals", "locals", "vars", "setattr", "delattr", "memoryview", "bytearray", "apply",
    }
)  # fmt: skip
DANGEROUS_INSIDE = frozenset({"os", "posix", "nt", "sys", "subprocess", "shutil", "importlib", "ctypes", "builtins"})
BUILTINS = ("builtins", "__builtin__")
CODE_MAKERS = ("torch.hub.", "torch.load", "torch.utils.cpp_extension", "torch.ops.", "torch.classes.", "torch.jit.")
DICTIONARIES = ("dict", "defaultdict", "OrderedDict", "Counter")


class LeftOut(dict[Any, Any]):
    """An object that was not made: what it would have been made from, and nothing else.

    Attributes:
        name: of its class or function, ``module.name``.
        arguments: given to that.
        attributes: its state, where that is a dictionary.
        state: as it was given, whatever it is.
    """

    name = ""
    dump_patches = False  # asked for by torch, which compares the sources of classes in old files
    arguments: tuple[Any, ...]
    attributes: Mapping[str, Any]
    state: Any = None

    def __new__(cls, *arguments: Any, **named: Any) -> LeftOut:
        """Keeps the arguments."""
        made = super().__new__(cls)
        made.arguments, made.attributes = arguments, {}
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state
        own = state[0] if isinstance(state, tuple) and len(state) == 2 else state
        if isinstance(own, Mapping):
            self.attributes = {str(key): value for key, value in own.items()}

    def __call__(self, *arguments: Any, **named: Any) -> LeftOut:
        """Another one: the result of calling what was not made."""
        return type(self)(*arguments)

    def __hash__(self) -> int:  # type: ignore[override]  # a key of a dictionary in the file
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def append(self, value: Any) -> None:
        """Keeps nothing: the object would have been a list."""

    extend = add = append


def list_refused(file: Path, kind: FileKind) -> list[str]:
    """Names in the pickle of `file` that have no business in a checkpoint."""
    return [name for name in list_globals(file, kind) if is_refused(name)]


def is_refused(name: str) -> bool:
    """True for ``module.name`` that reads, writes or runs something."""
    module, _, attribute = name.rpartition(".")
    root = module.partition(".")[0]
    if module in BUILTINS:
        return attribute in REFUSED_BUILTINS
    through = {*module.split(".")[1:]} & DANGEROUS_INSIDE  # torch.serialization.os.mkdir
    return root in REFUSED_MODULES or bool(through) or name.startswith(CODE_MAKERS)


def load_around_objects(file: Path, kind: FileKind) -> tuple[Any, tuple[str, ...]]:
    """The contents of `file` with objects left out, and the names of their classes in the order of the file.

    Raises:
        CheckpointError: it names what has no business in a checkpoint.
        Exception: whatever a damaged file leads the unpickler into.
    """
    refused = list_refused(file, kind)
    if refused:
        raise CheckpointError(str(file), f"needs {refused[0]} to be read; refused")
    left_out: dict[str, type[LeftOut]] = {}
    reader: Any = types.SimpleNamespace(__name__="salve_audit_around_objects")
    reader.Unpickler = _make_unpickler(left_out)
    reader.load = lambda stream, **options: reader.Unpickler(stream, **options).load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on sources of classes, which old files have with them
        content = torch.load(file, map_location="cpu", pickle_module=reader, weights_only=False)
    return restore_arrays(content), tuple(name for name in left_out if not is_read(name))


def _make_unpickler(left_out: dict[str, type[LeftOut]]) -> type:
    """An unpickler that imports nothing; the names that it meets go into `left_out`.

    It is Python's own in Python: the one in C makes room for any memo index that a file names.
    """
    known = _list_known()

    class AroundObjects(pickle._Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full = f"{module}.{name}"
            if is_refused(full):
                raise pickle.UnpicklingError(f"{full} is refused")
            if full in known:
                return known[full]
            if name in DICTIONARIES and module in (*BUILTINS, "collections"):
                return _make_dict
            if full not in left_out:
                left_out[full] = type("LeftOut", (LeftOut,), {"name": full})
            return left_out[full]

    return AroundObjects


def _list_known() -> dict[str, Any]:
    """What makes tensors and torch's plain values, by torch's own list for files that are not trusted."""
    from torch import _weights_only_unpickler

    listed = _weights_only_unpickler._get_allowed_globals()
    return {name: value for name, value in listed.items() if not is_refused(name)}


def _make_dict(*arguments: Any) -> dict[Any, Any]:
    """A plain dictionary in place of one with a default or an order."""
    given = arguments[-1] if arguments else ()
    return dict(given) if isinstance(given, (Mapping, list, tuple)) else {}
