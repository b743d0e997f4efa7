"""salve-audit measures how much an image classifier depends on single features.

Importing the package loads neither torch nor click; the public names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {  # the public names and their modules
    "AuditConfig": "salve_audit.config",
    "AuditResult": "salve_audit.results",
    "SalveError": "salve_audit.errors",
    "Thresholds": "salve_audit.reliance.thresholds",
    "load_audit": "salve_audit.results",
    "run_audit": "salve_audit.audit.run",
    "thresholds": "salve_audit.reliance.thresholds",
}

__all__ = sorted(("__version__", "gate", *_HOME))

if TYPE_CHECKING:  # the aliases tell a type checker that these are public
    from salve_audit import gate as gate
    from salve_audit.audit.run import run_audit as run_audit
    from salve_audit.config import AuditConfig as AuditConfig
    from salve_audit.errors import SalveError as SalveError
    from salve_audit.reliance.thresholds import Thresholds as Thresholds
    from salve_audit.reliance.thresholds import thresholds as thresholds
    from salve_audit.results import AuditResult as AuditResult
    from salve_audit.results import load_audit as load_audit


def __getattr__(name: str) -> Any:
    if name == "gate":  # a package that can be called
        return importlib.import_module("salve_audit.gate")
    if name not in _HOME:
        raise AttributeError(f"module 'salve_audit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
