"""The cache on disk: complete or absent, whatever happens in between."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salve_audit.activations import shards
from salve_audit.activations.cache import ABANDONED_S, META, EntryWriter, default_cache_dir, find_worker, read_entry
from salve_audit.activations.shards import ACTS, SHARDS, Progress

ROWS = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)


def write_rows(writer: EntryWriter, rows: np.ndarray, batch: int = 3) -> None:
    for start in range(writer.progress.n_seen, len(rows), batch):
        part, done = rows[start : start + batch], writer.progress
        n = len(part)
        writer.append(part, replace(done, n_seen=done.n_seen + n, n_fit=done.n_fit + n, d=4, head_error=1e-7))


def write_entry(folder: Path, key: str = "key", rows: np.ndarray = ROWS) -> None:
    writer = EntryWriter(folder, key)
    write_rows(writer, rows)
    writer.finish()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_entry(tmp_path / "deep" / "cache")
    acts, progress = read_entry(tmp_path / "deep" / "cache", "key")
    assert isinstance(acts, np.memmap)
    assert np.array_equal(acts, ROWS)
    assert replace(progress, sha256="") == Progress(n_seen=11, n_fit=11, d=4, head_error=1e-7)
    assert np.array_equal(np.load(tmp_path / "deep" / "cache" / "key" / ACTS), ROWS)  # a .npy like any other


def test_nothing_is_no_entry(tmp_path: Path) -> None:
    assert read_entry(tmp_path / "none", "key") is None


def test_unfinished_work_is_no_entry(tmp_path: Path) -> None:
    writer = EntryWriter(tmp_path, "key")
    write_rows(writer, ROWS)
    assert read_entry(tmp_path, "key") is None
    writer.suspend()
    assert names_in(tmp_path) == ["key.partial"]
    assert read_entry(tmp_path, "key") is None


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / ACTS).read_bytes())
    content[-3] ^= 1
    (folder / ACTS).write_bytes(content)


def cut_the_end(folder: Path) -> None:
    (folder / ACTS).write_bytes((folder / ACTS).read_bytes()[:-8])


def edit_meta(folder: Path) -> None:
    text = (folder / META).read_text()
    (folder / META).write_text(text.replace("1e-07", "1e-08"))


def rehash_shape(folder: Path) -> None:
    """A description that is consistent in itself, but of another shape."""
    import hashlib

    values = json.loads(json.loads((folder / META).read_text())["progress"])
    text = json.dumps(values | {"n_audit": 5})
    (folder / META).write_text(json.dumps({"progress": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (flip_a_byte, "its contents have changed"),
        (cut_the_end, "its contents have changed"),
        (edit_meta, "does not match its own hash"),
        (rehash_shape, "holds float32 (11, 4), expected float32 (16, 4)"),
        (lambda folder: (folder / META).write_text("{}"), "is no description of cached activations"),
        (lambda folder: (folder / META).write_bytes(b"\xff\xfe"), "is no description of cached activations"),
        (lambda folder: (folder / META).unlink(), "No such file or directory"),
        (lambda folder: (folder / ACTS).unlink(), "No such file or directory"),
    ],
)
def test_damaged_entries_are_warned_of_and_replaced(spoil, why: str, tmp_path: Path, caplog) -> None:
    write_entry(tmp_path)
    spoil(tmp_path / "key")
    with caplog.at_level(logging.WARNING):
        assert read_entry(tmp_path, "key") is None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("cached activations are damaged and computed again: ")
    assert why in caplog.messages[0]
    write_entry(tmp_path)
    assert np.array_equal(read_entry(tmp_path, "key")[0], ROWS)
    assert names_in(tmp_path) == ["key"]


@pytest.mark.parametrize("n_done", [0, 3, 9])
def test_suspended_work_is_resumed(n_done: int, tmp_path: Path) -> None:
    writer = EntryWriter(tmp_path, "key")
    write_rows(writer, ROWS[:n_done])
    writer.suspend()
    again = EntryWriter(tmp_path, "key")
    assert again.progress.n_seen == n_done
    write_rows(again, ROWS)
    again.finish()
    assert np.array_equal(read_entry(tmp_path, "key")[0], ROWS)
    assert names_in(tmp_path) == ["key"]


def test_images_skipped_before_the_first_row_are_resumed(tmp_path: Path) -> None:
    writer = EntryWriter(tmp_path, "key")
    writer.append(np.zeros((0, 0), np.float32), replace(writer.progress, n_seen=2, skipped=(("a", "b"), ("c", "d"))))
    writer.suspend()
    again = EntryWriter(tmp_path, "key")
    assert again.progress.skipped == (("a", "b"), ("c", "d"))
    done = again.progress
    again.append(ROWS, replace(done, n_seen=13, n_audit=11, d=4))
    again.finish()
    acts, progress = read_entry(tmp_path, "key")
    assert np.array_equal(acts, ROWS)
    assert (progress.n_fit, progress.n_audit, progress.skipped) == (0, 11, (("a", "b"), ("c", "d")))


def test_half_a_row_is_cut_off_when_resuming(tmp_path: Path) -> None:
    writer = EntryWriter(tmp_path, "key")
    write_rows(writer, ROWS[:6])
    writer.shards.flush()
    writer.shards.stream.write(b"half a row")
    writer.suspend()
    again = EntryWriter(tmp_path, "key")
    write_rows(again, ROWS)
    again.finish()
    assert np.array_equal(read_entry(tmp_path, "key")[0], ROWS)


def spoil_second_line(folder: Path) -> None:
    lines = (folder / SHARDS).read_bytes().splitlines(keepends=True)
    (folder / SHARDS).write_bytes(b"".join([lines[0], lines[1].replace(b"0", b"1", 1), *lines[2:]]))


@pytest.mark.parametrize(
    ("spoil", "n_left"),
    [
        (cut_the_end, 6),
        (flip_a_byte, 6),
        (lambda folder: (folder / SHARDS).write_bytes((folder / SHARDS).read_bytes()[:-5]), 6),
        (spoil_second_line, 3),
        (lambda folder: (folder / SHARDS).write_bytes(b"\xff["), 0),
        (lambda folder: (folder / SHARDS).unlink(), 0),
        (lambda folder: (folder / ACTS).unlink(), 0),
    ],
)
def test_whole_shards_are_resumed_and_torn_ones_made_again(
    spoil, n_left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)  # every batch
    writer = EntryWriter(tmp_path, "key")
    write_rows(writer, ROWS[:9])
    writer.suspend()
    spoil(tmp_path / "key.partial")
    again = EntryWriter(tmp_path, "key")
    assert again.progress.n_seen == again.n_saved == n_left
    write_rows(again, ROWS)
    again.finish()
    write_entry(tmp_path, "undisturbed")
    for name in (ACTS, META):
        assert (tmp_path / "key" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert names_in(tmp_path / "key") == [ACTS, META]


def test_a_pass_that_ended_before_its_last_step_is_finished(tmp_path: Path) -> None:
    writer = EntryWriter(tmp_path, "key")
    write_rows(writer, ROWS)
    writer.shards.complete()  # and is killed
    writer.lock.release()
    again = EntryWriter(tmp_path, "key")
    assert again.progress.n_seen == len(ROWS)
    again.finish()
    assert np.array_equal(read_entry(tmp_path, "key")[0], ROWS)


def test_an_interrupted_write_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, write_at, n_calls = EntryWriter(tmp_path, "key"), shards._write_at, 0

    def interrupted(*arguments: Any) -> int:
        nonlocal n_calls
        end, n_calls = write_at(*arguments), n_calls + 1
        if n_calls == 3:  # the list's line is written, and nobody has noted it
            raise KeyboardInterrupt
        return end

    write_rows(writer, ROWS[:6])
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_write_at", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.shards.flush()
    writer.suspend()
    again = EntryWriter(tmp_path, "key")
    write_rows(again, ROWS)
    again.finish()
    assert np.array_equal(read_entry(tmp_path, "key")[0], ROWS)


def test_two_audits_at_once(tmp_path: Path) -> None:
    first_writer, other = EntryWriter(tmp_path, "key"), EntryWriter(tmp_path, "key")
    write_rows(first_writer, ROWS, batch=2)
    write_rows(other, ROWS, batch=5)
    first_writer.finish()
    first = read_entry(tmp_path, "key")[0]
    other.finish()
    assert np.array_equal(first, ROWS)  # the map outlives the files it was made from
    assert np.array_equal(read_entry(tmp_path, "key")[0], ROWS)
    assert names_in(tmp_path) == ["key"]


def test_suspended_work_goes_to_one_audit_only(tmp_path: Path) -> None:
    writer = EntryWriter(tmp_path, "key")
    write_rows(writer, ROWS[:6])
    writer.suspend()
    first_writer, other = EntryWriter(tmp_path, "key"), EntryWriter(tmp_path, "key")
    assert (first_writer.progress.n_seen, other.progress.n_seen) == (6, 0)
    for each in (first_writer, other):
        each.suspend()
    assert names_in(tmp_path) == ["key.partial"]


HOLDER = """
import sys, time
from pathlib import Path
import numpy as np
from salve_audit.activations.cache import EntryWriter
from salve_audit.activations.shards import Progress
writer = EntryWriter(Path(sys.argv[1]), "key")
writer.append(np.zeros((3, 4), np.float32), Progress(3, 3, 0, 4, 1e-7))
writer.shards.flush()
print(__import__("os").getpid(), flush=True)
__import__("os").fork() if sys.argv[2] == "fork" else None  # as decoding processes are
time.sleep(3600)
"""


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks")
@pytest.mark.parametrize("how", ["alone", "fork"])
def test_the_lock_names_its_owner_and_ends_with_it(how: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            pid = int(process.stdout.readline())
            owner = find_worker(tmp_path, "key")
            assert (owner.pid, owner.hangs) == (pid, False)
            os.utime(tmp_path / "key.lock", (time.time() - 3600,) * 2)
            assert find_worker(tmp_path, "key").hangs
            beside = EntryWriter(tmp_path, "key")
            assert (beside.progress.n_seen, beside.work.suffix) == (0, ".work")
            beside.discard()
            os.kill(process.pid, signal.SIGKILL)  # the child, if there is one, lives on
            process.wait()
            assert find_worker(tmp_path, "key") is None
            resumed = EntryWriter(tmp_path, "key")
            assert resumed.progress.n_seen == 3
            resumed.discard()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert names_in(tmp_path) == []


def test_work_of_killed_processes_is_swept_after_a_week(tmp_path: Path) -> None:
    for name, age in (("old", ABANDONED_S + 60), ("young", 60)):
        folder = tmp_path / f"{name}.0.work"
        folder.mkdir()
        os.utime(folder, (time.time() - age,) * 2)
    EntryWriter(tmp_path, "key").discard()
    assert names_in(tmp_path) == ["young.0.work"]


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache_dir() == Path("/somewhere/salve-audit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == Path.home() / ".cache" / "salve-audit"
