"""The one backbone pass: right numbers, one pass only, resumed, and clean on every failure."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from salve_audit.activations import Activations, ExtractSettings, backbone, extract
from salve_audit.activations.cache import EntryWriter
from salve_audit.errors import CheckpointError, DataError, HeadError, OutputError
from salve_audit.inputs import (
    Classifier,
    build_transform,
    load_classifier,
    load_image_folder,
    load_picture,
)

MODELS = Path(__file__).resolve().parents[1] / "models"


@pytest.fixture
def settings(tmp_path: Path) -> ExtractSettings:
    return ExtractSettings(batch_size=7, workers=0, cache_dir=tmp_path / "cache")


@pytest.fixture
def forbid_pass(monkeypatch: pytest.MonkeyPatch):
    """After it is called, any backbone pass fails the test."""

    def forbid() -> None:
        monkeypatch.setattr("salve_audit.activations.extraction.run_pass", lambda *_: pytest.fail("a second pass"))

    return forbid


def activations_by_hand(classifier: Classifier, root: Path, paths: tuple[str, ...]) -> np.ndarray:
    """One picture at a time through the tiny network, written out."""
    transform, net = build_transform(classifier.transform), classifier.model
    rows = []
    for path in paths:
        x = transform(load_picture(root / path))[None]
        x = torch.relu(nn.functional.batch_norm(net.conv(x), net.norm.running_mean, net.norm.running_var))
        rows.append(x.mean((2, 3))[0].numpy())
    return np.stack(rows)


def same(one: Activations, other: Activations) -> bool:
    return np.array_equal(one.fit.acts, other.fit.acts) and np.array_equal(one.audit.acts, other.audit.acts)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir()) if folder.exists() else []


def test_activations_are_the_heads_inputs(classifier, imageset, settings) -> None:
    found = extract(classifier, imageset, settings)
    for split, source in ((found.fit, imageset.fit), (found.audit, imageset.audit)):
        expected = activations_by_hand(classifier, imageset.root, source.paths)
        assert split.acts.dtype == np.float32
        np.testing.assert_allclose(split.acts, expected, rtol=1e-5, atol=1e-6)
        assert split.labels.tolist() == list(source.labels)
        assert split.labels.dtype == np.int64
        assert split.paths == source.paths
    assert isinstance(found.fit.acts.base, np.memmap)
    assert (found.head.module, found.head.d, found.head.n_classes) == ("head", 5, 3)
    assert 0 <= found.head_error < 1e-6
    assert found.skipped == ()
    assert not found.from_cache


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(workers: int, classifier, imageset, settings, tmp_path) -> None:
    other = dataclasses.replace(settings, workers=workers, cache_dir=tmp_path / "other")
    assert same(extract(classifier, imageset, settings), extract(classifier, imageset, other))
    assert multiprocessing.active_children() == []


def test_a_second_audit_does_no_pass(classifier, imageset, settings, forbid_pass) -> None:
    first = extract(classifier, imageset, settings)
    forbid_pass()
    second = extract(classifier, imageset, dataclasses.replace(settings, batch_size=3))
    assert second.from_cache
    assert same(first, second)
    assert (second.key, second.data_sha256, second.head_error) == (first.key, first.data_sha256, first.head_error)
    assert leftovers(settings.cache_dir) == [""]


def test_the_classifier_is_left_as_it_was(classifier, imageset, settings) -> None:
    before = {key: (value.clone(), value.stride()) for key, value in classifier.model.state_dict().items()}
    extract(classifier, imageset, settings)
    for key, value in classifier.model.state_dict().items():
        assert torch.equal(value, before[key][0])
        assert value.stride() == before[key][1]
    assert not classifier.head._forward_pre_hooks
    assert not classifier.head._forward_hooks


def test_without_a_cache_nothing_stays_on_disk(classifier, imageset, settings, tmp_path, monkeypatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    found = extract(classifier, imageset, dataclasses.replace(settings, cache_dir=None))
    assert list(temporary.iterdir()) == []
    np.testing.assert_allclose(
        found.audit.acts, activations_by_hand(classifier, imageset.root, imageset.audit.paths), rtol=1e-5, atol=1e-6
    )


def test_bf16_is_close_and_kept_apart(classifier, imageset, settings) -> None:
    exact = extract(classifier, imageset, settings)
    rough = extract(classifier, imageset, dataclasses.replace(settings, precision="bf16"))
    assert exact.key != rough.key
    assert not same(exact, rough)
    np.testing.assert_allclose(rough.fit.acts, exact.fit.acts, rtol=0.05, atol=0.02)
    assert rough.head_error < 1e-6  # the proof is in fp32 all the same


# unreadable pictures


def damage(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).write_bytes((root / path).read_bytes()[:200])


def test_unreadable_pictures_are_named_and_skipped(classifier, pictures, imageset, settings, forbid_pass) -> None:
    whole = extract(classifier, imageset, settings)
    damage(pictures, "train/bee/03.png", "val/cow/07.png")  # 1 of 36 and 1 of 24: within 5 %
    found = extract(classifier, imageset, settings)
    assert [skipped.path for skipped in found.skipped] == ["train/bee/03.png", "val/cow/07.png"]
    assert all(skipped.reason.startswith("damaged (") for skipped in found.skipped)
    assert found.fit.paths == tuple(path for path in imageset.fit.paths if path != "train/bee/03.png")
    assert np.array_equal(found.audit.labels, whole.audit.labels[:-1])
    np.testing.assert_allclose(found.fit.acts, np.delete(whole.fit.acts, 12 + 3, axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.audit.acts, whole.audit.acts[:-1], rtol=1e-5, atol=1e-6)
    forbid_pass()
    again = extract(classifier, imageset, settings)
    assert again.from_cache
    assert again.skipped == found.skipped
    assert same(again, found)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_too_many_unreadable_pictures(batch_size: int, classifier, pictures, imageset, settings) -> None:
    damage(pictures, "val/ant/01.png", "val/cow/07.png")  # 2 of 24
    with pytest.raises(DataError) as caught:
        extract(classifier, imageset, dataclasses.replace(settings, batch_size=batch_size))
    text = str(caught.value)
    assert text.startswith(
        f"{imageset.root}: over 5% of the 24 pictures to audit cannot be read, the first is val/ant/01.png: damaged ("
    )
    assert caught.value.hint == "repair or remove them"
    assert leftovers(settings.cache_dir) == []


def test_no_picture_can_be_read(classifier, pictures, imageset, settings) -> None:
    for path in imageset.fit.paths + imageset.audit.paths:
        (pictures / path).write_bytes(b"")
    with pytest.raises(DataError, match=r"the first is train/ant/00\.png: not a picture in a known format$"):
        extract(classifier, imageset, settings)
    assert leftovers(settings.cache_dir) == []


def test_a_class_with_no_readable_picture_left(classifier, pictures, settings) -> None:
    for index in range(1, 8):
        (pictures / "val" / "cow" / f"{index:02}.png").rename(pictures / "val" / "ant" / f"9{index}.png")
    damage(pictures, "val/cow/00.png")  # 1 of 24, but the only cow
    imageset = load_image_folder(pictures, seed=0)
    with pytest.raises(DataError) as caught:
        extract(classifier, imageset, settings)
    assert str(caught.value) == f"{imageset.root}: no picture to audit of the class 'cow' can be read"
    assert leftovers(settings.cache_dir) == []


# networks that fail


class Rooted(nn.Module):
    """The tiny network behind a square root: NaN for pictures that are dark in the first corner."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x + torch.sqrt(x[:, :1, :1, :1]) * 0)


