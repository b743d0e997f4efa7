"""The gate from end to end: a saved audit, the policy that is in force, what it is compared with, and the Verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salve_audit.errors import UsageError
from salve_audit.gate.audit_file import BROKEN, CHANGED, UNSEALED, AuditFile, check_model, read_audit_file
from salve_audit.gate.baseline import check_mismatches, compare_with_baseline, describe_unpaired, find_mismatches
from salve_audit.gate.compared import Compared
from salve_audit.gate.policy import Policy, Setting, add_rules, tighten
from salve_audit.gate.policy_file import load_policy, read_policy
from salve_audit.gate.recompute import find_contradictions
from salve_audit.gate.review import Review, load_review
from salve_audit.gate.rules import DROP, SHORTHANDS, check_limit
from salve_audit.gate.samples import Samples, samples_of
from salve_audit.gate.verdict import Given, group_of, judge
from salve_audit.results import AuditResult, Verdict
from salve_audit.results.notes import find_distrust

NO_LIMIT = "was audited without a limit"


@dataclass(frozen=True)
class Request:
    """What is to be judged, and how.

    Attributes:
        audit: a saved audit.
        policy: a policy file; None: that of the project, else the one saved with the audit.
        project: a pyproject.toml with a policy, found upwards; None: none was found.
        limits: of the command line, by the names of their options.
        rules: further ones, which tighten the policy as limits do.
        baseline: an earlier audit; None: the policy's, if it names one.
        model: a model file that the audit has to be one of.
        allow_mismatch: what the audit and its baseline need not share, and ``digest``.
    """

    audit: Path
    policy: Path | None = None
    project: Path | None = None
    limits: Mapping[str, float | None] = field(default_factory=dict)
    rules: tuple[Setting, ...] = ()
    baseline: Path | AuditFile | None = None
    model: Path | None = None
    allow_mismatch: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gated:
    """A judged audit.

    Attributes:
        file: as it was read.
        policy: in force.
        verdict: on it.
    """

    file: AuditFile
    policy: Policy
    verdict: Verdict


def run_gate(request: Request) -> Gated:
    """Judges a saved audit; needs no torch, and no numpy where there is no baseline.

    Raises:
        UsageError: policy, review or limits are wrong, or there is no policy at all.
        ResultError: the audit cannot be read.
    """
    return judge_file(read_audit_file(request.audit), request)


def judge_file(file: AuditFile, request: Request, policy: Policy | None = None) -> Gated:
    """Judges an audit that has been read; `policy`: in place of the request's.

    Raises:
        UsageError: policy, review or limits are wrong, or there is no policy at all.
        ResultError: the baseline cannot be read.
    """
    is_saved = policy is None and request.policy is None and request.project is None
    policy = find_policy(request, file, policy)
    if policy.is_empty:
        hint = "name one with --policy FILE, write one with --init, or give a limit such as --fail-under X"
        raise UsageError(str(request.audit), NO_LIMIT, hint=hint)
    inputs = load_inputs(policy, request.baseline, request.allow_mismatch)
    problems = [*_find_file_problems(request, file, inputs.allowed), *inputs.problems]
    samples = samples_of(file) if inputs.baseline is not None else None
    losses, mismatched, unpaired = compare(policy, inputs, file, samples)
    problems += mismatched
    given = Given(inputs.review, losses, tuple(problems), (*_find_notes(file, policy), *inputs.notes, *unpaired))
    verdict = judge(file.result, policy, given)
    return Gated(file, policy, _with_lines(verdict, file.result.verdict) if is_saved else verdict)


def _with_lines(verdict: Verdict, saved: Verdict) -> Verdict:
    """The verdict with the lines of the policy file that the saved one has, for its table does not hold them."""
    lines = {(rule.class_name, group_of(rule)): rule.line for rule in saved.rules}
    rules = (
        rule if rule.line is not None else dataclasses.replace(rule, line=lines.get((rule.class_name, group_of(rule))))
        for rule in verdict.rules
    )
    return dataclasses.replace(verdict, rules=tuple(rules))


@dataclass(frozen=True)
class Inputs:
    """The files that a policy names, read.

    Attributes:
        review: the review file.
        baseline: the earlier audit.
        allowed: mismatches that are allowed.
        problems: why one of them cannot be used.
        notes: what else a reader should know of them.
    """

    review: Review | None = None
    baseline: AuditFile | None = None
    allowed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_inputs(policy: Policy, baseline: Path | AuditFile | None = None, allowed: tuple[str, ...] = ()) -> Inputs:
    """The review and the baseline of a policy.

    Raises:
        UsageError: the review is wrong, or a rule needs a baseline and none is named.
        ResultError: the baseline cannot be read.
    """
    review = load_review(policy.review) if policy.review is not None else None
    allowed = (*allowed, *policy.allow_mismatch)
    check_mismatches({}, allowed)
    needs = any(setting.kind is DROP and setting.limit is not None for setting in policy.all_settings)
    path = baseline or policy.baseline
    if needs and path is None:
        raise UsageError(policy.source or "policy", "max_drop needs a baseline", hint="name one with --baseline AUDIT")
    if path is None:
        return Inputs(review, allowed=allowed)
    earlier = path if isinstance(path, AuditFile) else read_audit_file(path)
    if not needs:
        return Inputs(review, allowed=allowed, notes=(_IDLE,))
    return Inputs(review, earlier, allowed, tuple(_find_baseline_problems(earlier)))


def _find_baseline_problems(baseline: AuditFile) -> Iterator[str]:
    """Why a baseline is no measure of anything, whatever it shares with the audit."""
    if baseline.stale is not None:
        yield f"the baseline {baseline.path} is stale: {baseline.stale}"
    if baseline.digest == BROKEN:
        yield f"the baseline {baseline.path} {CHANGED}"
    for contradiction in find_contradictions(baseline.result):
        yield f"in the baseline, {contradiction}"
    for note in find_distrust(baseline.result.notes, baseline.result.distrust):
        yield f"the baseline's own warning: {note}"


_IDLE = "a baseline is named, and no max_drop in the policy: nothing is compared with it"


def compare(
    policy: Policy, inputs: Inputs, file: AuditFile, samples: Samples | None
) -> tuple[Mapping[tuple[str, str], Any], tuple[str, ...], tuple[str, ...]]:
    """Losses against the baseline, why they cannot be measured, and what else is to be said of them."""
    if inputs.baseline is None:
        return {}, (), ()
    mismatches = find_mismatches(file, inputs.baseline)
    if inputs.baseline.digest == BROKEN:
        del mismatches["digest"]  # a problem already, which nothing allows
    refused = check_mismatches(mismatches, inputs.allowed)
    if refused:
        return {}, refused, ()
    old = inputs.baseline
    compared = Compared(file.result, old.result, samples, samples_of(old), str(old.folder), inputs.review)
    return compare_with_baseline(policy, compared), (), describe_unpaired(policy, compared)


def find_policy(request: Request, file: AuditFile, policy: Policy | None = None) -> Policy:
    """The policy in force: the named one, else the project's, else the one saved with the audit; limits tighten it."""
    named = request.policy or request.project
    if policy is None:
        policy = load_policy(named) if named is not None else saved_policy(file.result)
    policy = add_rules(policy, request.rules, "the call")
    given = {name: value for name, value in request.limits.items() if value is not None}
    return tighten(policy, {name: check_limit(name, value) for name, value in given.items()})


