"""Findings of ``explain`` as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.cli.printing import aligned
from salve_audit.explain.findings import (
    ClassScore,
    Decomposition,
    EditFinding,
    ExplainedFactors,
    ExplainedRegions,
    Explanation,
)
from salve_audit.explain.words import (
    conclude,
    conclude_edit,
    conclude_factors,
    conclude_insertion,
    conclude_regions,
    describe_factor,
    describe_flip,
    describe_region,
    list_parts,
    list_telling,
    name_feature,
    name_region,
    show_share,
    signed,
)
from salve_audit.report.numbers import NBSP, percent
from salve_audit.results.plain_text import plain

MAPS_HINT = "heat maps: -o FILE.html or -o FILE.png"


def render_text(explanations: Sequence[Explanation]) -> str:
    """All findings, one after the other."""
    return "\n\n\n".join(_explain(explanation) for explanation in explanations) + "\n"


def _explain(explanation: Explanation) -> str:
    decomposition = explanation.decomposition
    blocks = [
        _plain(f"{explanation.image}: {conclude(explanation)}"),
        _table([["class", "probability", "logit"], *_scores(explanation.scores)]),
        _plain(f"logit of {decomposition.class_name}, {decomposition.logit:.2f} = the sum of")
        + "\n"
        + _table(_parts(decomposition)),
    ]
    if explanation.regions is not None:
        blocks.append("\n".join(_plain(line) for line in _regions(explanation.regions, explanation.predicted.name)))
    if explanation.factors is not None:
        blocks.append("\n".join(_plain(line) for line in _factors(explanation.factors, explanation.predicted.name)))
    if explanation.edit is not None:
        table = _table([["class", "before", "after", "logit after"], *_changes(explanation.edit)])
        lines = ["after the edit: " + "; ".join(explanation.edit.steps), conclude_edit(explanation.edit)]
        blocks.append("\n".join([*(_plain(line) for line in lines), table]))
    blocks.append(MAPS_HINT if explanation.maps is not None else _plain(f"no heat maps: {explanation.why_no_maps}"))
    return "\n\n".join(blocks)


def _regions(evidence: ExplainedRegions, own: str) -> list[str]:
    lines = [f"in the image: {conclude_regions(evidence, own)}"]
    for number, region in enumerate(evidence.regions, 1):
        lines.append(
            f"  {name_region(region, number)}, {percent(region.area)} of the area: {describe_region(region, own)}"
        )
    return lines


def _factors(factors: ExplainedFactors, own: str) -> list[str]:
    lines = [f"of the image as a whole: {conclude_factors(factors, own)}"]
    lines += [f"  without its {each.name}: {describe_factor(each, own)}" for each in list_telling(factors, own)]
    if factors.into is not None:
        lines.append(f"with what {factors.into} has: {conclude_insertion(factors)}")
        lines += [f"  with its {each.name}: {describe_factor(each, own)}" for each in factors.inserted]
    return lines


def _plain(text: str) -> str:
    return plain(text.replace(NBSP, " "))


def _table(rows: list[list[str]]) -> str:
    return "\n".join(aligned([[_plain(cell) for cell in row] for row in rows]))


def _changes(edit: EditFinding) -> list[list[str]]:
    return [
        [after.name, percent(before.probability), percent(after.probability), f"{after.logit:.2f}"]
        for before, after in zip(edit.before, edit.after, strict=True)
    ]


def _scores(scores: Sequence[ClassScore]) -> list[list[str]]:
    return [[score.name, percent(score.probability), f"{score.logit:.2f}"] for score in scores]


def _parts(decomposition: Decomposition) -> list[list[str]]:
    rows = [["part", "code", "adds", "share", f"leads {decomposition.runner_up} by", "flips at alpha_hat"]]
    for each in decomposition.features:
        code, lead = f"{each.code:.2f}", signed(each.lead)
        rows.append(
            [
                name_feature(each),
                code,
                signed(each.part),
                show_share(decomposition, each.part),
                lead,
                describe_flip(each.flip),
            ]
        )
    rows += [
        [name, "", signed(value), show_share(decomposition, value), "", ""] for name, value in list_parts(decomposition)
    ]
    return rows
