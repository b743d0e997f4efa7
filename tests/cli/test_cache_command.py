"""``salve-audit cache``: what is kept, and how to be rid of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from salve_audit.audit.stage_cache import KeptResult, StageCache
from salve_audit.cli.cache_command import parse_age
from salve_audit.errors import UsageError

DAY = 86400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three results: of two models, one used a while ago."""
    for about, stage, key, age in (
        ("a.pt on data", "autoencoder", "aaaa1", 1),
        ("a.pt on data", "image reliance", "aaaa2", 5),
        ("b\x1b[31m.pt on data", "autoencoder", "bbbb1", 10 * DAY),
    ):
        StageCache(tmp_path, 10**9, about).keep(stage, key, KeptResult((1.5, key), ()))
        file = tmp_path / "stages" / stage.replace(" ", "-") / f"{key}.npz"
        os.utime(file, (time.time() - age,) * 2)
    return tmp_path


def keys(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.rglob("*.npz"))


def test_the_list_tells_stage_size_age_and_subject(salve: Callable, folder: Path) -> None:
    done = salve("cache", "list", "--cache", folder)
    assert done.code == 0, done.err
    header, _, *rows, total = done.out.splitlines()
    assert header.split() == ["stage", "size", "last", "used", "key", "of"]
    assert [row.split()[0] for row in rows] == ["autoencoder", "image-reliance", "autoencoder"]
    assert "10 d ago" in rows[-1]
    assert "b\\x1b[31m.pt on data" in rows[-1]
    assert "\x1b" not in done.out
    assert total.startswith("3 entries, ")


def test_the_list_as_json(salve: Callable, folder: Path) -> None:
    listed = json.loads(salve("cache", "list", "--json", "--cache", folder).out)
    assert {entry["key"] for entry in listed} == {"aaaa1", "aaaa2", "bbbb1"}
    assert all(entry["bytes"] == Path(entry["path"]).stat().st_size for entry in listed)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ([], []),
        (["--older-than", "7d"], ["aaaa1", "aaaa2"]),
        (["--older-than", "2w"], ["aaaa1", "aaaa2", "bbbb1"]),
        (["--stage", "autoencoder"], ["aaaa2"]),
        (["--stage", "autoencoder", "--older-than", "1h"], ["aaaa1", "aaaa2"]),
        (["aaaa"], ["bbbb1"]),
        (["--dry-run"], ["aaaa1", "aaaa2", "bbbb1"]),
    ],
)
def test_what_is_named_is_cleared(salve: Callable, folder: Path, options: list[str], left: list[str]) -> None:
    done = salve("cache", "clear", *options, "--cache", folder)
    assert done.code == 0, done.err
    assert keys(folder) == left
    n_removed = 3 if options == ["--dry-run"] else 3 - len(left)
    verb = "would be removed" if options == ["--dry-run"] else "removed"
    assert done.out.startswith(f"{n_removed} {'entry' if n_removed == 1 else 'entries'} {verb}, ")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--older-than", "soon"], "error: --older-than: 'soon' is no age"),
        (["--stage", "stress"], "error: --stage: nothing of 'stress' is kept"),
        (["cccc"], "error: cccc: no entry of the cache has such a key"),
    ],
)
def test_wrong_choices_clear_nothing(salve: Callable, folder: Path, options: list[str], why: str) -> None:
    done = salve("cache", "clear", *options, "--cache", folder)
    assert (done.code, done.err.splitlines()[0]) == (2, why)
    assert len(keys(folder)) == 3


def test_ages() -> None:
    assert [parse_age(text) for text in ("90s", "2min", "1.5h", "7d", "1 w")] == [90, 120, 5400, 7 * DAY, 7 * DAY]
    with pytest.raises(UsageError):
        parse_age("-1d")


def test_the_path_is_the_one_of_audits(salve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert salve("cache", "path").out == "/somewhere/salve-audit\n"
    done = salve("cache", "list")
    assert (done.code, done.out) == (0, "/somewhere/salve-audit: nothing is kept there\n")


def test_the_cache_is_listed_without_torch(folder: Path) -> None:
    code = f"""
import sys
from salve_audit.cli.app import run
assert run(["cache", "list", "--cache", {str(folder)!r}]) == 0
assert not {{"torch", "timm", "pandas"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