def saved_policy(result: AuditResult) -> Policy:
    """The policy that an audit was judged under, read again; an empty one where there was none."""
    verdict = result.verdict
    if verdict.table:
        policy = read_policy(verdict.table, verdict.source or "the audit's own policy", file=verdict.policy_file)
        return dataclasses.replace(policy, source=verdict.source)
    config = result.provenance.config
    limits = {name: config[name] for name in SHORTHANDS if config.get(name) is not None}
    policy = tighten(Policy(), {name: check_limit(name, value) for name, value in limits.items()})
    return dataclasses.replace(policy, source="the audit's own limits" if limits else "")


def _find_file_problems(request: Request, file: AuditFile, allowed: tuple[str, ...]) -> list[str]:
    problems = []
    if file.stale is not None:
        problems.append(f"the results in {file.folder} are stale: {file.stale}")
    if file.digest == BROKEN:
        problems.append(f"audit.json {CHANGED}")
    if file.digest == UNSEALED and "digest" not in allowed:
        why = "audit.json carries no digest over its numbers: an earlier version wrote it, or it was edited"
        problems.append(f"{why} (--allow-mismatch digest judges it nevertheless)")
    if request.model is not None:
        other = check_model(file, request.model)
        problems += [other] if other is not None else []
    return problems + _find_saved_contradiction(file)


def _find_saved_contradiction(file: AuditFile) -> list[str]:
    """A saved verdict that says more than the numbers do; one that needed other files is not judged again."""
    saved, policy = file.result.verdict, saved_policy(file.result)
    needs_files = policy.review is not None or any(setting.kind is DROP for setting in policy.all_settings)
    if saved.passed is None or needs_files:
        return []
    if policy.is_empty:
        return ["audit.json has a verdict without a policy"]
    again = judge(file.result, policy)
    if again.exit_code == saved.exit_code or (again.problems and not saved.passed):
        return []
    if again.problems and not saved.problems:  # an earlier version looked at less
        return []
    return [f"audit.json says {saved.word}; judged again, its numbers say {again.word}"]


def _find_notes(file: AuditFile, policy: Policy) -> list[str]:
    """What the saved verdict was, where another policy is in force now."""
    saved = file.result.verdict
    if saved.policy is None or saved.policy == policy.words:
        return []
    return [f"when it was made, the audit was judged under {saved.policy}: {saved.word}"]
