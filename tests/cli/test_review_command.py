"""``salve-audit review``: said by flag, asked in a terminal, taken over from the report's form; read by the gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gate_audits import sample
from report_reliance import add_reliance
from report_results import build_result

from salve_audit.gate.review import load_review


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "audit.json").write_text(sample().to_json(), encoding="utf-8")
    return tmp_path / "audit.json"


def test_what_is_said_is_written_and_judged(salve: Callable[..., Any], audit: Path) -> None:
    listed = salve("review", audit, "--list")
    assert listed.code == 0, listed.err
    assert not Path("salve-review.toml").exists()
    assert "ripple" in listed.out
    said = salve("review", audit, "--set", "ripple:region=shortcut", "--who", "A. Reviewer", "--why", "a pattern")
    assert said.code == 0, said.err
    (entry,) = load_review(Path("salve-review.toml")).entries
    assert (entry.class_name, entry.verdict, entry.who, entry.why) == ("ripple", "shortcut", "A. Reviewer", "a pattern")
    assert entry.crop.startswith("data:image/jpeg;base64,")
    Path("policy.toml").write_text('review = "salve-review.toml"\non_unreviewed = "pass"\n')
    judged = salve("gate", audit, "--policy", "policy.toml")
    assert judged.code == 1
    salve("review", audit, "--set", "ripple:region=accepted")
    assert len(load_review(Path("salve-review.toml")).entries) == 1
    assert salve("gate", audit, "--policy", "policy.toml").code == 0


def test_all_that_is_reviewed_leaves_the_gate_nothing_to_name(salve: Callable[..., Any], audit: Path) -> None:
    classes = [name for name in sample().data.classes if f"\n{name} " in salve("review", audit, "--list").out]
    flags = [part for name in classes for part in ("--set", f"{name}:*=accepted")]
    assert "0 of" in salve("review", audit, *flags).out
    Path("policy.toml").write_text('review = "salve-review.toml"\non_unreviewed = "fail"\n')
    judged = salve("gate", audit, "--policy", "policy.toml")
    assert judged.code == 0, judged.out


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("ripple=accepted", "expected CLASS:KIND=VERDICT"),
        ("ripple:region=fine", "with a verdict of accepted, shortcut, unclear"),
        ("nobody:region=accepted", "has no class 'nobody'"),
        ("ripple:fog=accepted", "depends on no 'fog'"),
    ],
)
def test_a_wrong_flag_is_an_error(flag: str, message: str, salve: Callable[..., Any], audit: Path) -> None:
    done = salve("review", audit, "--set", flag)
    assert done.code == 2
    assert message in done.err
    assert not Path("salve-review.toml").exists()


def test_a_terminal_is_asked(audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from salve_audit.cli import review_command

    monkeypatch.setattr(review_command, "is_terminal", lambda: True)
    done = CliRunner().invoke(review_command.command, [str(audit), "--who", "B"], input="n\ns\nstripes\nno object\nq\n")
    assert done.exit_code == 0, done.output
    (entry,) = load_review(Path("salve-review.toml")).entries
    assert (entry.verdict, entry.name, entry.why, entry.who) == ("shortcut", "stripes", "no object", "B")


def test_entries_of_the_report_form_are_taken_over(salve: Callable[..., Any], audit: Path) -> None:
    salve("review", audit, "--file", "form.toml", "--set", "ember:*=unclear", "--who", "A")
    salve("review", audit, "--set", "ripple:region=accepted", "--who", "B")
    done = salve("review", audit, "--from", "form.toml")
    assert done.code == 0, done.err
    assert {entry.class_name for entry in load_review(Path("salve-review.toml")).entries} == {"ember", "ripple"}


def test_an_audit_without_the_measure_has_nothing_to_review(salve: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(build_result(2).to_json(), encoding="utf-8")
    done = salve("review", tmp_path)
    assert done.code == 2
    assert "image reliance was not measured" in done.err


def test_a_hostile_name_is_kept_as_it_is(
    salve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = add_reliance(build_result(4, limit=None), (0.9,) * 4)
    (tmp_path / "audit.json").write_text(result.to_json(), encoding="utf-8")
    for name in result.data.classes:
        done = salve("review", tmp_path, "--set", f"{name}:*=accepted", "--who", "A")
        assert done.code in (0, 2)
    said = {entry.class_name for entry in load_review(Path("salve-review.toml")).entries}
    assert said <= set(result.data.classes)
    assert said
    assert json.loads((tmp_path / "audit.json").read_text())["schema_version"] == 2
