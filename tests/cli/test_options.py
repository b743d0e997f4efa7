"""Flag beats --config file beats pyproject.toml beats default; help is fast and complete."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from salve_audit.cli.app import COMMANDS
from salve_audit.cli.audit_command import command as audit_command
from salve_audit.cli.edit_command import command as edit_command
from salve_audit.cli.explain_command import command as explain_command
from salve_audit.cli.gate_command import command as gate_command
from salve_audit.cli.inspect_command import command as inspect_command
from salve_audit.cli.options import SectionedOption, build_config
from salve_audit.config import SECTIONS, AuditConfig
from salve_audit.errors import UsageError
from salve_audit.options import DeclaredOption, flag_options
from salve_audit.settings import read_settings

FLAGS = {"config": None, "seed": None, "out": None}


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.salve-audit]\nseed = 1\nlimit = 11\nbatch-size = 7\n")
    file = tmp_path / "audit.toml"
    file.write_text("seed = 2\nlimit = 22\n")
    monkeypatch.chdir(tmp_path)
    config = build_config("m", "d", {**FLAGS, "config": file, "seed": 3})
    assert (config.seed, config.limit, config.batch_size, config.workers) == (3, 22, 7, None)
    assert config.out == "salve-report"


def test_no_cache_is_a_flag_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("--no-cache").use_cache is False
    assert parse().use_cache is True


def test_no_images_is_a_flag_of_its_own_and_may_stand_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse().images is True
    assert parse("--no-images").images is False
    for text in ("images = false", "no-images = true", "no_images = true"):
        (tmp_path / "own.toml").write_text(f"{text}\nsaliency-layer = 'layer3'\nno-cache = true\n")
        config = parse("--config", "own.toml")
        assert (config.images, config.saliency_layer, config.use_cache) == (False, "layer3", False)
        assert parse("--config", "own.toml", "--images", "--use-cache").images is True
    (tmp_path / "own.toml").write_text("no-images = true\nimages = true\n")
    with pytest.raises(UsageError, match=r"own.toml: 'images' is given twice, the second time as 'images'"):
        parse("--config", "own.toml")


def test_unknown_keys_name_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.salve-audit]\nsede = 1\n")
    with pytest.raises(UsageError, match=r"pyproject.toml \[tool.salve-audit\]: unknown option 'sede'"):
        read_settings(None, tmp_path)


def test_help_lists_every_option_and_command(salve: Callable) -> None:
    top = salve("--help")
    assert top.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in top.out
    options = salve("audit", "--help").out
    for name in ("arch", "head", "out", "format", "seed", "limit", "batch-size", "workers", "device", "precision"):
        assert f"--{name}" in options
    for name in ("sae", "n-latents", "interventions", "fail-under", "config", "cache", "no-cache", "quiet", "verbose"):
        assert f"--{name}" in options


@pytest.mark.parametrize("option", flag_options(AuditConfig).values(), ids=lambda option: option.name)
def test_every_option_is_a_flag_under_its_section_and_a_key_of_a_file(option: DeclaredOption, tmp_path: Path) -> None:
    flags = {parameter.opts[0]: parameter for parameter in audit_command.params if isinstance(parameter, click.Option)}
    flag = flags[option.flags[0]]
    assert (*flag.opts, *flag.secondary_opts) == option.flags
    assert isinstance(flag, SectionedOption)
    assert flag.section == option.about.section
    assert flag.section in SECTIONS
    assert flag.default is None
    assert flag.help is not None
    assert flag.help.startswith(option.about.help)
    for typed in option.flags:
        (tmp_path / "own.toml").write_text(f"{typed.removeprefix('--')} = {_toml(option)}\n")
        assert set(read_settings(tmp_path / "own.toml", tmp_path)) == {option.name}


def _toml(option: DeclaredOption) -> str:
    """A valid value as a file holds it."""
    if option.kind.types == (bool,):
        return "true"
    if str in option.kind.types:
        value = json.dumps(next(iter(option.about.choices), "a name"))
        return f"[{value}]" if option.kind.listed else value
    return str(option.about.least or 1)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (edit_command, "classes arch head weights trust_model cache use_cache batch_size workers device"),
        (explain_command, "saliency_layer arch head weights trust_model device"),
        (inspect_command, "arch head weights trust_model classes label seed"),
        (gate_command, "fail_under fail_under_redundancy fail_over_reliance"),
    ],
)
def test_other_commands_have_the_options_of_an_audit(command: click.Command, names: str) -> None:
    flags = {parameter.opts[0]: parameter for parameter in command.params if isinstance(parameter, click.Option)}
    for option in (flag_options(AuditConfig)[name] for name in names.split()):
        flag = flags[option.flags[0]]
        assert flag.help is not None
        assert flag.help.startswith(option.about.help) or option.name in ("label", "seed"), option.name
        assert flag.default == option.default
        assert flag.metavar == option.about.metavar


def test_options_of_other_commands_are_checked_as_those_of_an_audit(salve: Callable) -> None:
    done = salve("edit", "m.pt", "audit", "--class", "red", "--alpha-hat", "1", "-o", "x.pt", "--batch-size", "0")
    assert (done.code, done.err) == (2, "error: --batch-size: 0 is below 1\n")
    done = salve("inspect", "m.pt", "--seed", "-1")
    assert (done.code, done.err) == (2, "error: --seed: -1 is below 0\n")


def test_help_groups_the_flags(salve: Callable) -> None:
    text = salve("audit", "--help").out
    headings = [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [*SECTIONS, "Other options"]
    assert "Batch size of the backbone pass. [default: by image size" in " ".join(text.split())


def parse(*arguments: object) -> AuditConfig:
    """The configuration that these arguments of an audit give."""
    flags = audit_command.make_context("audit", ["m", "d", *map(str, arguments)]).params
    return build_config(flags.pop("model"), flags.pop("data"), flags)


def test_flags_become_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse("--format", "json,html", "--seed", "4", "--fail-under", "1.5", "--no-images", "--trust-model")
    expected = AuditConfig("m", "d", format=("json", "html"), seed=4, fail_under=1.5, images=False, trust_model=True)
    assert config == dataclasses.replace(expected, out="salve-report")
    assert parse() == AuditConfig("m", "d", out="salve-report")


RENAMED = [
    ("--depth", "off", "--evidence", {"evidence": "off"}),
    ("--depth-layers", "layer2", "--evidence-layer", {"evidence_layer": "layer2"}),
    ("--depth-layers", "auto", "--evidence-layer", {"evidence_layer": None}),
    ("--concepts", "a,b", "--attributes", {"attributes": ("a", "b")}),
    ("--concepts", "none", "--attributes", {"attributes": ()}),
]


@pytest.mark.parametrize(("old", "value", "new", "settings"), RENAMED)
def test_old_flags_still_work_with_one_warning(
    salve: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, value: str, new: str, settings: dict
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.salve-audit]\nsae = 'supervised'\n")
    assert parse(old, value) == AuditConfig("m", "d", sae="supervised", out="salve-report", **settings)
    assert old not in salve("audit", "--help").out.split()
    done = salve("nothing.pt", "nowhere", old, value, "--quiet")
    assert done.code == 2
    expected = f"warning: {old} is now {new}; the old spelling goes in the next release"
    assert [line for line in done.err.splitlines() if line.startswith("warning")] == [expected]


def test_an_old_flag_beats_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.salve-audit]\nevidence-layer = 'layer1'\n")
    assert parse("--depth-layers", "layer2").evidence_layer == "layer2"
    assert parse("--depth-layers", "auto").evidence_layer is None
    assert parse().evidence_layer == "layer1"


def test_old_flags_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^--depth-layers: only one layer is looked at now, but 2 are named: a, b$"):
        parse("--depth-layers", "a,b")
    with pytest.raises(UsageError, match=r"^--depth: is the old spelling of --evidence, which is given, too$"):
        parse("--depth", "off", "--evidence", "auto")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("depth = 'off'", {"evidence": "off"}),
        ("depth-layers = ['layer2']", {"evidence_layer": "layer2"}),
        ("depth_layers = []", {"evidence_layer": None}),
        ("concepts = ['a', 'b']", {"attributes": ("a", "b")}),
    ],
)
def test_old_keys_of_files_still_work_with_one_warning(
    salve: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, settings: dict
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(text)
    assert read_settings(Path("own.toml")) == settings
    done = salve("nothing.pt", "nowhere", "--config", "own.toml", "--sae", "supervised", "--quiet")
    assert done.code == 2
    old, new = text.split(" ")[0], next(iter(settings))
    expected = f"warning: own.toml: {old} is now {new}; the old spelling goes in the next release"
    assert [line for line in done.err.splitlines() if line.startswith("warning")] == [expected]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("depth-layers = ['a', 'b']", "own.toml: depth-layers: only one layer is looked at now, but 2 are named: a, b"),
        ("depth-layers = 'a'", "own.toml: expected a list of strings, got str in 'depth-layers'"),
        ("depth = 1", "own.toml: expected str, got int in 'depth'"),
        ("depth = 'off'\nevidence = 'off'", "own.toml: 'evidence' is given twice, the second time as 'evidence'"),
        ("batch-size = 1\nbatch_size = 2", "own.toml: 'batch_size' is given twice, the second time as 'batch_size'"),
        ("progress = true", "own.toml: unknown option 'progress'"),
        ("sede = 1", "own.toml: unknown option 'sede'"),
        ("seed = -1", "own.toml: -1 is below 0 in 'seed'"),
        ("paper = 'a5'", "own.toml: 'a5' is not one of a4, letter in 'paper'"),
        ("no-cache = 'yes'", "own.toml: expected bool, got str in 'no-cache'"),
        ("out = 1", "own.toml: expected str, got int in 'out'"),
        ("seed = true", "own.toml: expected int, got bool in 'seed'"),
        ("fail-under = 'x'", "own.toml: expected int or float, got str in 'fail-under'"),
        ("trust-model = 'no'", "own.toml: expected bool, got str in 'trust-model'"),
    ],
)
def test_wrong_keys_of_files_are_named(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UsageError) as raised:
        read_settings(tmp_path / "own.toml", tmp_path)
    assert str(raised.value).endswith(why)


def test_version(salve: Callable) -> None:
    assert salve("--version").out == salve("-V").out == "salve-audit, version 0.1.0\n"
