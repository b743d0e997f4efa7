"""The policy of an audit: read before the work starts, judged when its numbers are there."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from salve_audit.config import AuditConfig, policy_of
from salve_audit.gate.audit_file import wrap_result
from salve_audit.gate.deciding import choose_images, foresee_second_look
from salve_audit.gate.policy import Policy
from salve_audit.gate.run import Inputs, compare, load_inputs
from salve_audit.gate.samples import parse_samples
from salve_audit.gate.verdict import Given, judge
from salve_audit.results import AuditResult, Verdict


@dataclass(frozen=True)
class Judgement:
    """What the audit will be judged by.

    Attributes:
        policy: of the configuration.
        inputs: the review and the baseline that it names.
    """

    policy: Policy
    inputs: Inputs


def prepare_judgement(config: AuditConfig) -> Judgement:
    """Policy, review and baseline, read and checked before the work starts.

    Raises:
        UsageError: one of them is wrong, or a baseline is needed and not named.
        ResultError: the baseline cannot be read.
    """
    policy = policy_of(config)
    baseline = Path(config.baseline) if config.baseline is not None else None
    return Judgement(policy, load_inputs(policy, baseline, config.allow_mismatch))


def judge_audit(judgement: Judgement, result: AuditResult, samples: bytes) -> AuditResult:
    """The result with its verdict; `samples`: content of samples.parquet."""
    return dataclasses.replace(result, verdict=_judge(judgement, result, samples))


def choose_more_images(judgement: Judgement, result: AuditResult, samples: bytes) -> Mapping[str, int]:
    """How many images would decide on classes that are undecided, by name of the class; `samples`: samples.parquet."""
    foreseen = dataclasses.replace(judgement, policy=foresee_second_look(judgement.policy))
    return choose_images(_judge(foreseen, result, samples), result)


def _judge(judgement: Judgement, result: AuditResult, samples: bytes) -> Verdict:
    inputs = judgement.inputs
    own = parse_samples(io.BytesIO(samples), "samples.parquet") if inputs.baseline is not None else None
    losses, refused, unpaired = compare(judgement.policy, inputs, wrap_result(result), own)
    given = Given(inputs.review, losses, (*inputs.problems, *refused), (*inputs.notes, *unpaired))
    return judge(result, judgement.policy, given)
