"""Batches of images, and the choice of device and workers."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from image_files import load_image

from salve_audit.activations.device import choose_device, choose_workers
from salve_audit.activations.images import ImageDataset, LoaderSettings, build_loader
from salve_audit.errors import UsageError
from salve_audit.inputs.model.transform import build_transform


def test_batches_are_in_order_and_name_what_is_unreadable(classifier, imageset, images) -> None:
    (images / imageset.fit.paths[5]).write_bytes(b"")
    loader = build_loader(imageset.reader, imageset.fit.paths[:8], classifier.transform, LoaderSettings(4, workers=0))
    first, second = list(loader)
    transform = build_transform(classifier.transform)
    assert (first.rows, second.rows) == ([0, 1, 2, 3], [4, 6, 7])
    assert (first.skipped, second.skipped) == ([], [(5, "not an image in a known format")])
    for batch in (first, second):
        expected = [transform(load_image(imageset.root / imageset.fit.paths[row])) for row in batch.rows]
        assert torch.equal(batch.images, torch.stack(expected))


def test_a_batch_of_unreadable_images_is_empty(classifier, imageset, images) -> None:
    (images / imageset.fit.paths[0]).unlink()
    loader = build_loader(imageset.reader, imageset.fit.paths[:1], classifier.transform, LoaderSettings(4, workers=0))
    (batch,) = list(loader)
    assert batch.rows == []
    assert batch.skipped == [(0, "cannot be read (No such file or directory)")]
    assert len(batch.images) == 0


def test_the_dataset_can_be_sent_to_a_spawned_worker(classifier, imageset) -> None:
    dataset = ImageDataset(imageset.reader, imageset.fit.paths, classifier.transform)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[3].image, dataset[3].image)


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UsageError) as caught:
        choose_device("cuda")
    assert str(caught.value) == "device: cuda was asked for, but torch finds no CUDA device"
    assert caught.value.hint == "--device cpu"


@pytest.mark.parametrize(
    ("n_requested", "n_cores", "device", "expected"),
    [
        (None, 2, "cpu", 0),
        (None, 1, "cpu", 0),
        (None, 16, "cpu", 7),
        (None, 64, "cpu", 8),
        (None, 2, "cuda", 2),
        (None, 64, "cuda", 8),
        (0, 16, "cuda", 0),
        (1, 2, "cpu", 1),
        (12, 64, "cpu", 12),
        (12, 4, "cpu", 4),
    ],
)
def test_workers(n_requested: int | None, n_cores: int, device: str, expected: int, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(n_cores)), raising=False)
    assert choose_workers(n_requested, torch.device(device)) == expected
