"""The policy of an audit: read before the work starts, judged when its numbers are there."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from salve_audit.activations.store import ActivationSplit
from salve_audit.config import AuditConfig, limits_of
from salve_audit.errors import UsageError
from salve_audit.gate.audit_file import wrap_result
from salve_audit.gate.baseline import Samples
from salve_audit.gate.policy import Policy, tighten
from salve_audit.gate.policy_file import load_policy
from salve_audit.gate.run import Inputs, compare, load_inputs
from salve_audit.gate.verdict import Given, judge
from salve_audit.reliance.by_class import SampleThresholds
from salve_audit.results import AuditResult


@dataclass(frozen=True)
class Judgement:
    """What the audit will be judged by.

    Attributes:
        policy: of the configuration.
        inputs: the review and the baseline that it names.
    """

    policy: Policy
    inputs: Inputs


def find_policy(config: AuditConfig) -> Policy:
    """The policy file of the configuration, tightened by its limits; an empty one where there is neither.

    Raises:
        UsageError: the file cannot be read or has a wrong key, or needs image reliance, which is turned off.
    """
    policy = tighten(load_policy(config.policy) if config.policy is not None else Policy(), limits_of(config))
    if policy.in_image and config.evidence == "off":
        raise UsageError("evidence", f"is off, but {policy.source} has a rule on the image")
    return policy


def prepare_judgement(config: AuditConfig) -> Judgement:
    """Policy, review and baseline, read and checked before the work starts.

    Raises:
        UsageError: one of them is wrong, or a baseline is needed and not named.
        ResultError: the baseline cannot be read.
    """
    policy = find_policy(config)
    baseline = Path(config.baseline) if config.baseline is not None else None
    return Judgement(policy, load_inputs(policy, baseline))


def judge_audit(
    judgement: Judgement, result: AuditResult, split: ActivationSplit, thresholds: SampleThresholds
) -> AuditResult:
    """The result with its verdict."""
    inputs = judgement.inputs
    samples = _gather_samples(result, split, thresholds) if inputs.baseline is not None else None
    losses, refused = compare(judgement.policy, inputs, wrap_result(result), samples)
    given = Given(inputs.review, losses, (*inputs.problems, *refused))
    return dataclasses.replace(result, verdict=judge(result, judgement.policy, given))


def _gather_samples(result: AuditResult, split: ActivationSplit, thresholds: SampleThresholds) -> Samples:
    """The columns of samples.parquet that a comparison reads."""
    correct = (thresholds.predicted == split.labels) & (thresholds.margin > 0)
    labels = [result.data.classes[label] for label in split.labels]
    return Samples(list(split.paths), labels, correct, thresholds.flip * thresholds.coupling_max)
