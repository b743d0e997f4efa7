"""The gate for notebooks and scripts: one call, a result that shows itself, and an exception on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salve_audit.errors import SalveError
from salve_audit.gate.audit_file import read_audit_file, wrap_result
from salve_audit.gate.output.markdown import render_markdown
from salve_audit.gate.output.text import render_text
from salve_audit.gate.policy import Policy
from salve_audit.gate.policy_file import load_policy, read_policy
from salve_audit.gate.run import Request, judge_file
from salve_audit.results import AuditResult, Verdict


class GateError(SalveError):
    """A verdict that does not hold; `exit_code` is 1 where the policy is violated and 2 where nothing can be said."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("gate", render_text(verdict))
        self.exit_code = verdict.exit_code


@dataclass(frozen=True)
class GateResult:
    """A verdict that notebooks show as a table."""

    verdict: Verdict

    @property
    def passed(self) -> bool | None:
        """None: the audit cannot be trusted, or there is no policy."""
        return self.verdict.passed

    @property
    def exit_code(self) -> int:
        """0: holds, 1: violated, 2: nothing can be said."""
        return self.verdict.exit_code

    def require(self) -> GateResult:
        """Itself.

        Raises:
            GateError: the verdict does not hold.
        """
        if self.exit_code:
            raise GateError(self.verdict)
        return self

    def __str__(self) -> str:
        return render_text(self.verdict)

    def _repr_markdown_(self) -> str:
        return render_markdown(self.verdict)


def judge_for_people(
    audit: AuditResult | str | Path,
    policy: str | Path | Mapping[str, Any] | None = None,
    *,
    baseline: str | Path | None = None,
    model: str | Path | None = None,
    allow_mismatch: Sequence[str] = (),
    **limits: float,
) -> GateResult:
    """Judge an audit, saved or in memory.

    Args:
        audit: a result folder, its audit.json, or a result.
        policy: a policy file, its table as a mapping, or None: the one that the audit was made with.
        baseline: an earlier audit.
        model: a model file that the audit has to be one of.
        allow_mismatch: what audit and baseline need not share.
        limits: ``fail_under``, ``fail_under_redundancy``, ``fail_over_reliance``; they tighten the policy.

    Raises:
        SalveError: audit, policy or a limit is wrong.
    """
    if isinstance(audit, AuditResult):
        file = wrap_result(audit)
    else:
        file = read_audit_file(Path(audit))
    request = Request(
        audit=file.path,
        limits=limits,
        baseline=None if baseline is None else Path(baseline),
        model=None if model is None else Path(model),
        allow_mismatch=tuple(allow_mismatch),
    )
    return GateResult(judge_file(file, request, _read(policy)).verdict)


def _read(policy: str | Path | Mapping[str, Any] | None) -> Policy | None:
    if policy is None:
        return None
    return read_policy(policy, "policy") if isinstance(policy, Mapping) else load_policy(policy)
