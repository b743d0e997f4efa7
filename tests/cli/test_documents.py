"""Every command and snippet of README and docs: all are parsed, those in blocks of ``bash`` and ``python`` are run.

One audit of the colours stands for the reader's; a pyproject.toml in the working folder makes all further audits quick.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from gate_audits import SAMPLE
from live_world import make_world

from salve_audit.cli.app import COMMANDS, cli
from salve_audit.gate.notebook import GateError
from salve_audit.results import parse_audit

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
AUDITS = ("README.md", "index.md", "inputs.md", "recipes.md", "editing.md", "command-line.md", "ci.md", "cache.md")
BLOCK = re.compile(r"^```(\w*)(?: title=\"(.*?)\")?\n(.*?)^```", re.DOTALL | re.MULTILINE)
LANGUAGES = ("bash", "python", "sh", "toml", "yaml", "json", "text")  # the first two are run
COMMAND = re.compile(r"^(?:.*(?<!-t) )?(salve-audit (?!is|takes|prints|of|as|or|and|in|\\.|,).*)$", re.MULTILINE)
NOT_RUN = ("pip", "git", "make", "apt", "docker", "echo", "uv")  # of blocks of sh
QUICK = """[tool.salve-audit]
sae = "linear-l1"
sae-seeds = 1
interventions = ["salve"]
deep-edits = "off"
evidence = "off"
format = ["html", "json"]
cache = "cache"
"""


def read_blocks(page: Path) -> list[tuple[str, str, str]]:
    """Language, title and text of the page's blocks."""
    return [(found[1], found[2] or "", found[3]) for found in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def split_commands(text: str) -> Iterator[list[str]]:
    """The commands in a block, as words without comments and redirections."""
    for line in text.splitlines():
        words = [os.path.expanduser(word) for word in shlex.split(line, comments=True)]
        if words and words[0] == "salve-audit":
            yield words[1 : words.index(">")] if ">" in words else words[1:]


def find_commands() -> list[tuple[str, str]]:
    """Page and command line of everything that a page shows, in blocks and within text, also within other commands."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        inline = re.findall(r"`([^`\n]*)`", BLOCK.sub("", text))
        for block in [*(block for _, _, block in read_blocks(page)), *inline]:
            found += [(page.name, line.strip()) for line in COMMAND.findall(block)]
    return found


@pytest.mark.parametrize(("page", "line"), find_commands())
def test_every_command_that_is_shown_exists(page: str, line: str) -> None:
    """Command, options and their values; MODEL and the like stand for arguments, dots and brackets for a choice."""
    (words,) = split_commands(line)
    is_whole = not re.search(r"\[|\.\.\.|…", line)
    with contextlib.suppress(click.exceptions.Exit, click.MissingParameter):  # --help, -V; a mention within a sentence
        context = cli.make_context("salve-audit", list(words), resilient_parsing=not is_whole)
        while isinstance(context.command, click.Group):
            rest = [*getattr(context, "_protected_args", []), *context.args]
            name, command, args = context.command.resolve_command(context, rest)
            assert command is not None
            context = command.make_context(name, list(args), parent=context, resilient_parsing=not is_whole)
        options = {option for each in context.command.params for option in (*each.opts, *each.secondary_opts)}
        named = re.findall(r"(?<![\w-])--[a-z][a-z-]*", line.partition(" # ")[0])
        assert {*named} <= {*options, "--help"}


def test_blocks_of_other_programs_are_marked_as_not_run() -> None:
    for page in PAGES:
        for language, _, text in read_blocks(page):
            assert language in LANGUAGES, (page.name, text[:40])
            programs = {line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("#")}
            if language == "sh":
                allowed = {*NOT_RUN, "salve-audit", "_SALVE_AUDIT_COMPLETE=bash_source"}
                assert programs <= allowed, (page.name, programs - allowed)
            elif language == "bash":
                assert programs == {"salve-audit"}, page.name


@pytest.fixture(scope="module")
def desk(head_audit: Path, colour_model: Path, colour_data: Path, shared_folder: Callable) -> Path:
    """A working folder as the documents have it."""

    def fill(folder: Path) -> None:
        (folder / "pyproject.toml").write_text(QUICK)
        shutil.copytree(head_audit / "out", folder / "salve-report")
        shutil.copytree(colour_data, folder / "data")
        shutil.copytree(head_audit / "cache", folder / "cache")
        shutil.copyfile(colour_model, folder / "model.pt")
        shutil.copyfile(colour_data / "val" / "red" / "003.png", folder / "image.png")
        (title, text) = next((t, text) for _, t, text in read_blocks(DOCS / "recipes.md") if t == "net.py")
        (folder / title).write_text(text)
        names: dict[str, Any] = {}
        exec(text, names)
        torch.save(names["small_net"]().state_dict(), folder / "own.pth")
        write_resnet(folder)
        write_arrays(folder / "activations.npz")

    return shared_folder("desk", fill)


def write_resnet(folder: Path) -> None:
    import timm

    torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), folder / "weights.pth")
    (folder / "weights.json").write_text('{"input_size": [3, 32, 32], "crop_pct": 1.0}')


def write_arrays(file: Path) -> None:
    labels = np.repeat(np.arange(3), 160)
    acts = (np.random.default_rng(0).random((480, 8)) + 1.5 * np.eye(8)[labels]).astype(np.float32)
    np.savez(file, acts=acts, labels=labels, weight=np.eye(3, 8, dtype=np.float32), bias=np.zeros(3, np.float32))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers
@pytest.mark.parametrize("name", AUDITS)
def test_what_a_page_shows_runs(
    name: str, desk: Path, salve: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(desk, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    page = next(page for page in PAGES if page.name == name)
    if name == "recipes.md":
        assert salve("gate", "salve-report", "--init").code == 0
    shutil.copyfile("model.pt", "new.pt")
    world = make_world()
    names: dict[str, Any] = {"train": world.train, "val": world.val}
    for language, title, text in read_blocks(page):
        if language == "python" and not title:
            unsure = pytest.raises(GateError) if name == "ci.md" and ".require()" in text else contextlib.nullcontext()
            with unsure:  # image reliance is left out here
                exec(compile(text, f"{name}: {text[:40]}", "exec"), names)
        for words in split_commands(text) if language == "bash" else ():
            if words[:1] == ["review"]:  # so there is nothing to review: see below
                continue
            done = salve(*words)
            assert done.code == (0 if words else 2), (words, done.err, done.out)


def test_the_commands_of_a_review_run(salve: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "Downloads").mkdir()
    (tmp_path / "salve-report").mkdir()
    text = SAMPLE.read_text(encoding="utf-8").replace('"ripple"', '"husky"')
    (tmp_path / "salve-report" / "audit.json").write_text(parse_audit(text).to_json(), encoding="utf-8")
    said = ("--set", "husky:region=accepted", "--file", "Downloads/salve-review.toml")
    assert salve("review", "salve-report", *said).code == 0
    (tmp_path / "salve-policy.toml").write_text('review = "salve-review.toml"\non_unreviewed = "pass"\n')
    (block,) = (text for language, _, text in read_blocks(DOCS / "review.md") if language == "bash")
    for words in split_commands(block):
        done = salve(*words)
        assert done.code == 0, (words, done.err, done.out)
        if "--set" in words:
            assert salve("gate", "salve-report", "--policy", "salve-policy.toml").code == 1


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 130
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (REPOSITORY / target).exists(), target


def test_every_command_is_in_the_documentation() -> None:
    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    assert all(f"`{name}" in text or f"audit {name} " in text for name in COMMANDS)
