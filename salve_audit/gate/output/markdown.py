"""Markdown: the comment of a pull request and the summary of a step, under the size that GitHub takes."""

from __future__ import annotations

from salve_audit.gate.output.words import LABELS, name_of, rule_words, value_of, worst_first
from salve_audit.results import Rule, Verdict
from salve_audit.results.plain_text import plain

MOST_ROWS = 200
MOST_BYTES = 1_000_000  # of a step summary: GitHub takes 1 MiB
COMMENT_BYTES = 60_000  # of a comment: 65,536 characters
SIGNS = {0: "✅", 1: "❌", 2: "⛔"}
_PUNCTUATION = frozenset("\\`*_{}[]()#+!|<>&~$\"'")


def render_markdown(verdict: Verdict, most_bytes: int = COMMENT_BYTES) -> str:
    """The verdict with a table of the checks that did not simply hold, worst first, cut to `most_bytes`."""
    head = [
        f"## {SIGNS[verdict.exit_code]} salve-audit: {verdict.word}",
        "",
        f"{_policy(verdict)} {verdict.summary}.",
        "",
    ]
    head += [f"- **cannot be trusted**: {_cut(escape(problem))}" for problem in verdict.problems[:MOST_ROWS]]
    head += [""] * bool(verdict.problems)
    found = [rule for rule in worst_first(verdict) if rule.effect != "pass"]
    notes = [f"- {_cut(escape(note))}" for note in verdict.notes[:MOST_ROWS]]
    table = ["| | class | rule | value | why |", "|---|---|---|---|---|"] if found else []
    shown = [_row(rule) for rule in found[:MOST_ROWS]]
    while shown and len("\n".join([*head, *table, *shown, *notes]).encode()) > most_bytes - 200:
        shown = shown[: len(shown) // 2]
    more = [f"\n{len(found) - len(shown)} more are in the report."] if len(shown) < len(found) else []
    text = "\n".join([*head, *table, *shown, *more, *([""] if notes else []), *notes]).rstrip() + "\n"
    return text if len(text.encode()) <= most_bytes else "\n".join(head[:3]) + "\n"


def escape(text: str) -> str:
    """A text of others as it stands: no markup, no links, no mentions."""
    escaped = "".join(f"&#{ord(c)};" if c in _PUNCTUATION else c for c in plain(text))
    return escaped.replace("@", "@\u200b").replace("://", ":\u200b//")


def _policy(verdict: Verdict) -> str:
    return f"Policy: {_cut(escape(verdict.policy or 'none'))} ({escape(verdict.source or 'no file')})."


def _row(rule: Rule) -> str:
    cells = (LABELS[rule.effect], name_of(rule), rule_words(rule), value_of(rule), rule.why)
    return "| " + " | ".join(_cut(escape(cell), 1000) for cell in cells) + " |"


def _cut(text: str, most: int = 2000) -> str:
    return text if len(text) <= most else text[:most] + "…"
