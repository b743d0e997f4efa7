"""Audits on disks that are full or fill up: exit code 2, what is needed, nothing half-written; the next run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from salve_audit.activations import shards
from salve_audit.audit import run

pytestmark = pytest.mark.slow

MB = 2**20
QUICK = ("--sae", "linear-l1", "--n-latents", "8", "--sae-seeds", "1", "--deep-edits", "off", "--evidence", "off")
QUICK += ("--no-images", "--interventions", "salve", "--format", "json", "--device", "cpu", "--log-json")


@pytest.fixture
def audit(salve: Callable, colour_model: Path, colour_data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """``audit(cache, out)``: exit code, the message at its end, and the stages that were computed."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")

    def call(cache: Path, out: Path) -> tuple[int, str, list[str]]:
        done = salve(colour_model, colour_data, *QUICK, "--cache", cache, "--out", out)
        events = [json.loads(line) for line in done.err.splitlines()]
        finished = [event for event in events if event["event"] == "stage_finished"]
        return done.code, events[-1]["message"], [each["stage"] for each in finished if not each["from_cache"]]

    return call


def fill(disk: Path, leave: int) -> Path:
    """Leave so many bytes; what takes the others."""
    state = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - leave)))
    return ballast


def test_a_cache_without_room_is_an_error_before_images_are_read(audit: Callable, disk: Callable, tmp_path) -> None:
    cache = disk("cache", 2 * MB)
    code, message, stages = audit(cache, tmp_path / "out")
    assert (code, stages) == (2, ["inputs"])
    assert message == f"{cache}: 216 images' activations need 16.8 MB, 2.1 MB are free on its disk"
    assert list(cache.iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_in_the_midst_of_the_pass(
    audit: Callable, disk: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    assert audit(tmp_path / "cache", whole)[0] == 0
    cache = disk("disk", 24 * MB)
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    flush, ballast = shards.ShardWriter.flush, list[Path]()

    def flushing(writer: shards.ShardWriter) -> None:
        flush(writer)
        if not ballast:  # after the first shard; the page that it began has room for some more
            ballast.append(fill(cache, 0))

    with monkeypatch.context() as patch:
        patch.setattr(shards.ShardWriter, "flush", flushing)
        code, message, _ = audit(cache, tmp_path / "out")
    assert code == 2
    assert message.startswith(f"{cache}: the disk is full after ")
    assert message.endswith(" of 216 images; the others need 16.8 MB")
    assert not (tmp_path / "out").exists()
    ballast[0].unlink()
    code, message, _ = audit(cache, tmp_path / "out")
    assert code == 0, message
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }


def test_results_without_room_are_written_by_the_next_run(audit: Callable, disk: Callable, tmp_path: Path) -> None:
    out, cache = disk("out", 20 * MB), tmp_path / "cache"
    code, message, _ = audit(tmp_path / "other", out)
    assert code == 0, message
    names = sorted(file.name for file in out.iterdir())
    before = (out / "audit.json").read_bytes()
    ballast, write = fill(out, 17 * MB), run.write_audit  # the least that an audit begins with

    def writing(*arguments: object) -> None:
        ballast.unlink()
        fill(out, 20_000)  # another process is faster
        write(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_audit", writing)
        code, message, _ = audit(cache, out)
    assert code == 2
    assert message.startswith(f"{out}: the results need ")
    assert message.endswith(" kB are free on its disk")
    assert (out / "audit.json").read_bytes() == before
    assert sorted(file.name for file in out.iterdir()) == sorted([*names, "ballast", "stale.txt"])
    ballast.unlink()
    code, message, stages = audit(cache, out)
    assert code == 0, message
    assert [stage for stage in stages if stage not in ("inputs", "report")] == []
