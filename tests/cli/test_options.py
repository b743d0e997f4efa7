"""Flag beats --config file beats pyproject.toml beats default; help is fast and complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from salve_audit.cli.options import build_config
from salve_audit.config_file import read_settings
from salve_audit.errors import UsageError

FLAGS = {"config": None, "no_cache": None, "no_images": None, "seed": None, "out": None}


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
    assert build_config("m", "d", {**FLAGS, "no_cache": True}).use_cache is False
    assert build_config("m", "d", dict(FLAGS)).use_cache is True


def test_no_images_is_a_flag_of_its_own_and_may_stand_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert build_config("m", "d", dict(FLAGS)).images is True
    assert build_config("m", "d", {**FLAGS, "no_images": True}).images is False
    (tmp_path / "own.toml").write_text("images = false\nsaliency-layer = 'layer3'\n")
    config = build_config("m", "d", {**FLAGS, "config": tmp_path / "own.toml"})
    assert (config.images, config.saliency_layer) == (False, "layer3")


def test_unknown_keys_name_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.salve-audit]\nsede = 1\n")
    with pytest.raises(UsageError, match=r"pyproject.toml \[tool.salve-audit\]: unknown option 'sede'"):
        read_settings(None, tmp_path)


def test_help_lists_every_option_and_command(salve: Callable) -> None:
    top = salve("--help")
    assert top.code == 0
    for command in ("inspect", "demo", "report", "gate"):
        assert f"\n  {command} " in top.out
    options = salve("audit", "--help").out
    for name in ("arch", "head", "out", "format", "seed", "limit", "batch-size", "workers", "device", "precision"):
        assert f"--{name}" in options
    for name in ("sae", "n-latents", "interventions", "fail-under", "config", "cache", "no-cache", "quiet", "verbose"):
        assert f"--{name}" in options


def test_version(salve: Callable) -> None:
    assert salve("--version").out == "salve-audit, version 0.1.0\n"
