"""Stage results on disk: whole or absent, whatever happens in between; bounded in size."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from salve_audit.activations.cache import ABANDONED_S, EntryWriter
from salve_audit.activations.shards import ACTS
from salve_audit.audit.cache_folder import find_cache_dir, list_entries, prune, remove_entry
from salve_audit.audit.stage_cache import KeptResult, StageCache


@dataclass(frozen=True)
class Record:
    name: str
    values: np.ndarray


BIG = 10**12
VALUES = np.random.default_rng(0).normal(size=200)


def make(name: str = "x") -> KeptResult:
    return KeptResult(Record(name, VALUES), ("take care",))


def kept_file(folder: Path) -> Path:
    (file,) = (folder / "stages").glob("*/*.npz")
    return file


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "cache", BIG, "model.pt on data")


def test_what_is_kept_is_recalled_with_its_warnings(cache: StageCache, tmp_path: Path) -> None:
    assert cache.recall("deep edits", "key", Record) is None
    cache.keep("deep edits", "key", make())
    kept = cache.recall("deep edits", "key", Record)
    assert kept is not None
    assert kept.warnings == ("take care",)
    assert kept.record.name == "x"
    assert np.array_equal(kept.record.values, VALUES)
    assert cache.recall("deep edits", "other", Record) is None
    assert StageCache(None, BIG).recall("deep edits", "key", Record) is None
    assert [entry.describe() for entry in list_entries(tmp_path / "cache")] == ["model.pt on data"]


def flip_a_byte_of_values(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.index(VALUES[:2].tobytes())] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def store_another_kind(file: Path) -> None:
    other = StageCache(file.parents[2], BIG)
    other.keep(file.parent.name, file.stem, KeptResult((1, 2), ()))


def store_a_pickle(file: Path) -> None:
    with file.open("wb") as stream:
        np.savez(stream, tree=np.array([object()], dtype=object), warnings=np.array([], dtype=str))


@pytest.mark.parametrize(
    "spoil",
    [flip_a_byte_of_values, cut, store_another_kind, store_a_pickle, lambda file: file.write_bytes(b"")],
)
def test_damaged_results_are_warned_of_and_replaced(spoil, cache: StageCache, caplog) -> None:
    cache.keep("stress", "key", make())
    assert cache.folder is not None
    spoil(kept_file(cache.folder))
    with caplog.at_level(logging.WARNING):
        assert cache.recall("stress", "key", Record) is None
    assert [text.split(":")[0] for text in caplog.messages] == [
        "a cached result (stress) is damaged and computed again"
    ]
    cache.keep("stress", "key", make())
    assert cache.recall("stress", "key", Record) is not None


def test_every_single_flipped_byte_is_noticed_or_harmless(cache: StageCache) -> None:
    cache.keep("stress", "key", make())
    assert cache.folder is not None
    file = kept_file(cache.folder)
    content = file.read_bytes()
    n_noticed = 0
    for place in range(0, len(content), 11):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        kept = cache.recall("stress", "key", Record)
        n_noticed += kept is None
        assert kept is None or (kept.record.name == "x" and np.array_equal(kept.record.values, VALUES))
    assert n_noticed > len(content) / 11 / 2


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("")
    cache = StageCache(tmp_path / "file" / "cache", BIG)
    with caplog.at_level(logging.WARNING):
        cache.keep("stress", "a", make())
        cache.keep("stress", "b", make())
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith(
        "the cache cannot be written (Not a directory); nothing is kept for the next audit"
    )


def test_a_full_disk_leaves_nothing_half_written(cache: StageCache, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    folder = cache.folder
    cache.keep("stress", "key", make())
    assert folder is not None
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert "No space left on device" in caplog.text


def test_audits_that_share_a_folder_see_whole_results(tmp_path: Path, caplog) -> None:
    def work(number: int) -> list[bool]:
        own = StageCache(tmp_path, BIG)
        seen = []
        for _ in range(15):
            own.keep("stress", "key", make())
            kept = StageCache(tmp_path, BIG).recall("stress", "key", Record)
            seen.append(kept is not None and np.array_equal(kept.record.values, VALUES))
        return seen

    with ThreadPoolExecutor(4) as pool:
        assert all(all(seen) for seen in pool.map(work, range(4)))
    assert caplog.messages == []
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["key.npz"]


def used_before(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def make_activations(folder: Path, key: str, n_bytes: int) -> Path:
    (folder / key).mkdir(parents=True)
    (folder / key / ACTS).write_bytes(b"0" * n_bytes)
    return folder / key


def test_the_least_recently_used_goes_first_whatever_it_is(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, BIG)
    for age, key in enumerate(("new", "middle", "old")):
        cache.keep("stress", key, make())
        used_before(tmp_path / "stages" / "stress" / f"{key}.npz", 1000 * (age + 1))
    used_before(make_activations(tmp_path, "acts", 5000), 2500)
    size = kept_size = (tmp_path / "stages" / "stress" / "old.npz").stat().st_size
    assert cache.recall("stress", "old", Record) is not None  # makes it the latest used
    removed = prune(tmp_path, 3 * kept_size, keep=())
    assert [entry.key for entry in removed] == ["acts"]
    removed = prune(tmp_path, 2 * size, keep={tmp_path / "stages" / "stress" / "middle.npz"})
    assert [entry.key for entry in removed] == ["new"]
    assert {entry.key for entry in list_entries(tmp_path)} == {"old", "middle"}
    prune(tmp_path, 0, keep={tmp_path / "stages" / "stress" / "middle.npz"})
    assert [entry.key for entry in list_entries(tmp_path)] == ["middle"]


def test_a_cache_never_removes_what_its_audit_uses(tmp_path: Path) -> None:
    StageCache(tmp_path, BIG).keep("stress", "earlier", make())
    cache = StageCache(tmp_path, 1)
    cache.keep("stress", "own", make())
    cache.keep("stress", "too", make())
    assert {entry.key for entry in list_entries(tmp_path)} == {"own", "too"}


def test_work_of_running_and_killed_audits(tmp_path: Path) -> None:
    folder = tmp_path / "stages" / "stress"
    folder.mkdir(parents=True)
    for name, age in (("a.npz.0.tmp", ABANDONED_S + 60), ("b.npz.0.tmp", 60)):
        (folder / name).write_bytes(b"")
        used_before(folder / name, age)
    make_activations(tmp_path, "key.0.work", 10)
    running = EntryWriter(tmp_path, "running")
    assert list_entries(tmp_path) == []
    prune(tmp_path, 0, keep=())
    assert running.partial.is_dir()
    running.discard()
    prune(tmp_path, 0, keep=())
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [ACTS, "b.npz.0.tmp"]


def test_entries_are_removed_whole(tmp_path: Path) -> None:
    StageCache(tmp_path, BIG).keep("stress", "key", make())
    make_activations(tmp_path, "acts", 10)
    assert all(remove_entry(entry) for entry in list_entries(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_user_without_a_home_has_a_folder_of_their_own_among_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = find_cache_dir(None)
    assert folder is not None
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o077 == 0
    assert find_cache_dir(tmp_path) == tmp_path
