"""A backbone pass on disks that fail, and one that is interrupted: resumed, and clean on every failure."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from activation_entries import leftovers, same

from salve_audit.activations import backbone, extraction, room, shards, streams
from salve_audit.activations.cache import EntryWriter
from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.activations.room import FullError, fit_batches
from salve_audit.activations.shards import ACTS
from salve_audit.audit.backbone_pass import extract_anyway
from salve_audit.errors import CheckpointError, OutputError

MODELS = Path(__file__).resolve().parents[1] / "models"


@pytest.fixture
def settings(tmp_path: Path) -> ExtractSettings:
    return ExtractSettings(batch_size=7, workers=0, cache_dir=tmp_path / "cache")


class FullDisk:
    """A stream that runs out of space after `room` bytes."""

    def __init__(self, stream, room: int) -> None:
        self.stream, self.room = stream, room

    def write(self, data) -> int:
        self.room -= len(bytes(data))
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.stream.write(data)

    def __iter__(self):
        return iter(self.stream)

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


@pytest.mark.parametrize("room", [10, 400])  # the header, the rows
def test_a_full_disk(room: int, classifier, imageset, settings, monkeypatch) -> None:
    opened = shards._open
    monkeypatch.setattr(shards, "_open", lambda path: FullDisk(opened(path), room if path.name == ACTS else 10**6))
    with pytest.raises(FullError) as caught:
        extract_anyway(classifier, imageset, settings)  # which does not begin anew without a cache
    assert caught.value.why == "the disk is full after 0 of 60 images; the others need 16.8 MB"
    assert caught.value.hint == "name another folder with --cache DIR, or use --no-cache"
    assert leftovers(settings.cache_dir) == []


def test_a_disk_that_fills_up_keeps_what_is_done(classifier, imageset, settings, monkeypatch, tmp_path) -> None:
    whole = extract(classifier, imageset, dataclasses.replace(settings, cache_dir=tmp_path / "whole"))
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    with monkeypatch.context() as patch:
        opened = shards._open
        patch.setattr(shards, "_open", lambda path: FullDisk(opened(path), 600 if path.name == ACTS else 10**6))
        with pytest.raises(FullError) as caught:
            extract_anyway(classifier, imageset, settings)
    assert caught.value.why == "the disk is full after 21 of 60 images; the others need 16.8 MB"
    assert leftovers(settings.cache_dir) == [".partial"]
    assert same(extract(classifier, imageset, settings), whole)


def test_a_full_disk_is_known_before_the_pass(classifier, imageset, settings, monkeypatch) -> None:
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    monkeypatch.setattr(extraction, "run_pass", lambda *_: pytest.fail("it began"))
    with pytest.raises(OutputError) as caught:
        extract(classifier, imageset, settings)
    assert caught.value.why == "60 images' activations need 16.8 MB, 1 kB are free on its disk"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_batches_shrink_until_memory_suffices(error, classifier, imageset, settings, monkeypatch, caplog) -> None:
    whole = extract(classifier, imageset, dataclasses.replace(settings, cache_dir=settings.cache_dir / "whole"))
    sizes, forward = [], type(classifier.model).forward

    def fails_on_many(self, images):
        sizes.append(len(images))
        if len(images) > 3:
            raise error
        return forward(self, images)

    monkeypatch.setattr(type(classifier.model), "forward", fails_on_many)
    with caplog.at_level("WARNING"):
        again = extract(classifier, imageset, settings)
    assert caplog.messages == ["memory is short: on in batches of 3"]
    assert [size for size in sizes if size > 3] == [7]
    np.testing.assert_allclose(again.fit.acts, whole.fit.acts, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(type(classifier.model), "forward", lambda self, images: (_ for _ in ()).throw(error))
    with pytest.raises(CheckpointError, match=r"a forward pass of 1 x 3 x 16 x 16 failed") as caught:
        extract(classifier, imageset, dataclasses.replace(settings, cache_dir=settings.cache_dir / "third"))
    assert caught.value.hint == "even one image at a time is too much for the memory there is"


def test_streams_are_as_many_as_memory_has_a_batch_for(classifier, monkeypatch) -> None:
    monkeypatch.setattr(streams, "count_streams", lambda device: 4)
    for memory, expected in ((2**40, 4), (2 * 10**9, 3), (10**8, 1)):
        monkeypatch.setattr(streams, "available_memory", lambda memory=memory: memory)
        assert len(streams.copy_for_streams(classifier, torch.device("cpu"))) == expected


@pytest.mark.parametrize(
    ("memory", "expected"), [(2**40, (16, 4)), (2**27, (16, 4)), (2**25, (6, 4)), (2**21, (1, 1)), (0, (1, 1))]
)
def test_batches_are_planned_by_memory(memory: int, expected: tuple[int, int]) -> None:
    assert fit_batches(16, 4, 32 * 32, memory) == expected


def test_a_cache_that_cannot_be_written_is_a_warning(classifier, imageset, settings, tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    there = extract(classifier, imageset, dataclasses.replace(settings, cache_dir=cache))
    assert f"{cache}: cannot be written (Not a directory); activations are kept in a temporary" in caplog.text
    np.testing.assert_array_equal(there.audit.acts, extract(classifier, imageset, settings).audit.acts)


def interrupt_after(n_batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = EntryWriter.append, []

    def append(self, acts, advanced):
        calls.append(len(acts))
        if len(calls) > n_batches:
            self.shards.stream.write(b"half a row")
            raise KeyboardInterrupt
        original(self, acts, advanced)

    monkeypatch.setattr(EntryWriter, "append", append)


def test_an_interrupted_pass_is_resumed(classifier, imageset, settings, monkeypatch, tmp_path) -> None:
    whole = extract(classifier, imageset, dataclasses.replace(settings, cache_dir=tmp_path / "whole"))
    with monkeypatch.context() as patch:
        interrupt_after(6, patch)
        with pytest.raises(KeyboardInterrupt):
            extract(classifier, imageset, settings)
    assert leftovers(settings.cache_dir) == [".partial"]
    read, original = [], backbone.read_batch
    monkeypatch.setattr(
        backbone, "read_batch", lambda data, positions: read.append(len(positions)) or original(data, positions)
    )
    resumed = extract(classifier, imageset, settings)
    assert sum(read) == 60 - 6 * 7
    assert same(resumed, whole)
    assert resumed.head_error == whole.head_error
    assert not resumed.from_cache
    assert leftovers(settings.cache_dir) == [""]


def test_an_interrupt_without_a_cache_leaves_nothing(classifier, imageset, settings, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "images"))
    before = sorted((tmp_path / "images").iterdir())
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        extract(classifier, imageset, dataclasses.replace(settings, cache_dir=None))
    assert sorted((tmp_path / "images").iterdir()) == before


@pytest.mark.skipif(os.name == "nt", reason="there are no such locks")
def test_a_run_that_was_a_moment_faster_is_waited_for(classifier, imageset, settings, monkeypatch, tmp_path) -> None:
    whole = extract(classifier, imageset, dataclasses.replace(settings, cache_dir=tmp_path / "whole"))
    look, faster = extraction._read_or_wait, list[EntryWriter]()

    def looking(cache_dir: Path, key: str, remote: None):
        if not faster:
            faster.append(EntryWriter(cache_dir, key))
            return None
        shutil.copytree(tmp_path / "whole" / key, cache_dir / key)
        faster[0].discard()
        return look(cache_dir, key, remote)

    monkeypatch.setattr(extraction, "_read_or_wait", looking)
    monkeypatch.setattr(extraction, "run_pass", lambda *_: pytest.fail("it was computed twice"))
    waited = extract(classifier, imageset, settings)
    assert waited.from_cache
    assert same(waited, whole)
    assert leftovers(settings.cache_dir) == [""]


SLOW = """
import sys, time, torch
from pathlib import Path
sys.path.insert(0, {models!r})
from tiny import Tiny
class Slow(Tiny):
    n_calls = 0
    def forward(self, x):
        self.n_calls += 1
        if self.n_calls == 12:  # in the midst of the pass, and there it stays until it is interrupted
            Path(__file__).with_name("waiting").touch()
            time.sleep(3600)
        return super().forward(x)
