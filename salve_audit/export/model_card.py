"""A section for a model card, with the metadata that Hugging Face reads: ``model-index`` in the YAML at its top.

The metadata follows https://github.com/huggingface/hub-docs/blob/main/modelcard.md: one result with the accuracy and
the measures of this tool as its metrics.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import PurePath

from salve_audit.gate.output.markdown import escape
from salve_audit.report.conclusions import Conclusion, Conclusions, Group
from salve_audit.report.numbers import clean, percent, percent_interval, strength, strength_interval, unmarked
from salve_audit.report.sentences import GROUP_TITLES, headline
from salve_audit.results import AuditResult
from salve_audit.results.plain_text import plain

MOST_ROWS = 50  # classes in the table; audit.json has all
NAME = "salve-audit"
TASK = "image-classification"


def render_model_card(result: AuditResult) -> str:
    """The Markdown text, metadata first. A card that exists takes both parts by hand."""
    return f"---\n{_metadata(result)}---\n\n{_section(result)}"


def _metadata(result: AuditResult) -> str:
    data = PurePath(result.data.root).name or "data"
    lines = [
        "tags:",
        f"- {TASK}",
        f"- {NAME}",
        "model-index:",
        f"- name: {_quote(result.model.name)}",
        "  results:",
        "  - task:",
        f"      type: {TASK}",
        "      name: Image classification",
        "    dataset:",
        "      type: imagefolder",
        f"      name: {_quote(data)}",
        "      split: audit",
        "    metrics:",
    ]
    for kind, name, value in _metrics(result):
        lines += [f"    - type: {kind}", f"      name: {name}", f"      value: {round(value, 6)!r}"]
    return "\n".join([*lines, ""])


def _metrics(result: AuditResult) -> Iterator[tuple[str, str, float]]:
    """Type, name and value of what a machine should read; what was not measured or not reached is left out."""
    n, n_correct = result.counts
    yield "accuracy", "Accuracy", n_correct / n if n else 0.0
    reliances = [each.image_reliance for each in result.classes if each.image_reliance is not None]
    if reliances:
        yield "max_image_reliance", "Largest image reliance of a class", max(each.reliance for each in reliances)
        yield (
            "median_image_reliance",
            "Median image reliance over classes",
            statistics.median(each.reliance for each in reliances),
        )
    flips = [each.alpha_hat.flip.median for each in result.classes if each.alpha_hat.flip.median is not None]
    if flips:
        yield "min_alpha_hat", "Smallest alpha_hat flip median of a class", min(flips)


def _section(result: AuditResult) -> str:
    conclusions = Conclusions(result)
    verdict = result.verdict
    policy = f"Policy: {escape(verdict.policy)}. " if verdict.policy else ""
    lines = [
        "## What the model depends on in its images",
        "",
        escape(unmarked(headline(conclusions))),
        "",
        f"{policy}Verdict: **{verdict.word}**.",
        "",
        "| class | images | accuracy | image reliance | kind | redundancy | α̂ flip | conclusion |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(conclusion) for conclusion in conclusions.ranked[:MOST_ROWS]),
    ]
    left = len(conclusions.ranked) - MOST_ROWS
    lines += ["", f"{left:,} more classes are in audit.json."] if left > 0 else []
    lines += ["", _how(result), "", _provenance(result), ""]
    return "\n".join(lines)


def _row(conclusion: Conclusion) -> str:
    info, reliance = conclusion.info, conclusion.reliance
    flip = info.alpha_hat.flip
    interval = strength_interval(*info.judged_interval)
    in_image = ["not measured", "", ""]
    if reliance is not None:
        share, around = (
            percent(reliance.reliance, reliance.n),
            percent_interval(reliance.low, reliance.high, reliance.n),
        )
        beyond = f"more than {reliance.redundancy_limit}"
        redundancy = beyond if reliance.redundancy is None else str(reliance.redundancy)
        in_image = [f"{share} ({around} %)", _given(reliance.kind or "none"), redundancy]
    group = GROUP_TITLES[conclusion.group] if conclusion.group is not Group.NOT_EXAMINED else ""
    cells = [
        _given(info.name),
        f"{info.n:,}",
        percent(info.accuracy, info.n),
        *in_image,
        strength(flip.median) + (f" ({interval})" if interval else ""),
        group,
    ]
    return "| " + " | ".join(map(plain, cells)) + " |"


def _given(text: str) -> str:
    """A text that the audit's files hold, without markup of its own."""
    return escape(clean(text))


def _how(result: AuditResult) -> str:
    measured = (
        "*Image reliance* is the largest share of a class's images that are misclassified once one thing is removed "
        "from the image (evidence regions of one kind, or a global factor such as the border or the colours); "
        "*redundancy* is how many regions must be removed until at most half are classified correctly."
    )
    flip = "*α̂ flip* is the strength at which half of the class's predictions flip when its dominant feature is edited."
    in_image = any(each.image_reliance is not None for each in result.classes)
    return f"{measured} {flip} Intervals are 95 %." if in_image else f"{flip} Intervals are 95 %."


def _provenance(result: AuditResult) -> str:
    return (
        f"Measured by {NAME} {result.tool_version} on {result.created[:10]}, seed {result.seed}: "
        f"{result.data.n_audit:,} images to audit, {result.data.n_fit:,} to fit. "
        f"Model sha256 `{result.provenance.model_sha256}`, data sha256 `{result.provenance.data_sha256}`."
    )


def _quote(text: str) -> str:
    """A YAML string in double quotes."""
    return json.dumps(clean(text), ensure_ascii=False)
