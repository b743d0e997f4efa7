"""The files that CI systems read: they fit their schemas, their script runs, the plugin makes one test per check."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from gate_audits import policy, sample, save

from salve_audit import pytest_plugin
from salve_audit.cli.app import run
from salve_audit.config import AuditConfig
from salve_audit.gate.verdict import judge

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "ci" / "github_action.sh"


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def schema(name: str) -> dict[str, Any]:
    spec = importlib.util.find_spec("check_jsonschema")  # its data alone: nothing of it is imported
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "builtin_schemas" / "vendor"
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("file", "name"), [("action.yml", "github-actions"), ("ci/gitlab.yml", "gitlab-ci")])
def test_files_fit_the_schemas_of_their_systems(file: str, name: str) -> None:
    found = schema(name)
    validator = jsonschema.validators.validator_for(found)(found)
    assert [error.message for error in validator.iter_errors(load(file))] == []


def test_every_input_of_the_action_is_described_and_used() -> None:
    action = load("action.yml")
    text = (ROOT / "action.yml").read_text()
    for name, about in action["inputs"].items():
        assert about["description"].endswith("."), name
        assert f"inputs.{name}" in text, name
    environment = next(step for step in action["runs"]["steps"] if step.get("id") == "audit")["env"]
    script = SCRIPT.read_text()
    assert {name for name in environment if name.startswith("SALVE_")} == set(re.findall(r"\bSALVE_\w+", script))
    assert set(action["outputs"]) == set(re.findall(r'echo "([a-z-]+)=', script))


def test_the_docs_have_an_example_of_each() -> None:
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    examples = ("uses: ", "extends: .salve-audit", "id: salve-gate")
    for words in (*examples, "@pytest.mark.salve_audit", "salve_audit.gate(", "docker run"):
        assert words in text, words
    for name in load("action.yml")["inputs"]:
        assert f"`{name}`" in text, name


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """What GitHub sets for a step, with a salve-audit that copies a made audit and a gh that keeps what it is told."""
    programs, place = tmp_path / "bin", tmp_path / "work"
    programs.mkdir()
    place.mkdir()
    made = judge(sample(), policy("max_image_reliance = 0.5"))
    save(_with_verdict(made), tmp_path / "made")
    (place / "policy.toml").write_text("max_image_reliance = 0.5\n")
    _write_program(
        programs / "salve-audit",
        f"""import os, shutil, sys
if sys.argv[1] == "gate":
    from salve_audit.cli.app import run
    sys.exit(run(sys.argv[1:]))
open("audit.args", "w").write("\\n".join(sys.argv[1:]))
if os.environ.get("MADE_CODE") != "2":
    shutil.copytree({str(tmp_path / "made")!r}, sys.argv[sys.argv.index("--out") + 1], dirs_exist_ok=True)
sys.exit(int(os.environ["MADE_CODE"]))
""",
    )
    _write_program(
        programs / "gh",
        """import json, os, sys
