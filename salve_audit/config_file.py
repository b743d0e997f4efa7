"""Options from a TOML file or from [tool.salve-audit] of the pyproject.toml in the working folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from salve_audit.config import AuditConfig, config_keys
from salve_audit.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS: dict[str, tuple[type, ...]] = {
    "arch": (str,),
    "head": (str,),
    "weights": (str,),
    "trust_model": (bool,),
    "classes": (str,),
    "label": (str,),
    "out": (str,),
    "format": (list,),
    "seed": (int,),
    "limit": (int,),
    "batch_size": (int,),
    "workers": (int,),
    "device": (str,),
    "precision": (str,),
    "sae": (str,),
    "n_latents": (int,),
    "sae_seeds": (int,),
    "concepts": (list,),
    "interventions": (list,),
    "deep_edits": (str,),
    "depth": (str,),
    "depth_layers": (list,),
    "fail_under": (int, float),
    "fail_under_redundancy": (int,),
    "fail_over_reliance": (int, float),
    "cache": (str,),
    "use_cache": (bool,),
    "keep_activations": (bool,),
    "images": (bool,),
    "saliency_layer": (str,),
    "activation_maximisation": (str,),
}
assert set(KINDS) == set(config_keys()) - {"progress"}, "every option of AuditConfig may stand in a file"


def read_settings(file: Path | None, folder: Path | None = None) -> dict[str, Any]:
    """Keyword arguments of AuditConfig: those of `file` over those of the folder's pyproject.toml.

    Args:
        file: a TOML file with the options at its top level, or None.
        folder: where pyproject.toml is looked for; None: the working folder.

    Raises:
        UsageError: a file is missing or no TOML, a key is unknown, or a value has the wrong type.
    """
    settings: dict[str, Any] = {}
    project = (folder or Path.cwd()) / "pyproject.toml"
    if project.is_file():
        table = _load(project).get("tool", {}).get("salve-audit", {})
        settings.update(_checked(table, f"{project.name} [tool.salve-audit]"))
    if file is not None:
        settings.update(_checked(_load(file), str(file)))
    return settings


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as handle:
            return tomllib.load(handle)
    except OSError as error:
        raise UsageError(str(path), error.strerror or "cannot be read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(str(path), f"not TOML ({error})") from error


def _checked(table: Any, source: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise UsageError(source, "expected a table of options")
    settings = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in KINDS:
            raise UsageError(source, f"unknown option {key!r}", hint="known: " + ", ".join(sorted(KINDS)))
        kinds = KINDS[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise UsageError(source, f"expected {expected}, got {type(value).__name__} in {key!r}")
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            raise UsageError(source, f"expected a list of strings in {key!r}")
        settings[name] = tuple(value) if isinstance(value, list) else value
    assert set(settings) <= {*config_keys()}, AuditConfig
    return settings
