"""Two audits -> what changed, with statistics: paired over images where both audits saw the same.

The package can be called: ``salve_audit.compare(old, new)``; see `salve_audit.compare.library.compare`.
"""

from salve_audit.callable_package import make_callable
from salve_audit.compare.audits import compare_audits

__all__ = ["compare_audits"]

make_callable(__name__, "salve_audit.compare.library", "compare")
