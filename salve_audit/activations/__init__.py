"""Stage 2: Classifier + ImageSet -> Activations, by one backbone pass or from the cache.

Importing the package is light; what needs torch is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "ActivationSplit": "store",
    "Activations": "store",
    "ExtractSettings": "extraction",
    "LoaderSettings": "pictures",
    "Skipped": "store",
    "build_loader": "pictures",
    "choose_device": "device",
    "choose_precision": "device",
    "choose_workers": "device",
    "default_cache_dir": "cache",
    "extract": "extraction",
}

__all__ = [
    "ActivationSplit",
    "Activations",
    "ExtractSettings",
    "LoaderSettings",
    "Skipped",
    "build_loader",
    "choose_device",
    "choose_precision",
    "choose_workers",
    "default_cache_dir",
    "extract",
]

if TYPE_CHECKING:
    from salve_audit.activations.cache import default_cache_dir
    from salve_audit.activations.device import choose_device, choose_precision, choose_workers
    from salve_audit.activations.extraction import ExtractSettings, extract
    from salve_audit.activations.pictures import LoaderSettings, build_loader
    from salve_audit.activations.store import Activations, ActivationSplit, Skipped


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
