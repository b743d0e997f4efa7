"""The gate: an audit under a policy becomes a verdict. The package can be called: ``salve_audit.gate("salve-report")``.

See `salve_audit.gate.notebook.judge_for_people` for the arguments and the result.
"""

from __future__ import annotations

import sys
import types
from typing import Any


class _CallablePackage(types.ModuleType):
    """The package as a function, so that a notebook needs no second name for it."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from salve_audit.gate.notebook import judge_for_people

        return judge_for_people(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
