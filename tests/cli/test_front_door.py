"""The command line as a newcomer meets it: help, misspelt words, options before commands, wrong orders, completion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import torch
from click.shell_completion import BashComplete
from PIL import Image

from salve_audit.cli.app import COMMANDS, cli
from salve_audit.cli.class_table import class_table
from salve_audit.cli.first_words import put_command_first
from salve_audit.results import load_audit

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE = REPOSITORY / "sample_reports" / "demo" / "audit.json"
SCREEN = (24, 80)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, two images, a folder of images and an audit, in the working folder."""
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(2, 2)}, "model.pt")
    (tmp_path / "data" / "red").mkdir(parents=True)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "audit.json").write_bytes(SAMPLE.read_bytes())
    for name in ("church.png", "other.png", "data/red/0.png"):
        Image.new("RGB", (8, 8)).save(name)
    return tmp_path


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_is_one_screen(salve: Callable, arguments: tuple[str, ...]) -> None:
    done = salve(*arguments)
    assert (done.code, done.err) == (0 if arguments else 2, "")
    lines = done.out.splitlines()
    assert len(lines) <= SCREEN[0]
    assert max(map(len, lines)) <= SCREEN[1]
    assert "\\n" not in done.out


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"cache", "demo"}))
def test_a_command_without_its_arguments_says_so_in_plain_lines(salve: Callable, files: Path, command: str) -> None:
    done = salve(command)
    assert (done.code, done.out) == (2, "")
    error, hint = done.err.splitlines()
    assert (error[:7], hint[:6]) == ("error: ", "hint: ")
    assert not any(code in done.err for code in (r"\n", r"\t"))


def test_a_group_without_a_command_is_its_help(salve: Callable) -> None:
    done = salve("cache")
    assert (done.code, done.err) == (2, "")
    assert done.out == salve("cache", "--help").out
    done = salve("export", "report")
    assert done.err == (
        "error: Missing option '--to'. Choose from: model-card, csv, mlflow\nhint: see salve-audit export --help\n"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_a_command_are_grouped_and_the_shortest_come_first(salve: Callable, command: str) -> None:
    done = salve(command, "--help")
    assert done.code == 0
    if command != "cache":
        sections = [part for part in done.out.split("\n\n") if part.split("\n")[0].endswith(":")]
        assert sections[-1].startswith("Other options:")
        for section in sections:
            flags = [line[2:].split("  ")[0] for line in section.splitlines()[1:] if line.startswith("  -")]
            assert flags == sorted(flags, key=len), section


@pytest.mark.parametrize(
    ("typed", "meant"), [("gaet", "gate"), ("Inspect", "inspect"), ("explian", "explain"), ("demos", "demo")]
)
def test_a_misspelt_command_is_suggested(salve: Callable, files: Path, typed: str, meant: str) -> None:
    done = salve(typed, "x")
    assert done.code == 2
    assert done.err == (f"error: {typed}: is neither a command nor a file\nhint: did you mean salve-audit {meant}?\n")
    (files / typed).write_text("")
    assert put_command_first([typed, "x"], COMMANDS, lambda name: None) == ["audit", typed, "x"]


def test_what_is_no_command_is_a_model(salve: Callable, files: Path) -> None:
    assert "gate.pt" in salve("gate.pt", "data").err
    assert "did you mean" not in salve("resnet", "data").err


@pytest.mark.parametrize(
    "arguments",
    [
        ("-q", "gate", "report", "--fail-under", "0.1"),
        ("--fail-under", "0.1", "gate", "report"),
        ("--fail-under=0.1", "-q", "gate", "report"),
        ("--format", "text", "gate", "report", "--fail-under", "0.1"),
    ],
)
def test_options_may_stand_before_the_command(salve: Callable, files: Path, arguments: tuple[str, ...]) -> None:
    done = salve(*arguments)
    assert done.code == 0, done.err
    assert "gate (alpha_hat flip median at least 0.1): passed" in done.out


def test_the_value_of_an_option_is_no_command(salve: Callable, files: Path) -> None:
    assert "nothing.pt" in salve("--out", "demo", "nothing.pt", "data").err
    assert "nothing.pt" in salve("-q", "--sae", "topk", "nothing.pt", "gate").err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("explain", "church.png", "model.pt", "report"), "salve-audit explain model.pt church.png report"),
        (("explain", "report", "church.png", "model.pt"), "salve-audit explain model.pt church.png report"),
        (
            ("explain", "model.pt", "report", "church.png", "other.png"),
            "salve-audit explain model.pt church.png other.png report",
        ),
        (("explain", "model.pt", "report", "report"), "salve-audit explain MODEL IMAGE... AUDIT"),
        (("edit", "report", "model.pt", "-o", "x.pt", "--class", "a"), "salve-audit edit model.pt report"),
        (("gate", "model.pt"), "salve-audit gate AUDIT"),
        (("report", "church.png"), "salve-audit report AUDIT"),
        (("compare", "report", "model.pt"), "salve-audit compare AUDIT AUDIT"),
        (("data", "model.pt"), "salve-audit model.pt data"),
        (("inspect", "data", "model.pt"), "salve-audit inspect model.pt data"),
        (("report", "data"), None),
        (("audit", "report"), "salve-audit gate report, or salve-audit report report"),
    ],
)
def test_a_wrong_order_is_told_by_what_the_files_are(
    salve: Callable, files: Path, arguments: tuple[str, ...], expected: str | None
) -> None:
    done = salve(*arguments)
    assert done.code == 2
    assert (f"hint: {expected}\n" in done.err) == (expected is not None), done.err
    assert sorted(path.name for path in files.iterdir()) == ["church.png", "data", "model.pt", "other.png", "report"]


