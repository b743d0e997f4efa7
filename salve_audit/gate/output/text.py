"""The verdict on a terminal."""

from __future__ import annotations

from salve_audit.gate.output.words import LABELS, describe, worst_first
from salve_audit.results import Verdict
from salve_audit.results.plain_text import plain

MOST = 40  # checks that are listed


def render_text(verdict: Verdict) -> str:
    """The verdict in words, one line a check that did not simply hold; empty without a policy."""
    if verdict.word == "no policy":
        return "\n".join(f"note: {plain(note)}" for note in verdict.notes)
    source = f" by {plain(verdict.source)}" if verdict.source else ""
    lines = [f"gate ({plain(verdict.policy or 'no policy')}): {verdict.word}", f"  {verdict.summary}{source}"]
    lines += [f"  cannot be trusted: {plain(problem)}" for problem in verdict.problems]
    shown = [rule for rule in worst_first(verdict) if rule.effect != "pass"]
    lines += [f"  {LABELS[rule.effect]}: {describe(rule)}" for rule in shown[:MOST]]
    if len(shown) > MOST:
        lines.append(f"  and {len(shown) - MOST} more, all in audit.json and in --format json")
    lines += [f"  note: {plain(note)}" for note in verdict.notes[:MOST]]
    return "\n".join(lines)