with open("gh.log", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
body = [part for part in sys.argv if part.startswith("body=@")]
if body:
    open("comment.md", "w").write(open(body[0].removeprefix("body=@")).read())
elif os.environ.get("MADE_COMMENT"):
    print(os.environ["MADE_COMMENT"])
sys.exit(int(os.environ.get("MADE_GH", "0")))
""",
    )
    os.symlink(sys.executable, programs / "python")
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": {"number": 7}}))
    return {
        "PATH": f"{programs}:/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "HOME": str(tmp_path),
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_REPOSITORY": "team/models",
        "SALVE_MODEL": "my model.pt",
        "SALVE_DATA": "data dir",
        "SALVE_POLICY": "policy.toml",
        "SALVE_OPTIONS": "--seed\n3\n\n--label\na b",
        "SALVE_COMMENT": "true",
        "MADE_CODE": "1",
    }


def _with_verdict(verdict: Any) -> Any:
    return dataclasses.replace(sample(), verdict=verdict)


def _write_program(path: Path, code: str) -> None:
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def run_script(environment: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], Path, dict[str, str]]:
    place = Path(environment["GITHUB_OUTPUT"]).parent / "work"
    done = subprocess.run(["bash", str(SCRIPT)], cwd=place, env=environment, capture_output=True, text=True)
    lines = Path(environment["GITHUB_OUTPUT"]).read_text().splitlines()
    return done, place, dict(line.split("=", 1) for line in lines)


def test_the_action_audits_judges_and_comments(runner: dict[str, str]) -> None:
    done, place, outputs = run_script(runner)
    assert done.returncode == 1, done.stderr
    assert outputs == {"exit-code": "1", "verdict": "FAILED", "report": "salve-report"}
    expected = ["my model.pt", "data dir", "--out", "salve-report", "--policy", "policy.toml", "--seed", "3"]
    assert (place / "audit.args").read_text().splitlines() == [*expected, "--label", "a b"]
    names = {path.name for path in (place / "salve-report").iterdir()}
    assert {"verdict.md", "junit.xml", "verdict.sarif", "verdict.json", "audit.json"} <= names
    assert (place / "comment.md").read_text().startswith("<!-- salve-audit -->\n## ❌ salve-audit: FAILED")
    calls = [json.loads(line) for line in (place / "gh.log").read_text().splitlines()]
    assert calls[0][:2] == ["api", "repos/team/models/issues/7/comments"]
    assert calls[1][:4] == ["api", "--method", "POST", "repos/team/models/issues/7/comments"]


def test_a_second_run_changes_its_comment(runner: dict[str, str]) -> None:
    _, place, _ = run_script({**runner, "MADE_COMMENT": "123\n456"})
    calls = [json.loads(line) for line in (place / "gh.log").read_text().splitlines()]
    assert calls[1][:4] == ["api", "--method", "PATCH", "repos/team/models/issues/comments/123"]


def test_an_audit_that_fails_is_2_whatever_the_comment_does(runner: dict[str, str]) -> None:
    done, _, outputs = run_script({**runner, "MADE_CODE": "2", "MADE_GH": "1"})
    assert done.returncode == 2
    assert outputs["exit-code"] == "2"
    assert "could not be commented on" in done.stdout
    assert "NOT JUDGED" in Path(runner["GITHUB_STEP_SUMMARY"]).read_text()


def test_an_audit_that_fails_is_no_matter_of_an_earlier_verdict(runner: dict[str, str]) -> None:
    report = Path(runner["GITHUB_OUTPUT"]).parent / "work" / "salve-report"
    save(sample(), report)
    for name in ("verdict.md", "verdict.json", "verdict.sarif", "junit.xml"):
        (report / name).write_text("## ✅ salve-audit: passed")
    (report / "stale.txt").write_text("an audit of gone.pt that started later failed")  # as a failed audit leaves it
    done, place, outputs = run_script({**runner, "MADE_CODE": "2"})
    assert (done.returncode, outputs["verdict"]) == (2, "not judged")
    assert "NOT JUDGED" in (place / "comment.md").read_text()
    assert {path.name for path in report.iterdir()} == {"audit.json", "stale.txt"}


def test_without_a_policy_the_action_is_2_and_says_so_unless_it_may_be_none(runner: dict[str, str]) -> None:
    save(sample(), Path(runner["GITHUB_OUTPUT"]).parent / "made")
    done, place, outputs = run_script({**runner, "SALVE_POLICY": "", "MADE_CODE": "0"})
    assert (done.returncode, outputs["exit-code"], outputs["verdict"]) == (2, "2", "no policy")
    comment = (place / "comment.md").read_text()
    assert "no policy is in force: nothing was judged" in comment
    assert "did not finish" not in comment
    Path(runner["GITHUB_OUTPUT"]).unlink()
    done, _, outputs = run_script({**runner, "SALVE_POLICY": "", "MADE_CODE": "0", "SALVE_ALLOW_NO_POLICY": "true"})
    assert (done.returncode, outputs["verdict"]) == (0, "no policy")


def test_a_policy_that_the_gate_cannot_read_is_2(runner: dict[str, str]) -> None:
    done, place, outputs = run_script({**runner, "SALVE_POLICY": "gone.toml", "MADE_CODE": "0"})
    assert (done.returncode, outputs["verdict"]) == (2, "not judged")
    assert "The gate ended without a verdict" in (place / "comment.md").read_text()


def test_mismatches_are_allowed_to_audit_and_gate_alike(runner: dict[str, str]) -> None:
    done, place, _ = run_script({**runner, "SALVE_ALLOW_MISMATCH": "data,schema"})
    assert done.returncode == 1
    assert "--allow-mismatch\ndata,schema" in (place / "audit.args").read_text()


def test_the_gate_masks_an_audit_that_says_0(runner: dict[str, str]) -> None:
    """The audit that is copied violates the policy, whatever exit code the run of it had."""
    done, _, outputs = run_script({**runner, "MADE_CODE": "0", "SALVE_COMMENT": "false"})
    assert (done.returncode, outputs["exit-code"], outputs["verdict"]) == (1, "1", "FAILED")


def test_the_pre_commit_hook_is_the_gate(tmp_path: Path) -> None:
    (hook,) = load(".pre-commit-hooks.yaml")
    assert set(hook) >= {"id", "name", "entry", "language", "files"}
    assert re.search(hook["files"], "reports/audit.json")
    assert not re.search(hook["files"], "src/audit.py")
    save(_with_verdict(judge(sample(), policy("max_image_reliance = 0.5"))), tmp_path / "salve-report")
    arguments = [*hook["entry"].split()[1:], *(str(tmp_path / part) for part in hook["args"])]
    assert run(arguments) == 1


def test_the_plugin_makes_one_test_per_class_and_rule(tmp_path: Path) -> None:
    save(sample(), tmp_path / "audit")
    (tmp_path / "policy.toml").write_text(
        'max_image_reliance = 0.35\n[classes.ripple]\nmax_image_reliance = { limit = 0.5, severity = "warning" }\n'
        '[[exceptions]]\nclass = "ember"\nrule = "*"\nreason = "known"\nuntil = 2999-01-01\n'
    )
    (tmp_path / "test_own.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.salve_audit(audit='audit', policy='policy.toml')\n"
        "def test_reliance(salve_check):\n    assert salve_check.effect in ('pass', 'warn')\n\n"
        "@pytest.mark.salve_audit(audit='audit', fail_under=1.0)\n"
        "def test_without_an_argument():\n    pass\n"
    )
    done, cases = run_pytest(tmp_path)
    assert done.returncode == 1, done.stdout
    assert len(cases) == 16
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    skipped = {name for name, case in cases.items() if case.find("skipped") is not None}
    assert failed == {f"test_reliance[{name}-max_image_reliance]" for name in ("chapel", "clinic")}
    assert skipped == {"test_reliance[ember-max_image_reliance]"}


def test_the_plugin_fails_on_what_cannot_be_trusted_and_on_bad_marks(tmp_path: Path) -> None:
    save(sample(), tmp_path / "audit")
    (tmp_path / "audit" / "stale.txt").write_text("a later audit failed")
    test = "import pytest\n\n@pytest.mark.salve_audit({})\ndef test_gate():\n    pass\n"
    (tmp_path / "test_own.py").write_text(test.format("audit='audit', fail_under=1.0"))
    done, cases = run_pytest(tmp_path)
    assert done.returncode == 1
    assert cases["test_gate[trust-0]"].find("failure") is not None
    (tmp_path / "test_own.py").write_text(test.format("audit='gone', fail_under=1.0"))
    done, _ = run_pytest(tmp_path)
    assert done.returncode != 0
    assert "gone: No such file" in done.stdout


def test_the_plugin_keeps_its_audit_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[AuditConfig] = []

    def audit(config: AuditConfig) -> None:
        made.append(config)
        assert config.out is not None
        time.sleep(0.3 if config.seed == 4 else 0)
        save(sample(), Path(config.out))

    monkeypatch.setattr("salve_audit.audit.run.run_audit", audit)
    for name in ("model.pt", "policy.toml"):
        (tmp_path / name).write_text("max_image_reliance = 0.5\n")
    (tmp_path / "data").mkdir()
    pytest_config = types.SimpleNamespace(
        rootpath=tmp_path, cache=types.SimpleNamespace(mkdir=lambda _: tmp_path / "kept")
    )

    def checks(**options: Any) -> list[pytest_plugin.Check]:
        mark = {"model": "model.pt", "data": "data", "policy": "policy.toml", **options}
        return pytest_plugin._make_checks((), mark, cast(pytest.Config, pytest_config))

    assert len(checks()) == 8
    assert next(check.name for check in checks() if check.effect == "fail") == "chapel-max_image_reliance"
    assert len(made) == 1
    assert (made[0].model, made[0].policy) == (tmp_path / "model.pt", tmp_path / "policy.toml")
    (tmp_path / "data" / "more.png").write_text("an image")
    checks()
    checks(seed=3)
    (tmp_path / "model.pt").write_text("trained on")
    checks()
    assert [config.seed for config in made] == [0, 0, 3, 0]
    with ThreadPoolExecutor(3) as workers:  # as those of pytest-xdist: one makes the audit, the others wait
        assert len(list(workers.map(lambda _: checks(seed=4), range(3)))) == 3
    assert [config.seed for config in made[4:]] == [4]
    assert not list((tmp_path / "kept").glob("*.lock"))
    assert not list((tmp_path / "kept").glob("tmp*"))
    assert len(checks(seed=4, min_alpha_hat=0.1)) == 16
    with pytest.raises(pytest.UsageError, match=r"needs audit=\.\.\., or model"):
        pytest_plugin._make_checks((), {"policy": "policy.toml"}, cast(pytest.Config, pytest_config))
    with pytest.raises(pytest.UsageError, match="a saved audit takes no model, data"):
        checks(audit="kept")


def run_pytest(place: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, ElementTree.Element]]:
    command = [sys.executable, "-m", "pytest", "-p", "salve_audit.pytest_plugin", "-q", "--junitxml", "j.xml"]
    hidden = ("PYTEST", "GITHUB", "GITLAB")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # whether it is installed or not
    done = subprocess.run(
        [*command, "--strict-markers", "--rootdir", "."], cwd=place, capture_output=True, text=True, env=environment
    )
    cases = {case.attrib["name"]: case for case in ElementTree.parse(place / "j.xml").iter("testcase")}
    return done, cases


def test_the_wheel_registers_the_plugin() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'\[project.entry-points.pytest11\]\nsalve-audit = "salve_audit.pytest_plugin"', text)


@pytest.mark.slow
def test_the_build_steps_of_the_container_run(tmp_path: Path) -> None:
    """Its COPY and RUN lines in a clean virtual environment; the libraries are those of this one, not downloaded."""
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    build = lines[: next(i for i, line in enumerate(lines) if line.startswith("FROM") and "AS" not in line)]
    source, target = tmp_path / "src", tmp_path / "salve"
    source.mkdir()
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {**os.environ, "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PYTHONPATH": libraries}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for line in build:
        word, _, rest = line.partition(" ")
        if word == "COPY":
            *names, into = rest.split()
            for name in names:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, source / name if into in (".", "./") else source / into)
        elif word == "RUN" and "torch" not in rest:  # those wheels are large, and those here serve
            command = rest.replace("/opt/salve", str(target))
            done = subprocess.run(command, shell=True, cwd=source, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    assert "salve-audit, version" in done.stdout
    installed = next((target / "lib").glob("python*/site-packages/salve_audit"))
    assert (installed / "templates" / "report.html.j2").is_file()


def test_the_container_runs_as_a_user() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert lines.index("USER salve") < lines.index('ENTRYPOINT ["salve-audit"]')
    assert sum(line.startswith("FROM python:") and "-slim" in line for line in lines) == 2