def test_errors_name_flags_as_they_were_typed(salve: Callable, files: Path) -> None:
    done = salve("model.pt", "data", "--fail-under", "-1")
    assert done.err.startswith("error: --fail-under: -1.0 is ")
    done = salve("model.pt", "data", "--anonymise", "--keep-activations")
    assert done.err.startswith("error: --anonymise: --keep-activations would write names")
    done = salve("model.pt", "data", "--limit=0")
    assert done.err.startswith("error: --limit: 0 is below 1")
    (files / "own.toml").write_text("batch-size = 0\n")
    done = salve("model.pt", "data", "--config", "own.toml")
    assert done.err.startswith("error: own.toml: 0 is below 1 in 'batch-size'")
    done = salve("model.pt", "data", "--interventions", "salve,steeering")
    assert "'steeering' is not one of" in done.err
    assert "did you mean steering?" in done.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("g", ["file g", "plain gate"]),
        ("model.pt d", ["file d"]),
        ("gate r", ["file r"]),
        ("model.pt data --cach", ["plain --cache", "plain --cache-limit"]),
        ("model.pt data --out s", ["file s"]),
        ("model.pt data --interventions salve,ste", ["plain salve,steering"]),
    ],
)
def test_shells_complete_commands_options_words_and_paths(words: str, expected: list[str]) -> None:
    *args, incomplete = words.split(" ")
    shell = BashComplete(cli, {}, "salve-audit", "_SALVE_AUDIT_COMPLETE")
    completions = [f"{item.type} {item.value}" for item in shell.get_completions(args, incomplete)]
    assert [item for item in completions if item in expected] == expected


def test_the_variable_of_the_documentation_gives_a_script() -> None:
    environment = {**os.environ, "_SALVE_AUDIT_COMPLETE": "zsh_source"}
    code = "from salve_audit.__main__ import main; import sys; sys.argv[0] = 'salve-audit'; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "_SALVE_AUDIT_COMPLETE=zsh_complete" in done.stdout


def test_the_table_has_what_a_reader_needs_and_the_limits(salve: Callable, files: Path) -> None:
    result = load_audit(SAMPLE)
    done = salve("gate", "report", "--fail-over-reliance", "0.4", "--fail-under-redundancy", "2")
    header, _, first, *rest = done.out.splitlines()
    assert re.split(r"\s{2,}", header) == [
        *("class", "n", "accuracy", "image reliance", "kind", "redundancy in the image", "alpha_hat flip median"),
        "flags",
    ]
    worst = result.classes[[each.name for each in result.classes].index(first.split()[0])]
    record = worst.image_reliance
    assert record is not None
    assert f"{record.reliance:.2f} [{record.low:.2f}, {record.high:.2f}]  {record.kind}" in first
    limit = rest[len(result.classes) - 1]
    assert limit.split("  ")[0] == "limit"
    assert header.index("image reliance") == limit.index("at most 0.4")
    assert header.index("redundancy in the image") == limit.index("at least 2")
    numbers = [line[: header.index("flags")] for line in class_table(result).splitlines()[2:]]
    assert numbers == [line[: header.index("flags")] for line in [first, *rest][: len(numbers)]]


def test_limits_of_accuracy_stand_below_it(salve: Callable, files: Path) -> None:
    name = load_audit(SAMPLE).classes[0].name
    (files / "own.toml").write_text(f'min_accuracy = 0.5\n\n[classes."{name}"]\nmin_accuracy = 0.25\n')
    done = salve("gate", "report", "--policy", "own.toml", "--allow-mismatch", "digest")
    header, limit = done.out.splitlines()[0], next(line for line in done.out.splitlines() if line.startswith("limit"))
    assert header.index("accuracy") == limit.index("at least 25 %, 50 % overall")


def test_json_on_stdout_needs_json_alone(salve: Callable, files: Path) -> None:
    done = salve("model.pt", "data", "--out", "-")
    assert done.err.startswith("error: --out -: only --format json can go to stdout")


def test_every_option_of_every_command_says_what_it_does() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert (parameter.help or "")[:1].isupper(), (name, parameter.name)


def test_json_is_what_the_help_says(salve: Callable, files: Path, tmp_path: Path) -> None:
    done = salve("gate", "report", "--fail-under", "0.1", "--format", "json", "--allow-mismatch", "digest")
    assert json.loads(done.out)["policy"] == "alpha_hat flip median at least 0.1"
