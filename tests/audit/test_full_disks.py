"""Disks of a few megabytes, real ones: what is missing is told before the work, and nothing is left half-written."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from salve_audit.activations import room
from salve_audit.activations.remote_cache import RemoteCache
from salve_audit.activations.room import FullError, Need, check_rooms, reserve
from salve_audit.activations.store import Activations, ActivationSplit
from salve_audit.audit.activations_file import count_bytes, write_activations
from salve_audit.audit.disk_needs import AuditSize, check_disks
from salve_audit.audit.publish import publishing
from salve_audit.audit.stage_cache import KeptResult, StageCache, StageParts
from salve_audit.config import AuditConfig
from salve_audit.errors import OutputError
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.remote import RemoteFolder

MB = 2**20
Disk = Callable[[str, int], Path]


def config_with(**settings: object) -> AuditConfig:
    return AuditConfig(model="model.pt", data="data", **settings)  # type: ignore[arg-type]


SIZE = AuditSize(n_fit=60_000, n_audit=40_000, d=100, has_pass=True)  # 40 MB of activations


def test_what_an_audit_will_need_is_known_before_it(disk: Disk, tmp_path: Path) -> None:
    small = disk("small", 48 * MB)
    here, kept = tmp_path / "out", {"keep_activations": True}
    cases = (
        (config_with(cache=small / "deep" / "cache", out=here), None),
        (config_with(cache=tmp_path / "cache", out=small / "out", **kept), "40.8 MB"),
        (config_with(cache=small, out=small / "out", **kept), "81.6 MB"),
    )
    check_disks(dataclasses.replace(cases[0][0], cache=tmp_path / "cache"), SIZE)
    for config, _ in cases:
        with pytest.raises(FullError, match=r"need \d+\.\d MB, 50\.3 MB are free on its disk") as caught:
            check_disks(config, SIZE)
        assert caught.value.exit_code == 2
    assert "100,000 images' activations and the results and the activations to keep need" in str(caught.value)
    assert list(small.iterdir()) == []


def test_what_lies_in_the_cache_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: SimpleNamespace(free=20 * MB))
    config = config_with(cache=tmp_path)
    for name, share in (("key", 0.96), ("key.partial", 0.9)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "acts.npy", np.zeros(int(share * 10_000_000), np.float32))
        check_disks(config, SIZE)
        (tmp_path / name / "acts.npy").unlink()
    with pytest.raises(FullError, match=r"need 56\.8 MB, 21\.0 MB are free"):
        check_disks(config, SIZE)
    check_disks(config, dataclasses.replace(SIZE, has_pass=False))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    many = config_with(cache=tmp_path, n_latents=4000)
    with pytest.raises(FullError, match=r"the autoencoder's codes need 656\.8 MB") as caught:
        check_disks(many, dataclasses.replace(SIZE, has_pass=False))
    assert caught.value.hint == "name another folder with TMPDIR"


def test_results_that_do_not_fit_leave_nothing(disk: Disk) -> None:
    out = disk("out", 2 * MB)
    (out / "audit.json").write_text("old")
    with pytest.raises(FullError, match=r"the results need 3\.0 MB, 2\.\d MB are free"):
        check_rooms([Need(out, 3_000_000, "the results", "")], spare=0)
    with pytest.raises(OutputError, match="No space left on device"), publishing(out) as stage:
        (stage / "audit.json").write_bytes(bytes(3 * MB))
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("audit.json", "old")]


def test_results_of_stages_that_do_not_fit_leave_nothing(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    folder = disk("cache", 2 * MB)
    cache, parts = StageCache(folder, 10**12), StageParts(folder / "parts")
    cache.keep("stress", "small", KeptResult(np.zeros(100_000), ()))
    parts.keep("small", {"values": np.zeros(10_000)})
    for values in (np.zeros(300_000), np.arange(152_000.0)):  # too large, and too large by a little
        parts.keep("large", {"values": values})
        StageCache(folder, 10**12).keep("stress", "large", KeptResult(values, ()))
    files = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert files == ["small.npz", "small.npz"]
    assert "the cache cannot be written (No space left on device); nothing is kept for the next audit" in caplog.text
    assert StageCache(folder, 10**12).recall("stress", "small", np.ndarray) is not None
    assert parts.recall("small") is not None


def test_a_mapped_file_takes_its_room_at_once(disk: Disk) -> None:
    folder = disk("temporary", 2 * MB)
    with tempfile.TemporaryFile(dir=folder) as file:
        with pytest.raises(FullError, match=r"the disk is full; 4\.2 MB are needed"):
            reserve(file.fileno(), 4 * MB, folder)
        reserve(file.fileno(), MB, folder)
        assert os.fstat(file.fileno()).st_size >= MB


def make_activations() -> Activations:
    rng = np.random.default_rng(0)
    parts = [
        ActivationSplit(rng.normal(size=(n, 64)).astype(np.float32), rng.integers(0, 3, n), tuple(map(str, range(n))))
        for n in (9000, 5)
    ]
    head = LinearHead(rng.normal(size=(3, 64)).astype(np.float32), np.zeros(3, np.float32), "fc")
    return Activations(*parts, head, 1e-7, "key", "sha", False, ())


def test_kept_activations_are_written_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salve_audit.audit.activations_file.BLOCK_BYTES", 2**16)
    activations, file = make_activations(), tmp_path / "activations.safetensors"
    write_activations(activations, ("a", "b", "ü"), file)
    saved = load_file(file)
    assert np.array_equal(saved["fit_acts"], activations.fit.acts)
    assert np.array_equal(saved["audit_acts"], activations.audit.acts)
    assert np.array_equal(saved["fit_labels"], activations.fit.labels)
    assert np.array_equal(saved["head_weight"], activations.head.weight)
    assert 0 < file.stat().st_size - count_bytes(activations) < 100_000


def test_kept_activations_that_do_not_fit_leave_nothing(disk: Disk) -> None:
    out = disk("out", MB)
    with pytest.raises(OutputError, match="No space left on device") as caught, publishing(out) as stage:
        write_activations(make_activations(), ("a", "b", "c"), stage / "activations.safetensors")
    assert caught.value.hint == "make room, and run it again"
    assert list(out.iterdir()) == []


def test_a_cache_under_a_url_whose_folder_here_is_full(disk: Disk, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    (tmp_path / "store" / "key").mkdir(parents=True)
    for name, n_bytes in (("acts.npy", 3 * MB), ("meta.json", 10)):
        (tmp_path / "store" / "key" / name).write_bytes(bytes(n_bytes))
    here = RemoteCache(disk("here", 2 * MB), RemoteFolder((tmp_path / "store").as_uri()))
    with pytest.raises(FullError, match=r"the disk is full; key/acts\.npy of file://"):
        here.fetch_whole(here.folder / "key", "meta.json")
    assert list(here.folder.iterdir()) == []
