"""Packages that can be called, where the package and what it does have one name: ``compare(old, new)``."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any


def make_callable(package: str, module: str, function: str) -> None:
    """Lets the package `package` be called as `function` of `module`, which is imported at the first call."""

    class CallablePackage(types.ModuleType):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return getattr(importlib.import_module(module), function)(*arguments, **options)

    sys.modules[package].__class__ = CallablePackage
