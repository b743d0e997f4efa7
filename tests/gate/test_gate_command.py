"""``salve-audit gate`` as it is used: exit codes, formats, CI, configuration found upwards, nothing heavy loaded."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gate_audits import policy, sample, save

import salve_audit
from salve_audit.cli.app import run
from salve_audit.errors import UsageError
from salve_audit.gate.audit_file import read_audit_file
from salve_audit.gate.notebook import GateError
from salve_audit.gate.policy import add_rules
from salve_audit.gate.run import Request, run_gate
from salve_audit.settings import read_settings

SAMPLES = Path(__file__).parents[2] / "sample_reports"
CI_VARIABLES = ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITLAB_CI")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own, in which nothing of this one is found, and no CI."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in CI_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    save(sample(), tmp_path / "audit")
    return tmp_path


@pytest.fixture
def gate(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["gate", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_exit_codes_and_what_is_printed(gate: Callable) -> None:
    code, out, err = gate("audit", "--fail-under", "1")
    assert (code, err) == (0, "")
    assert "\ngate (alpha_hat flip median at least 1): passed\n  8 held by the command line\n" in out
    code, out, err = gate("audit", "--fail-over-reliance", "0.35")
    assert (code, err) == (1, "")
    assert "  violated: ripple: image reliance at most 0.35; 1 [0.963, 1]\n" in out
    assert "warning: castle: image reliance at most 0.35; 0.39 [0.3, 0.488] (undecided: the interval contains" in out
    code, out, err = gate("audit", "--fail-under", "1", "--policy", "gone.toml")
    assert (code, err) == (2, "error: gone.toml: No such file or directory\n")
    code, out, err = gate("audit")
    assert code == 2
    assert err.startswith("error: audit: was audited without a limit\nhint: name one with --policy FILE")


def test_what_cannot_be_trusted_is_said_on_both_streams(gate: Callable, place: Path) -> None:
    text = (place / "audit" / "audit.json").read_text()
    (place / "audit" / "audit.json").write_text(text.replace('"n_fit": ', '"n_fit": 1', 1))
    code, out, err = gate("audit", "--fail-under", "1")
    assert code == 2
    assert "\ngate (alpha_hat flip median at least 1): NOT JUDGED\n" in out
    assert "cannot be trusted: audit.json was changed after it was written" in out
    assert err.startswith("error: gate: nothing trustworthy was measured: audit.json was changed after it was written")


def test_formats_go_to_stdout_or_files(gate: Callable, place: Path) -> None:
    code, out, _ = gate("audit", "--fail-over-reliance", "0.35", "--format", "json")
    assert (code, json.loads(out)["exit_code"]) == (1, 1)
    code, out, _ = gate("audit", "--fail-under", "1", "--format", "text", "--format", "junit=deep/j.xml")
    assert code == 0
    assert (place / "deep" / "j.xml").read_text().startswith("<?xml")
    code, out, err = gate("audit", "--fail-under", "1", "--format", "html")
    assert (code, out) == (2, "")
    assert "'html' is not one of text, json, junit" in err


def test_in_github_actions_annotations_and_summary_come_by_themselves(
    gate: Callable, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    (place / "policy.toml").write_text("# limits\nmax_image_reliance = 0.5\n")
    code, out, _ = gate("audit", "--policy", "policy.toml")
    assert code == 1
    assert "::error file=policy.toml,line=2,title=salve-audit%3A max_image_reliance::ripple: image reliance" in out
    assert "FAILED" in (place / "summary.md").read_text()


def test_annotations_point_into_the_repository_at_the_line_that_the_audit_was_judged_by(
    gate: Callable, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder below its root, under a policy that the audit was saved with and a review that came later."""
    (place / "ci").mkdir()
    (place / "ci" / "policy.toml").write_text('# limits\nmax_image_reliance = 0.5\nreview = "../review.toml"\n')
    (place / "review.toml").write_text("")
    judged = run_gate(Request(place / "audit", policy=place / "ci" / "policy.toml")).verdict
    save(dataclasses.replace(sample(), verdict=judged), place / "audit")
    entry = {"class": "ripple", "kind": "border", "name": "edge", "verdict": "shortcut", "who": "w", "why": "y"}
    written = [f'{key} = "{value}"' for key, value in entry.items()]
    (place / "review.toml").write_text("\n".join(["[[entry]]", *written, "when = 2026-01-02", "limit = 0"]))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(place))
    (place / "below").mkdir()
    monkeypatch.chdir(place / "below")
    _, out, _ = gate("../audit", "--format", "github")
    assert "::error file=ci/policy.toml,line=2,title=salve-audit%3A max_image_reliance::ripple" in out
    assert "file=ci/policy.toml,line=3,title=salve-audit%3A max_shortcut.edge::ripple" in out
    assert "file=ci/policy.toml,line=3,title=salve-audit%3A on_unreviewed" in out


