"""Two machines that share a cache under a URL: one works, the other waits for it, and takes over once it is gone."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from activation_entries import same
from object_store import google_objects, serving_objects

from salve_audit.activations import extraction, lease, shards
from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.activations.lease import LEASE_S, Lease
from salve_audit.activations.remote_cache import RemoteCache
from salve_audit.inputs.remote import RemoteFolder

ELSEWHERE = "a machine that is not this one"
Machine = Callable[[str], RemoteCache]


@pytest.fixture(scope="module", params=["gs", "s3"])
def store(request: pytest.FixtureRequest) -> Iterator[RemoteFolder]:
    with (google_objects if request.param == "gs" else serving_objects)() as bucket:
        yield RemoteFolder(bucket)


@pytest.fixture
def machine(store: RemoteFolder, tmp_path: Path) -> Iterator[Machine]:
    """The cache as a machine of that name has it."""
    yield lambda name: RemoteCache(tmp_path / name, store.below("cache"))
    store.remove("cache")


def settings_of(cache: RemoteCache) -> ExtractSettings:
    return ExtractSettings(batch_size=7, workers=0, cache_dir=cache.folder, remote=cache)


def write_lease(cache: RemoteCache, key: str, beaten_at: float, host: str = ELSEWHERE, pid: int = 1) -> None:
    values = {"pid": pid, "host": host, "time": beaten_at, "token": "theirs"}
    cache.write(cache.folder / f"{key}{lease.LEASE}", json.dumps(values).encode())


def test_a_lease_is_of_one_until_it_is_released_or_runs_out(machine: Machine, monkeypatch) -> None:
    first, second = Lease(machine("first"), "key"), Lease(machine("second"), "key")
    assert first.take()
    assert not second.take()
    assert "process" in str(second.find_owner())
    second.release()  # is not its own
    assert first.confirm()
    first.release()
    assert second.take()
    monkeypatch.setattr(lease, "BEAT_S", 0.0)
    for patience_s, is_taken in ((LEASE_S, False), (-1.0, True)):  # the second gives no sign of life for so long
        monkeypatch.setattr(lease, "LEASE_S", patience_s)
        assert first.take() == is_taken
        assert second.beat() != is_taken
    first.release()
    assert first.find_owner() is None
    assert machine("any").store.list_names() == []


def test_what_is_no_lease_or_of_a_process_that_is_gone_keeps_nobody_waiting(machine: Machine, monkeypatch) -> None:
    cache = machine("first")
    monkeypatch.setattr(lease.socket, "gethostname", lambda: "here")
    write_lease(cache, "ended", time.time(), "here", pid=2**22 + 1)  # beyond what Linux numbers processes with
    cache.write(cache.folder / f"torn{lease.LEASE}", b"{")
    for key in ("ended", "torn"):
        assert Lease(cache, key).find_owner() is None
        assert Lease(cache, key).take()


def test_one_machine_works_and_the_other_waits(machine: Machine, classifier, imageset, monkeypatch, caplog) -> None:
    monkeypatch.setattr(extraction, "REMOTE_WAIT_S", 0.05)
    waits, results, passes = threading.Event(), dict[str, extraction.Activations](), list[Path]()
    run_pass, sleep = extraction.run_pass, time.sleep

    def count(*given: object) -> None:
        passes.append(given[-1].cache_dir)  # type: ignore[attr-defined]
        run_pass(*given)  # type: ignore[arg-type]

    def note(seconds: float) -> None:
        waits.set()
        sleep(seconds)

    monkeypatch.setattr(extraction, "run_pass", count)
    monkeypatch.setattr(extraction.time, "sleep", note)
    second = threading.Thread(
        target=lambda: results.update(second=extract(classifier, imageset, settings_of(machine("second"))))
    )

    def go_on_once_it_waits(done: int, n: int) -> None:
        if done == 7:
            second.start()
        assert waits.wait(60)

    first = dataclasses.replace(settings_of(machine("first")), advance=go_on_once_it_waits)
    results["first"] = extract(classifier, imageset, first)
    second.join(60)
    assert passes == [first.cache_dir]
    assert same(results["first"], results["second"])
    assert results["second"].from_cache
    assert "computes the same activations in this cache: waiting for it" in caplog.text
    key = results["first"].key
    assert machine("any").store.list_names() == [f"{key}/acts.npy", f"{key}/meta.json"]


@pytest.mark.parametrize("clock_s", [-2 * LEASE_S, 3600.0])
def test_a_machine_that_is_gone_is_not_waited_for(
    machine: Machine, clock_s: float, classifier, imageset, monkeypatch, caplog
) -> None:
    """Its last sign of life is long ago, or by its wrong clock still to come."""
    monkeypatch.setattr(extraction, "REMOTE_WAIT_S", 0.05)
    whole = extract(classifier, imageset, ExtractSettings(batch_size=7, workers=0))
    write_lease(machine("gone"), whole.key, time.time() + clock_s)
    if clock_s > 0:
        monkeypatch.setattr(lease, "LEASE_S", 0.2)
    assert same(extract(classifier, imageset, settings_of(machine("second"))), whole)
    assert f"process 1 on {ELSEWHERE} has shown no sign of life for" in caplog.text
    assert ("waiting for it" in caplog.text) == (clock_s > 0)
    sent = {f"{whole.key}/acts.npy", f"{whole.key}/meta.json"}
    assert {*machine("any").store.list_names()} == (sent if clock_s < 0 else {f"{whole.key}{lease.LEASE}"})


def test_who_has_lost_the_lease_sends_nothing_more(machine: Machine, classifier, imageset, monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    monkeypatch.setattr(lease, "BEAT_S", 0.0)
    key, other = extract(classifier, imageset, ExtractSettings(batch_size=7, workers=0)).key, machine("other")

    def lose(done: int, n: int) -> None:
        if done == 21:
            write_lease(other, key, time.time())

    settings = dataclasses.replace(settings_of(machine("first")), advance=lose)
    extract(classifier, imageset, settings)
    shard = f"{key}.partial/{{:06}}.shard"
    assert other.store.list_names() == [f"{key}{lease.LEASE}", *(shard.format(number) for number in range(3))]
