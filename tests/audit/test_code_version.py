"""Versions of code: they change with every file that a stage reaches, and with no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from salve_audit.audit import code_version as module
from salve_audit.audit.line import LINE

ROOT = module.ROOT
REACHED = {  # a file, and the stages that have to be computed anew where it changes
    "sae/losses.py": {stage.name for stage in LINE},
    "interventions/leace.py": {stage.name for stage in LINE} - {"reliance"},
    "saliency/drawing.py": {"saliency", "data check", "image reliance"},
    "evidence/search.py": {"image reliance"},
    "gate/verdict.py": set[str](),
    "report/html.py": set[str](),
    "cli/app.py": set[str](),
    "config.py": set[str](),
    "audit/stages.py": {stage.name for stage in LINE},
}


def clear() -> None:
    module._sources.cache_clear()
    module.function_version.cache_clear()


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """``changed(file)``: the code as if that file had one more comment."""
    copy = tmp_path / "salve_audit"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("*.pyc", "*.xz"))
    original = module.file_version
    monkeypatch.setattr(module, "ROOT", copy)
    monkeypatch.setattr(module, "file_version", lambda file: original(copy / file.relative_to(ROOT)))

    def change(file: str) -> None:
        (copy / file).write_text((copy / file).read_text() + "# another comment\n")
        clear()

    clear()
    yield change
    clear()


def versions() -> dict[str, str]:
    return {stage.name: module.function_version(stage.compute) for stage in LINE}


@pytest.mark.parametrize(("file", "expected"), REACHED.items(), ids=REACHED)
def test_a_change_reaches_the_stages_that_use_it(file: str, expected: set[str], changed: Callable) -> None:
    before = versions()
    changed(file)
    after = versions()
    assert {name for name in before if before[name] != after[name]} == expected


def test_versions_hold_until_something_changes(changed: Callable) -> None:
    before = versions(), module.code_version(["audit"])
    clear()
    assert (versions(), module.code_version(["audit"])) == before
    changed("evidence/search.py")
    assert module.code_version(["audit"]) != before[1]


def test_a_folder_s_version_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("x")
    before = module.folder_version(tmp_path)
    (tmp_path / "a.css").rename(tmp_path / "b.css")
    renamed = module.folder_version(tmp_path)
    (tmp_path / "b.css").write_text("y")
    assert len({before, renamed, module.folder_version(tmp_path)}) == 3
