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
    "SparseAutoencoder": "salve_audit.sae.estimator",
    "Thresholds": "salve_audit.reliance.thresholds",
    "apply_edit": "salve_audit.live.edit",
    "audit_model": "salve_audit.live.audit",
    "heat_map": "salve_audit.live.heat",
    "judge": "salve_audit.gate.notebook",
    "load_audit": "salve_audit.results",
    "load_sae": "salve_audit.sae.estimator",
    "run_audit": "salve_audit.audit.run",
    "thresholds": "salve_audit.reliance.thresholds",
}
_CALLABLE = ("compare", "explain", "gate")  # packages that can be called, see `callable_package`

__all__ = sorted(("__version__", *_CALLABLE, *_HOME))

if TYPE_CHECKING:  # the aliases tell a type checker that these are public
    from salve_audit import gate as gate
    from salve_audit.audit.run import run_audit as run_audit
    from salve_audit.compare.library import compare as compare
    from salve_audit.config import AuditConfig as AuditConfig
    from salve_audit.errors import SalveError as SalveError
    from salve_audit.gate.notebook import judge as judge
    from salve_audit.live.audit import audit_model as audit_model
    from salve_audit.live.edit import apply_edit as apply_edit
    from salve_audit.live.explanation import explain as explain
    from salve_audit.live.heat import heat_map as heat_map
    from salve_audit.reliance.thresholds import Thresholds as Thresholds
    from salve_audit.reliance.thresholds import thresholds as thresholds
    from salve_audit.results import AuditResult as AuditResult
    from salve_audit.results import load_audit as load_audit
    from salve_audit.sae.estimator import SparseAutoencoder as SparseAutoencoder
    from salve_audit.sae.estimator import load_sae as load_sae


def __getattr__(name: str) -> Any:
    if name in _CALLABLE:
        return importlib.import_module(f"salve_audit.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'salve_audit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
