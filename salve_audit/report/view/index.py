"""The index of all classes: in the HTML a table that sorts and filters, on paper three columns of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from salve_audit.report.conclusions import Conclusions
from salve_audit.report.language import say
from salve_audit.report.numbers import percent, strength
from salve_audit.report.sentences import GROUP_TITLES
from salve_audit.report.view.cards import choose_carded, is_indexed_by_cards
from salve_audit.report.view.page import INDEX, ClassName, Medium, Section
from salve_audit.results import ImageReliance


@dataclass(frozen=True)
class IndexRow:
    """One class; the numbers are as printed, `keys` are what the page sorts them by."""

    name: ClassName
    has_card: bool
    group: str
    group_title: str
    outcome: str
    n: str
    accuracy: str
    reliance: str
    chance: str
    flip: str
    flags: str
    keys: tuple[str, ...]


def _chance(reliance: ImageReliance | None) -> str:
    if reliance is None or reliance.chance is None:
        return "–"
    return percent(reliance.chance, reliance.n)


def build_index(conclusions: Conclusions, names: Mapping[str, ClassName], medium: Medium) -> Section | None:
    """All classes in order; those without a card are found here. None where the cards' section shows all of them."""
    if is_indexed_by_cards(conclusions, medium):
        return None
    carded = {each.name for each in choose_carded(conclusions, medium)}
    rows = []
    for each in conclusions.ranked:
        info, reliance = each.info, each.reliance
        flip = info.alpha_hat.flip.median
        numbers = (info.n, info.accuracy, reliance and reliance.reliance, reliance and reliance.chance, flip)
        rows.append(
            IndexRow(
                name=names[each.name],
                has_card=each.name in carded,
                group=each.group.value,
                group_title=say(GROUP_TITLES[each.group]),
                outcome=each.outcome,
                n=f"{info.n:,}",
                accuracy=percent(info.accuracy, info.n) if info.n else "–",
                reliance=percent(reliance.reliance, reliance.n) if reliance is not None else "–",
                chance=_chance(reliance),
                flip=strength(flip) if info.n_correct else "–",
                flags=", ".join(say(flag) for flag in info.flags),
                keys=tuple("" if number is None else f"{number:.6g}" for number in numbers),
            )
        )  # fmt: skip
    parts = {
        "rows": rows,
        "measured": conclusions.is_measured,
        "groups": [(group.value, say(title)) for group, title in GROUP_TITLES.items() if conclusions.of(group)],
        "judged": any(row.outcome for row in rows),
        "has_flags": any(row.flags for row in rows),
    }
    return Section(INDEX, say("Index of classes"), "index.html.j2", parts)
