"""A backbone pass on disks that fail, and one that is interrupted: resumed, and clean on every failure."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from activation_entries import leftovers, same

from salve_audit.activations import backbone
from salve_audit.activations.cache import EntryWriter
from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.errors import OutputError

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

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


@pytest.mark.parametrize("room", [10, 400, 128 + 60 * 5 * 4])  # the header, the rows, the final header
def test_a_full_disk(room: int, classifier, imageset, settings, monkeypatch, tmp_path, caplog) -> None:
    original = EntryWriter._claim

    def claim(self):
        progress, stream = original(self)
        return progress, FullDisk(stream, room)

    monkeypatch.setattr(EntryWriter, "_claim", claim)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with pytest.raises(OutputError) as caught:
        extract(classifier, imageset, settings)
    assert f"{settings.cache_dir}: the disk is full; activations are kept in a temporary folder" in caplog.text
    assert str(caught.value).startswith(f"{tmp_path / 'tmp'}/")
    assert str(caught.value).endswith(": the disk is full")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert caught.value.hint == "name another folder with --cache DIR, or use --no-cache"
    assert leftovers(settings.cache_dir) == []


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
            self.stream.write(b"half a row")
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
