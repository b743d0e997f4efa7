"""What to do: class, evidence, action, how to check, and the line of the settings that guards it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from salve_audit.report.conclusions import Conclusions
from salve_audit.report.language import say
from salve_audit.report.numbers import count
from salve_audit.report.recommend import Advice, group_alike, recommend
from salve_audit.report.view.page import ClassName, Medium, Section

MOST = {"html": 200, "pdf": 14}
LINES_IN_ROW = {"html": 200, "pdf": 5}  # of evidence: what follows on the next page still shows what it is about


@dataclass(frozen=True)
class AdviceRow:
    """One recommendation as it is printed, of all the classes that it is for; without a class it is for the audit."""

    names: tuple[ClassName, ...]
    advice: Advice
    all: tuple[Advice, ...]

    @property
    def evidence(self) -> tuple[str, ...]:
        """What was found, once where it is the same of several classes."""
        return tuple(dict.fromkeys(each.evidence for each in self.all))


def build_recommendations(conclusions: Conclusions, names: Mapping[str, ClassName], medium: Medium) -> Section:
    """All recommendations, the most urgent first."""
    advice = recommend(conclusions)
    shown = advice[: MOST[medium.name]]
    left = len(advice) - len(shown)
    parts = {
        "rows": [
            AdviceRow(tuple(names[each.class_name] for each in group if each.class_name in names), group[0], group)
            for alike in group_alike(_with_shared_action(shown))
            for group in _in_rows(alike, LINES_IN_ROW[medium.name])
        ],
        "more": say("{n} more, of lesser weight, are in the HTML report.", n=count(left)) if left else "",
    }
    return Section("recommendations", say("Recommendations"), "recommendations.html.j2", parts)


def _with_shared_action(advice: Sequence[Advice]) -> list[Advice]:
    """The advice, so that classes that need the same share a row; how many images each needs is its evidence."""
    n_sharing = Counter(each.shared for each in advice)
    return [
        replace(each, action=each.shared) if each.shared and n_sharing[each.shared] > 1 else each for each in advice
    ]


def _in_rows(alike: tuple[Advice, ...], most: int) -> list[tuple[Advice, ...]]:
    """The classes of one recommendation, by so many lines of evidence at most."""
    lines = list(dict.fromkeys(each.evidence for each in alike))
    parts = [lines[start : start + most] for start in range(0, len(lines), most)]
    return [tuple(each for each in alike if each.evidence in part) for part in parts]