class Picky(Rooted):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) != 7:
            raise RuntimeError("not seven pictures\nand a page of advice")
        return self.inner(x)


def test_nan_activations_name_the_picture(classifier, imageset, settings) -> None:
    broken = dataclasses.replace(classifier, model=Rooted(classifier.model).eval(), head_name="inner.head")
    transform = build_transform(classifier.transform)
    dark = next(p for p in imageset.fit.paths if transform(load_picture(imageset.root / p))[0, 0, 0] < 0)
    with pytest.raises(CheckpointError) as caught:
        extract(broken, imageset, settings)
    assert str(caught.value) == f"{classifier.path}: the network gives NaN activations for {dark}"
    assert leftovers(settings.cache_dir) == []


def test_a_failing_forward_pass_is_one_line(classifier, imageset, settings) -> None:
    broken = dataclasses.replace(classifier, model=Picky(classifier.model).eval(), head_name="inner.head")
    with pytest.raises(CheckpointError) as caught:  # 60 pictures: eight batches of seven, then one of four
        extract(broken, imageset, settings)
    assert str(caught.value) == (
        f"{classifier.path}: a forward pass of 4 x 3 x 16 x 16 failed (RuntimeError: not seven pictures)"
    )
    assert leftovers(settings.cache_dir) == []


def test_a_head_that_is_none(classifier, imageset, settings) -> None:
    model = nn.Sequential(classifier.model, nn.Linear(3, 3)).eval()
    wrong = dataclasses.replace(classifier, model=model, head_name="0.head")
    with pytest.raises(HeadError, match=r"its layer '0.head' \(5 -> 3\) does not make the logits"):
        extract(wrong, imageset, settings)
    assert leftovers(settings.cache_dir) == []


