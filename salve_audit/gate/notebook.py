"""The gate for notebooks and scripts: one call, a result that shows itself, and an exception on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from salve_audit.errors import SalveError, UsageError
from salve_audit.gate.audit_file import open_audit
from salve_audit.gate.output.markdown import render_markdown
from salve_audit.gate.output.text import render_text
from salve_audit.gate.policy import Policy
from salve_audit.gate.policy_file import load_policy, read_policy
from salve_audit.gate.rules import KINDS, SHORTHANDS
from salve_audit.gate.run import NO_LIMIT, Request, judge_file
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

    def __repr__(self) -> str:
        return f"<GateResult {self.verdict.word}: {self.verdict.summary}>"

    def _repr_markdown_(self) -> str:
        return render_markdown(self.verdict)


def judge_for_people(
    audit: AuditResult | str | Path,
    policy: str | Path | Mapping[str, Any] | None = None,
    *,
    baseline: AuditResult | str | Path | None = None,
    model: str | Path | None = None,
    allow_mismatch: Sequence[str] = (),
    **limits: Any,
) -> GateResult:
    """Judge an audit, saved or in memory.

    Args:
        audit: a result folder, its audit.json, or a result.
        policy: a policy file, its table as a mapping, or None: the one that the audit was made with.
        baseline: an earlier audit.
        model: a model file that the audit has to be one of.
        allow_mismatch: what audit and baseline need not share.
        limits: rules by their keys in a policy, or by the words of the command line (``fail_under``,
            ``fail_under_redundancy``, ``fail_over_reliance``); they tighten the policy.

    Raises:
        SalveError: audit, policy or a limit is wrong.

    >>> import salve_audit
    >>> salve_audit.gate("salve-report", max_image_reliance=1.0).exit_code
    0
    """
    unknown = next((key for key in limits if key not in KINDS and key not in SHORTHANDS), None)
    if unknown is not None:
        near = get_close_matches(unknown, [*KINDS, *SHORTHANDS], n=3) or list(KINDS)
        raise UsageError(unknown, "is no limit", hint=f"nearest: {', '.join(near)}")
    rules = {key: value for key, value in limits.items() if _is_table(key)}
    short = {KINDS[key].flag if key in KINDS else key: limits[key] for key in limits if key not in rules}
    file = open_audit(audit)
    request = Request(
        audit=file.path,
        limits=short,
        rules=read_policy(rules, "the call").settings,
        baseline=None if baseline is None else open_audit(baseline),
        model=None if model is None else Path(model),
        allow_mismatch=tuple(allow_mismatch),
    )
    with _keywords({KINDS[key].flag if key in KINDS else key: key for key in limits}):
        return GateResult(judge_file(file, request, _read(policy)).verdict)


def judge(
    audit: AuditResult | str | Path,
    policy: str | Path | Mapping[str, Any] | None = None,
    *,
    baseline: AuditResult | str | Path | None = None,
    allow_mismatch: Sequence[str] = (),
    **limits: Any,
) -> GateResult:
    """Judge an audit under limits; needs no torch.

    Args:
        audit: a result, a result folder, or its audit.json.
        policy: a policy file, or its table as a mapping; None: the one that the audit was made with, if there is one.
        baseline: an earlier audit, for ``max_drop``.
        allow_mismatch: what audit and baseline need not share.
        limits: rules by their keys in a policy: ``max_image_reliance=0.5``, ``min_redundancy=2``,
            ``min_alpha_hat=0.3``, ``max_global_factor``, ``max_drop``, ``min_accuracy`` and so on (docs/ci.md); they
            tighten the policy.

    Returns:
        The verdict: ``passed`` is True, False, or None where nothing can be said; ``require()`` raises if it does not
        hold.

    Raises:
        UsageError: an unknown limit, or a value out of range.
        ResultError: an audit cannot be read.

    >>> import salve_audit
    >>> salve_audit.judge("salve-report", max_image_reliance=1.0).passed
    True
    """
    return judge_for_people(audit, policy, baseline=baseline, allow_mismatch=allow_mismatch, **limits)


@contextmanager
def _keywords(typed: Mapping[str, str]) -> Iterator[None]:
    """Errors in the caller's words: limits by the keywords that were typed, nothing of the command line."""
    try:
        yield
    except UsageError as error:
        hint = "give policy=FILE or a limit, such as max_image_reliance=0.5 to judge()"
        raise UsageError(
            typed.get(error.what, error.what), error.why, hint if error.why == NO_LIMIT else error.hint
        ) from None


def _is_table(key: str) -> bool:
    """True for a rule that only a policy can hold, since no option of the command line stands for it."""
    return key in KINDS and not KINDS[key].flag


def _read(policy: str | Path | Mapping[str, Any] | None) -> Policy | None:
    if policy is None:
        return None
    return read_policy(policy, "policy") if isinstance(policy, Mapping) else load_policy(policy)
