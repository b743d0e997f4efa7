"""The gate: an audit under a policy becomes a verdict. The package can be called: ``salve_audit.gate("salve-report")``.

See `salve_audit.gate.notebook.judge_for_people` for the arguments and the result.
"""

from salve_audit.callable_package import make_callable

make_callable(__name__, "salve_audit.gate.notebook", "judge_for_people")
