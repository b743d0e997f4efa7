"""Configuration files: the options of an audit in a named TOML file, and in a pyproject.toml that is found upwards."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salve_audit.config import AuditConfig
from salve_audit.errors import UsageError
from salve_audit.options import declared_options, read_table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

log = logging.getLogger(__name__)  # the command line shows it by default

PROJECT, TABLE, MISSPELT, GATE = "pyproject.toml", "salve-audit", "salve_audit", "gate"


def read_settings(file: Path | None, folder: Path | None = None) -> dict[str, Any]:
    """Keyword arguments of AuditConfig: those of `file` over those of the project's pyproject.toml.

    A policy in either, ``[gate]`` or ``[tool.salve-audit.gate]``, becomes the option `policy`.

    Args:
        file: a TOML file with the options at its top level, or None.
        folder: from where pyproject.toml is looked for upwards; None: the working folder.

    Raises:
        UsageError: a file is missing or no TOML, a key is unknown, a value has the wrong type, or a file that was found
            and not named would run code.
    """
    settings: dict[str, Any] = {}
    start = folder or Path.cwd()
    project = find_project(start)
    if project is not None:
        log.info("configuration: %s [tool.salve-audit]", project)
        own = _read(_load(project)["tool"][TABLE], f"{_shown(project, start)} [tool.salve-audit]", project)
        _refuse_code(own, _shown(project, start))
        settings.update(own if project.parent == Path() else _relative_to(project.parent, own))
    if file is not None:
        settings.update(_read(_load(file), str(file), file))
    return settings


def find_project(start: Path) -> Path | None:
    """The nearest pyproject.toml with a table of ours, from `start` upwards to the root of the repository.

    Raises:
        UsageError: a pyproject.toml on the way is no TOML, or its table has another spelling.
    """
    for folder in [start.absolute(), *start.absolute().parents]:
        file = folder / PROJECT
        if file.is_file():
            tools = _load(file).get("tool", {})
            if isinstance(tools, dict) and MISSPELT in tools:
                raise UsageError(_shown(file, start), f"[tool.{MISSPELT}] is not read", hint=f"call it [tool.{TABLE}]")
            if isinstance(tools, dict) and TABLE in tools:
                return Path(os.path.relpath(file, Path.cwd()))
        if (folder / ".git").exists():
            break
    return None


def _shown(file: Path, start: Path) -> str:
    """The file as messages name it: without its folder where that is the working one."""
    return file.name if file.absolute().parent == start.absolute() else str(file)


def _refuse_code(settings: Mapping[str, Any], source: str) -> None:
    """A file that was found, and that nobody named, must not decide that code is run."""
    arch = settings.get("arch")
    if arch is not None and arch.rpartition(":")[0].endswith(".py"):
        what, flag = f"arch = {arch!r} names code", "--arch"
    elif settings.get("trust_model"):
        what, flag = "trust-model runs the code in a model", "--trust-model"
    else:
        return
    why = f"{what}, and the file was found, not named"
    raise UsageError(source, why, hint=f"give {flag}, or name the file with --config")


def _relative_to(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Paths in a file of a folder above the working one are relative to that folder; URLs are not."""
    options = declared_options(AuditConfig)
    paths = {name for name in settings if Path in options[name].kind.types and name != "policy"}
    paths = {name for name in paths if "://" not in str(settings[name])}
    return {name: str(folder / value) if name in paths else value for name, value in settings.items()}


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as handle:
            return tomllib.load(handle)
    except OSError as error:
        raise UsageError(str(path), error.strerror or "cannot be read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(str(path), f"not TOML ({error})") from error


def _read(table: Any, source: str, file: Path) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise UsageError(source, "expected a table of options")
    options = {key: value for key, value in table.items() if key != GATE}
    settings = read_table(AuditConfig, options, source)
    if GATE in table:
        if "policy" in settings:
            raise UsageError(source, "has a policy of its own in [gate], and names another one")
        settings["policy"] = str(file)
    elif "policy" in settings:
        settings["policy"] = str(file.parent / settings["policy"])
    return settings


def find_project_policy(start: Path) -> Path | None:
    """The policy of the nearest pyproject.toml, from `start` upwards: of the table [tool.salve-audit.gate], or named.

    Raises:
        UsageError: the file has a wrong key.
    """
    policy = read_settings(None, start).get("policy")
    return None if policy is None else Path(policy)
