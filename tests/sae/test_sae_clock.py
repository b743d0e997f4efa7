"""The limit on the autoencoder's time: what it leaves out, and that it says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from salve_audit.sae.clock import Clock
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae


def test_without_a_limit_everything_is_allowed():
    clock = Clock()
    clock.note(1.0, 1e9)
    assert clock.allows(1e30)
    assert clock.affords(1e30) == 1


def test_speed_seen_so_far_decides(monkeypatch):
    monkeypatch.setattr("time.perf_counter", lambda: 110.0)
    clock = Clock(limit=30, started=100.0)  # 20 s are left
    assert clock.affords(1e12) == 1  # nothing is known yet
    clock.note(1e9, 1.0)
    assert clock.allows(2e10)
    assert not clock.allows(2.1e10)
    assert clock.affords(8e10) == pytest.approx(0.25)


def test_a_search_that_runs_out_of_time_uses_what_it_has_and_names_what_is_missing(world):
    settings = SaeSettings("auto", n_seeds=2, seed=3)
    full = train_sae(world.acts, world.labels, world.head, settings).info
    short = train_sae(world.acts, world.labels, world.head, replace(settings, budget=1e-3)).info
    assert full.cut_short == ()
    assert "jumprelu" in short.cut_short
    assert len(short.frontier) < len(full.frontier)
    assert sum(point.chosen for point in short.frontier) == 1
