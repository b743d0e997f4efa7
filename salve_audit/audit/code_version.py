"""Versions of code as hashes of its source files, so that a stored result is never taken for another code's.

Nobody raises a number: the version of a function is the hash of every source file of the packages that it reaches
through imports. It changes with a comment as well, which costs a recomputation and no more.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import CodeType
from typing import Any

import salve_audit

ROOT = Path(salve_audit.__file__).parent
OWN = "audit"  # the package that wires the others: it reaches all of them
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scipy", "pillow", "safetensors")
_NAMED = re.compile(rb"salve_audit\.(\w+)")  # in imports, and in names of modules that are loaded later


def code_version(packages: Iterable[str]) -> str:
    """sha256 of the sources of these packages or modules at the top of salve_audit, and of all that they name."""
    sources, waiting, reached = _sources(), list(packages), set[str]()
    while waiting:
        package = waiting.pop()
        if package in sources and package not in reached:
            reached.add(package)
            waiting += sources[package][1]
    parts = [f"{name} {sources[name][0]}" for name in sorted(reached)]
    return hashlib.sha256("\n".join([salve_audit.__version__, *parts]).encode()).hexdigest()


@functools.cache
def function_version(function: Callable[..., Any]) -> str:
    """sha256 of all code behind a function of the audit: the packages that it reaches, and its own source files.

    Functions of the audit that it calls are looked into, those of other packages stand for their whole packages.
    Configuration is left out: what a stage reads of it is hashed by value.
    """
    packages, files = set[str](), set[Path]()
    waiting, seen = [function], {id(function)}
    while waiting:
        current = waiting.pop()
        files.add(Path(current.__code__.co_filename))
        for value in _used_by(current):
            module = value if isinstance(value, str) else getattr(value, "__module__", None) or ""
            package = module.split(".")[1] if module.startswith("salve_audit.") else ""
            if package != OWN:
                packages |= {package} - {"", "config"}
            elif hasattr(value, "__code__") and id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)
    parts = [code_version(packages), *sorted(f"{file.name} {file_version(file)}" for file in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def file_version(file: Path) -> str:
    """sha256 of one source file; of the release, where only compiled files are installed."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return salve_audit.__version__


def folder_version(folder: Path) -> str:
    """sha256 of all files below a folder, with their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    parts = [f"{path.relative_to(folder).as_posix()} {file_version(path)}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@functools.cache
def library_versions() -> Mapping[str, str]:
    """Installed versions of the libraries that compute what stages keep."""
    return {name: _installed(name) for name in LIBRARIES}


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _used_by(function: Callable[..., Any]) -> list[Any]:
    """Values that the function's code refers to by name, and names of modules that it imports."""
    names, scope = _names_in(function.__code__), function.__globals__
    imported: list[Any] = [name for name in names if name.startswith("salve_audit.")]
    return imported + [scope[name] for name in sorted(names) if name in scope]


def _names_in(code: CodeType) -> set[str]:
    """Names that a function's code mentions, the code of functions inside it included."""
    inner = [_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)


@functools.cache
def _sources() -> Mapping[str, tuple[str, tuple[str, ...]]]:
    """By package or module at the top: the hash of its sources, and the others that these name."""
    return {name: (digest, named) for name, digest, named in _scan()}


def _scan() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for entry in sorted(ROOT.iterdir()):
        files = sorted(entry.rglob("*.py")) if entry.is_dir() else [entry] if entry.suffix == ".py" else []
        digest, named = hashlib.sha256(), set[str]()
        for file in files:
            text = file.read_bytes()
            digest.update(f"{file.relative_to(ROOT).as_posix()} {len(text)}\n".encode() + text)
            named |= {name.decode() for name in _NAMED.findall(text)}
        if files:
            yield entry.stem, digest.hexdigest(), tuple(sorted(named - {entry.stem}))
