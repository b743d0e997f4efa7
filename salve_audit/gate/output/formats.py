"""Which formats a verdict is written in, by name, by ``--format`` or by the continuous integration that is running."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salve_audit.errors import OutputError, UsageError
from salve_audit.gate.output.github import render_github
from salve_audit.gate.output.gitlab import render_gitlab
from salve_audit.gate.output.junit import render_junit
from salve_audit.gate.output.markdown import MOST_BYTES, render_markdown
from salve_audit.gate.output.sarif import render_sarif
from salve_audit.gate.output.text import render_text
from salve_audit.gate.whole_file import write_whole
from salve_audit.results import Verdict
from salve_audit.results.schema import to_dict

CODE_QUALITY, JUNIT = "gl-code-quality-report.json", "salve-junit.xml"


def render_json(verdict: Verdict) -> str:
    """The verdict as audit.json holds it, with exit code and summary."""
    value: dict[str, Any] = {**to_dict(verdict), "exit_code": verdict.exit_code, "word": verdict.word}
    return json.dumps({**value, "summary": verdict.summary}, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[Verdict, str], str]] = {
    "text": lambda verdict, place: text + "\n" if (text := render_text(verdict)) else "",
    "json": lambda verdict, place: render_json(verdict),
    "junit": lambda verdict, place: render_junit(verdict),
    "sarif": render_sarif,
    "github": render_github,
    "gitlab": render_gitlab,
    "markdown": lambda verdict, place: render_markdown(verdict),
}


@dataclass(frozen=True)
class Target:
    """A format, and the file it goes to; None: stdout. `appends` keeps what the file has."""

    format: str
    path: Path | None = None
    appends: bool = False


def parse_target(text: str) -> Target:
    """The target in the words of ``--format``: NAME, or NAME=FILE.

    Raises:
        UsageError: no such format.
    """
    name, _, path = text.partition("=")
    if name not in FORMATS:
        raise UsageError("--format", f"{name!r} is not one of {', '.join(FORMATS)}")
    return Target(name, Path(path) if path else None)


def detect_targets(environment: Mapping[str, str]) -> tuple[Target, ...]:
    """The targets for the continuous integration in which this runs; text alone outside of one."""
    targets = [Target("text")]
    if environment.get("GITHUB_ACTIONS") == "true":
        targets.append(Target("github"))
        if environment.get("GITHUB_STEP_SUMMARY"):
            targets.append(Target("summary", Path(environment["GITHUB_STEP_SUMMARY"]), appends=True))
    if environment.get("GITLAB_CI") == "true":
        targets += [Target("gitlab", Path(CODE_QUALITY)), Target("junit", Path(JUNIT))]
    return tuple(targets)


def clear_targets(targets: Sequence[Target]) -> None:
    """Removes what earlier runs left in the files of these targets, so that a gate that ends early leaves no verdict.

    Raises:
        OutputError: a file cannot be removed.
    """
    for target in targets:
        if target.path is None or target.appends or not target.path.is_file():
            continue  # what is no file, such as /dev/stdout, holds nothing
        try:
            target.path.unlink()
        except OSError as error:
            raise OutputError(str(target.path), f"cannot be removed ({error.strerror})") from error


def write_verdict(verdict: Verdict, targets: Sequence[Target], place: str, echo: Callable[[str], None]) -> None:
    """Writes the verdict to every target; `echo` prints what goes to stdout.

    Raises:
        UsageError: two formats go to stdout that cannot share it.
        OutputError: a file cannot be written.
    """
    printed = [target.format for target in targets if target.path is None]
    if len(set(printed) - {"text", "github"}) + bool({"text", "github"} & set(printed)) > 1:
        raise UsageError("--format", f"{' and '.join(printed)} cannot share stdout", hint="name a file: NAME=FILE")
    for target in targets:
        text = _render(target.format, verdict, place)
        if target.path is None:
            echo(text)
            continue
        try:
            _write(target, target.path, text)
        except OSError as error:
            raise OutputError(str(target.path), f"cannot be written ({error.strerror})") from error


def _write(target: Target, path: Path, text: str) -> None:
    """Whole or not at all, but for files that are added to and places that are no files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if target.appends or (path.exists() and not path.is_file()):
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
        return
    write_whole(path, text)


def _render(name: str, verdict: Verdict, place: str) -> str:
    if name == "summary":
        return render_markdown(verdict, MOST_BYTES)
    return FORMATS[name](verdict, place)
