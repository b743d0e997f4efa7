"""Findings of ``explain`` as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from salve_audit.cli.printing import aligned, plain
from salve_audit.explain.findings import ClassScore, Decomposition, EditFinding, Explanation, Pieces
from salve_audit.explain.words import (
    conclude,
    conclude_edit,
    conclude_pieces,
    describe_flip,
    describe_piece,
    list_parts,
    name_feature,
    name_piece,
    show_share,
    signed,
)
from salve_audit.report.numbers import NBSP, percent

MAPS_HINT = "heat maps: -o FILE.html or -o FILE.png"


def render_text(found: Sequence[Explanation]) -> str:
    """All findings, one after the other."""
    return "\n\n\n".join(_explain(one) for one in found) + "\n"


def _explain(found: Explanation) -> str:
    one = found.decomposition
    blocks = [
        _plain(f"{found.image}: {conclude(found)}"),
        _table([["class", "probability", "logit"], *_scores(found.scores)]),
        _plain(f"logit of {one.class_name}, {one.logit:.2f} = the sum of") + "\n" + _table(_parts(one)),
    ]
    if found.pieces is not None:
        blocks.append("\n".join(_plain(line) for line in _pieces(found.pieces, found.predicted.name)))
    if found.edit is not None:
        table = _table([["class", "before", "after", "logit after"], *_changes(found.edit)])
        lines = ["after the edit: " + "; ".join(found.edit.steps), conclude_edit(found.edit)]
        blocks.append("\n".join([*(_plain(line) for line in lines), table]))
    blocks.append(MAPS_HINT if found.maps is not None else _plain(f"no heat maps: {found.why_no_maps}"))
    return "\n\n".join(blocks)


def _pieces(pieces: Pieces, own: str) -> list[str]:
    lines = [f"in the picture: {conclude_pieces(pieces, own)}"]
    for number, one in enumerate(pieces.found, 1):
        lines.append(f"  {name_piece(one, number)}, {percent(one.area)} of the area: {describe_piece(one, own)}")
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
    return [[one.name, percent(one.probability), f"{one.logit:.2f}"] for one in scores]


def _parts(one: Decomposition) -> list[list[str]]:
    rows = [["part", "code", "adds", "share", f"leads {one.runner_up} by", "flips at alpha_hat"]]
    for each in one.features:
        code, lead = f"{each.code:.2f}", signed(each.lead)
        rows.append(
            [name_feature(each), code, signed(each.part), show_share(one, each.part), lead, describe_flip(each.flip)]
        )
    rows += [[name, "", signed(value), show_share(one, value), "", ""] for name, value in list_parts(one)]
    return rows