class Dying(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only where workers are forked")
def test_a_decoding_process_that_dies(classifier, imageset, settings, monkeypatch) -> None:
    monkeypatch.setattr("salve_audit.activations.pictures.PictureDataset", lambda *_: Dying())
    with pytest.raises(DataError) as caught:
        extract(classifier, imageset, dataclasses.replace(settings, workers=1))
    text = str(caught.value)
    assert text.startswith(f"{imageset.root}: a process that decodes pictures failed (RuntimeError: DataLoader worker ")
    assert "\n" not in text
    assert caught.value.hint == "try --workers 0"
    assert leftovers(settings.cache_dir) == []


# disks that fail, and interrupts


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
def test_a_full_disk(room: int, classifier, imageset, settings, monkeypatch) -> None:
    original = EntryWriter._claim

    def claim(self):
        progress, stream = original(self)
        return progress, FullDisk(stream, room)

    monkeypatch.setattr(EntryWriter, "_claim", claim)
    with pytest.raises(OutputError) as caught:
        extract(classifier, imageset, settings)
    assert str(caught.value) == f"{settings.cache_dir}: the disk is full"
    assert caught.value.hint == "name another folder with --cache DIR, or use --no-cache"
    assert leftovers(settings.cache_dir) == []


def test_a_cache_that_cannot_be_written(classifier, imageset, settings, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    with pytest.raises(OutputError) as caught:
        extract(classifier, imageset, dataclasses.replace(settings, cache_dir=cache))
    assert str(caught.value) == f"{cache}: cannot be written (Not a directory)"


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
    left, original = [], backbone.build_loader
    monkeypatch.setattr(
        backbone, "build_loader", lambda root, paths, *rest: left.append(len(paths)) or original(root, paths, *rest)
    )
    resumed = extract(classifier, imageset, settings)
    assert left == [60 - 6 * 7]
    assert same(resumed, whole)
    assert resumed.head_error == whole.head_error
    assert not resumed.from_cache
    assert leftovers(settings.cache_dir) == [""]


def test_an_interrupt_without_a_cache_leaves_nothing(classifier, imageset, settings, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "pictures"))
    before = sorted((tmp_path / "pictures").iterdir())
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        extract(classifier, imageset, dataclasses.replace(settings, cache_dir=None))
    assert sorted((tmp_path / "pictures").iterdir()) == before


SLOW = """
import sys, time, torch
from pathlib import Path
sys.path.insert(0, {models!r})
from tiny import Tiny
class Slow(Tiny):
    n_calls = 0
    def forward(self, x):
        time.sleep(0.2)
        Path(__file__).with_name("calls").write_bytes(b"x" * self.n_calls)
        self.n_calls += 1
        return super().forward(x)
def slow(num_classes=3):
    return Slow(num_classes)
slow.input_size = (3, 16, 16)
"""

AUDIT = """
import sys
from pathlib import Path
from salve_audit.activations import ExtractSettings, extract
from salve_audit.inputs import load_classifier, load_image_folder
if __name__ == "__main__":
    model, arch, data, cache = sys.argv[1:]
    classifier, imageset = load_classifier(model, arch), load_image_folder(data, seed=0)
    extract(classifier, imageset, ExtractSettings(batch_size=2, workers=2, cache_dir=Path(cache)))
"""


@pytest.mark.skipif(os.name == "nt", reason="process groups are signalled otherwise there")
def test_ctrl_c_reaches_a_pass_with_workers(classifier, imageset, tmp_path) -> None:
    (tmp_path / "slow.py").write_text(SLOW.format(models=str(MODELS)))
    (tmp_path / "audit.py").write_text(AUDIT)
    cache = tmp_path / "cache"
    arguments = [str(classifier.path), f"{tmp_path / 'slow.py'}:slow", str(imageset.root), str(cache)]
    command, calls = [sys.executable, str(tmp_path / "audit.py"), *arguments], tmp_path / "calls"
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not calls.exists() or calls.stat().st_size < 4:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, "the pass never began"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers alike
        errors = process.communicate(timeout=30)[1]
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1, errors  # the parent's own; the workers are silent
    assert leftovers(cache) == [".partial"]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no worker survives


# real checkpoints


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "d", "least_accuracy"),
    [("resnet18_cifar10_64.pt", 512, 0.75), ("vit_cifar10_32.pt", 192, 0.55), ("resnet20-12fca82f.th", 64, 0.7)],
)
def test_real_checkpoints(name: str, d: int, least_accuracy: float, shared_data: Path, cifar10: Path, settings) -> None:
    arch = f"{MODELS / 'resnet20.py'}:resnet20" if name.endswith(".th") else None
    classifier = load_classifier(shared_data / name, arch)
    imageset = load_image_folder(cifar10, seed=0, limit=8)
    found = extract(classifier, imageset, dataclasses.replace(settings, batch_size=40))
    assert found.fit.acts.shape == found.audit.acts.shape == (80, d)
    assert found.head_error < 1e-5
    transform = build_transform(classifier.transform)
    batch = torch.stack([transform(load_picture(cifar10 / path)) for path in found.audit.paths[:6]])
    with torch.inference_mode():
        logits = classifier.model(batch).numpy()
    np.testing.assert_allclose(
        found.audit.acts[:6] @ found.head.weight.T + found.head.bias, logits, rtol=1e-3, atol=1e-3
    )
    predicted = (found.audit.acts @ found.head.weight.T + found.head.bias).argmax(1)
    assert (predicted == found.audit.labels).mean() >= least_accuracy