def test_in_gitlab_reports_come_by_themselves(gate: Callable, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_CI", "true")
    assert gate("audit", "--fail-over-reliance", "0.5")[0] == 1
    assert json.loads((place / "gl-code-quality-report.json").read_text())[0]["severity"] == "critical"
    assert (place / "salve-junit.xml").is_file()


def test_the_policy_of_the_project_is_found_upwards_and_its_path_printed(
    gate: Callable, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "pyproject.toml").write_text("[tool.salve-audit.gate]\nmax_image_reliance = 0.5\n")
    (place / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(place / "a" / "b")
    code, out, err = gate("../../audit")
    assert code == 1
    assert "by ../../pyproject.toml" in out
    assert err == "configuration: ../../pyproject.toml [tool.salve-audit]\n"
    (place / "a" / "pyproject.toml").write_text("[project]\nname = 'other'\n")  # without a table of ours: further up
    assert gate("../../audit")[0] == 1
    (place / "a" / ".git").mkdir()  # another repository: its root is the end of the way
    assert gate("../../audit")[0] == 2


def test_options_of_the_project_are_found_upwards_with_paths_of_its_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "pyproject.toml").write_text('[tool.salve-audit]\nseed = 3\nout = "reports"\nbaseline = "main"\n')
    (place / "sub").mkdir()
    monkeypatch.chdir(place / "sub")
    assert read_settings(None) == {"seed": 3, "out": "../reports", "baseline": "../main"}
    monkeypatch.chdir(place)
    assert read_settings(None) == {"seed": 3, "out": "reports", "baseline": "main"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.salve_audit]\nseed = 1\n", "[tool.salve_audit] is not read"),
        ("[tool.salve-audit]\nseeds = 1\n", "unknown option 'seeds'"),
        ("[tool.salve-audit.gate]\nmax_reliance = 1\n", "unknown key 'max_reliance'"),
        ('[tool.salve-audit]\narch = "net.py:make"\n', "names code, and the file was found, not named"),
        ("[tool.salve-audit]\ntrust-model = true\n", "runs the code in a model, and the file was found, not named"),
        ("[tool.salve-audit", "not TOML"),
    ],
)
def test_a_found_configuration_is_never_ignored_and_runs_no_code(
    gate: Callable, place: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (place / "pyproject.toml").write_text(text)
    (place / "net.py").write_text("raise SystemExit('this was run')\n")
    (place / "sub").mkdir()
    for folder in (place, place / "sub"):
        monkeypatch.chdir(folder)
        code, out, err = gate(str(place / "audit"))
        assert (code, out) == (2, "")
        assert message in err
        assert "this was run" not in err


def test_a_named_configuration_may_run_code(place: Path) -> None:
    (place / "own.toml").write_text('arch = "net.py:make"\ntrust-model = true\n')
    assert read_settings(Path("own.toml")) == {"arch": "net.py:make", "trust_model": True}


def test_a_configuration_that_fails_leaves_earlier_results_stale(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["model.pt", "data", "--out", "audit", "--config", "gone.toml"]) == 2
    assert run(["gate", "audit", "--fail-under", "1"]) == 2
    assert "are stale: an audit of model.pt that started later failed" in capsys.readouterr().out


def test_the_gate_loads_nothing_heavy(place: Path) -> None:
    code = "import sys\nfrom salve_audit.cli.app import run\ncode = run(sys.argv[1:])\n"
    code += (
        "print(code, *sorted({'torch', 'timm', 'numpy', 'scipy', 'pandas', 'pyarrow', 'jinja2'} & set(sys.modules)))"
    )
    arguments = ["gate", "audit", "--fail-under", "1", "--format", "junit=j.xml", "--format", "sarif=s.sarif"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.splitlines()[-1] == "0"


def test_errors_in_a_notebook_speak_of_what_was_typed(place: Path) -> None:
    with pytest.raises(UsageError) as raised:
        salve_audit.judge("audit", max_image_reliance="0.5")
    assert str(raised.value) == "max_image_reliance: expected a number, got str"
    for call in (salve_audit.judge, salve_audit.gate):
        with pytest.raises(UsageError, match="was audited without a limit") as raised:
            call("audit")
        assert "--" not in str(raised.value.hint)
    for limit in (np.float32(1), np.int64(1)):
        assert salve_audit.judge("audit", max_image_reliance=limit).passed is True


def test_a_verdict_and_a_comparison_are_short_in_a_prompt(place: Path) -> None:
    judged = repr(salve_audit.judge("audit", min_alpha_hat=1.4))
    assert re.fullmatch(r"<GateResult FAILED: \d+ violated, .*held>", judged)
    text = repr(salve_audit.compare("audit", "audit"))
    assert re.fullmatch(r"<Comparison of \S+ against \S+, 8 classes: \d.*>", text)
    assert len(text) < 200


def test_in_a_notebook_one_call_judges_and_shows_itself(place: Path) -> None:
    result = salve_audit.gate("audit", {"max_image_reliance": 0.5})
    assert (result.passed, result.exit_code) == (False, 1)
    assert result._repr_markdown_().startswith("## ❌ salve-audit: FAILED")
    with pytest.raises(GateError, match=r"image reliance at most 0\.5"):
        result.require()
    (place / "policy.toml").write_text("min_alpha_hat = 1.0\n")
    assert salve_audit.gate(sample(), place / "policy.toml").require().passed is True
    for limits in ({"fail_under": 1.4}, {"min_alpha_hat": 1.4}, {"max_global_factor": {"border": 0.0}}):
        assert salve_audit.gate(sample(), **limits).exit_code == 1
        assert salve_audit.gate(sample(), {"min_alpha_hat": 0.1}, **limits).exit_code == 1
    with pytest.raises(salve_audit.SalveError, match="fail_uner: is no limit"):
        salve_audit.gate(sample(), fail_uner=1.4)


def test_rules_of_a_call_tighten_a_policy_and_never_replace_it(place: Path) -> None:
    strict = {"max_global_factor": {"border": 0.0}, "min_accuracy": 1.0}
    assert salve_audit.judge("audit", strict).exit_code == 2
    assert salve_audit.judge("audit", strict, max_global_factor=0.9, min_accuracy=0.1).exit_code == 2
    keys = {"max_global_factor.border": 0.2, "max_global_factor": 0.2, "max_global_factor.colour": 0.1}
    merged = add_rules(
        policy("max_global_factor = 0.2"), policy("max_global_factor = { border = 0.5, colour = 0.1 }").settings, ""
    )
    assert {part.key: part.limit for part in merged.settings} == keys
    judged = run_gate(Request(place / "audit", limits={"fail_under": 99.0})).verdict
    save(dataclasses.replace(sample(), verdict=judged), place / "audit")
    again = salve_audit.judge("audit", max_null_p=1.0)
    assert (again.exit_code, judged.exit_code) == (1, 1)  # the saved policy's own limit stands


def test_a_gate_that_ends_early_leaves_no_earlier_verdict(gate: Callable, place: Path) -> None:
    assert gate("audit", "--fail-under", "1", "--format", "json=old.json", "--format", "text")[0] == 0
    assert json.loads((place / "old.json").read_text())["word"] == "passed"
    assert gate("audit", "--policy", "nope.toml", "--format", "json=old.json")[0] == 2
    assert not (place / "old.json").exists()
    assert not list(place.glob(".*partial"))


@pytest.mark.parametrize("name", sorted(path.parent.name for path in SAMPLES.glob("*/audit.json")))
def test_the_gate_says_of_a_sample_what_the_sample_says_of_itself(name: str, place: Path) -> None:
    file = read_audit_file(SAMPLES / name)
    saved = file.result.verdict
    assert file.digest == "sealed"
    if saved.policy is not None:
        again = run_gate(Request(SAMPLES / name)).verdict
        assert (again.exit_code, again.problems) == (saved.exit_code, saved.problems)