def slow(num_classes=3):
    return Slow(num_classes)
slow.input_size = (3, 16, 16)
"""
AUDIT = """
import sys
from pathlib import Path
from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.model.checkpoint import load_classifier
if __name__ == "__main__":
    model, arch, data, cache = sys.argv[1:]
    classifier, imageset = load_classifier(model, arch), load_images(data, seed=0)
    extract(classifier, imageset, ExtractSettings(batch_size=2, workers=2, cache_dir=Path(cache)))
"""


@pytest.mark.skipif(os.name == "nt", reason="process groups are signalled otherwise there")
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_reaches_a_pass_with_workers(classifier, imageset, tmp_path) -> None:
    (tmp_path / "slow.py").write_text(SLOW.format(models=str(MODELS)))
    (tmp_path / "audit.py").write_text(AUDIT)
    cache = tmp_path / "cache"
    arguments = [str(classifier.path), f"{tmp_path / 'slow.py'}:slow", str(imageset.root), str(cache)]
    command, waiting = [sys.executable, str(tmp_path / "audit.py"), *arguments], tmp_path / "waiting"
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        while not waiting.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers alike
        errors = process.communicate()[1]
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1, errors  # the parent's own; the workers are silent
    assert leftovers(cache) == [".partial"]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no worker survives
