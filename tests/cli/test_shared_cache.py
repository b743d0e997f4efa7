"""Audits that run at the same time with one cache: one pass for all of them, and the bytes of audits on their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

QUICK = ("--sae", "linear-l1", "--n-latents", "8", "--sae-seeds", "2", "--deep-edits", "off", "--workers", "0")
QUICK += ("--device", "cpu", "--interventions", "salve,steering", "--format", "json", "--log-json", "--batch-size", "4")
QUICK += ("--sae-budget", "100000", "--evidence-budget", "100000")  # the clock decides nothing
ENVIRONMENT = {"SOURCE_DATE_EPOCH": "1700000000", "OMP_NUM_THREADS": "1"}


def run_together(subject: Sequence[Path], runs: Mapping[Path, Sequence[str]], cache: Path) -> dict[Path, list[dict]]:
    """Events of audits into these folders with these options, all started at once."""
    command = [sys.executable, "-m", "salve_audit", *map(str, subject), *QUICK, "--cache", str(cache)]
    started = {
        out: subprocess.Popen(
            [*command, "--out", str(out), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | ENVIRONMENT,
        )
        for out, options in runs.items()
    }
    events = {}
    for out, process in started.items():
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        events[out] = [json.loads(line) for line in err.splitlines()]
    return events


def files_in(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def count_passes(events: Mapping[Path, list[dict]]) -> int:
    done = [event for told in events.values() for event in told if event["event"] == "stage_finished"]
    return sum(event["stage"] == "activations" and not event["from_cache"] for event in done)


def test_audits_at_the_same_time(colour_model: Path, colour_data: Path, tmp_path: Path) -> None:
    """Two alike train the same autoencoder and look at the same images at once; a third trains another one."""
    subject, cache = (colour_model, colour_data), tmp_path / "cache"
    runs = {tmp_path / name: options for name, options in {"a": (), "b": (), "c": ("--n-latents", "12")}.items()}
    events = run_together(subject, runs, cache)
    assert count_passes(events) == 1
    assert not [e for told in events.values() for e in told if e["event"] == "warning" and "damaged" in e["message"]]
    for name, options in (("a", ()), ("c", ("--n-latents", "12"))):
        run_together(subject, {tmp_path / f"alone-{name}": options}, tmp_path / f"cache-{name}")
    assert files_in(tmp_path / "a") == files_in(tmp_path / "b") == files_in(tmp_path / "alone-a")
    assert files_in(tmp_path / "c") == files_in(tmp_path / "alone-c")
    left = [path.name for path in cache.rglob("*") if path.suffix in (".tmp", ".work", ".partial", ".lock", ".parts")]
    assert left == []
