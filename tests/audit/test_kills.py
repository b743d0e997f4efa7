"""Audits killed at a few random moments end with the bytes of an undisturbed one; `make kills` does it thirty times."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

N_KILLS = 3
FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    return importlib.import_module("kills")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="audits are forked")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_audits_end_with_the_same_bytes(kills: ModuleType, tmp_path: Path) -> None:
    if sys.version_info >= (3, 12) or torch.get_num_threads() > 1:
        pytest.skip("a fork of several threads may hang")
    tally = kills.kill_audits(tmp_path, N_KILLS, seed=int.from_bytes(os.urandom(2), "big"))
    assert sum(tally.stages.values()) == N_KILLS
    assert tally.differing == []
