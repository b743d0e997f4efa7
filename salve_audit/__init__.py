"""salve-audit: how much an image classifier leans on single features.

Importing the package loads neither torch nor click; the public names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "AuditConfig",
    "AuditResult",
    "SalveError",
    "Thresholds",
    "__version__",
    "load_audit",
    "run_audit",
    "thresholds",
]

_HOME = {
    "AuditConfig": "salve_audit.config",
    "AuditResult": "salve_audit.results",
    "SalveError": "salve_audit.errors",
    "Thresholds": "salve_audit.reliance.thresholds",
    "load_audit": "salve_audit.results",
    "run_audit": "salve_audit.audit",
    "thresholds": "salve_audit.reliance.thresholds",
}

if TYPE_CHECKING:
    from salve_audit.audit import run_audit
    from salve_audit.config import AuditConfig
    from salve_audit.errors import SalveError
    from salve_audit.reliance.thresholds import Thresholds, thresholds
    from salve_audit.results import AuditResult, load_audit


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'salve_audit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
