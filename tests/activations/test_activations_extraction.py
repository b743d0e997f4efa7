"""The one backbone pass: right numbers, one pass only, and clean where images, networks or workers fail."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from activation_entries import leftovers, same
from image_files import load_image
from torch import nn

from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.errors import CheckpointError, DataError, HeadError
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.transform import build_transform

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
    """One image at a time through the tiny network, written out."""
    transform, net = build_transform(classifier.transform), classifier.model
    rows = []
    for path in paths:
        x = transform(load_image(root / path))[None]
        x = torch.relu(nn.functional.batch_norm(net.conv(x), net.norm.running_mean, net.norm.running_var))
        rows.append(x.mean((2, 3))[0].numpy())
    return np.stack(rows)


def test_activations_are_the_heads_inputs(classifier, imageset, settings) -> None:
    activations = extract(classifier, imageset, settings)
    for split, source in ((activations.fit, imageset.fit), (activations.audit, imageset.audit)):
        expected = activations_by_hand(classifier, imageset.root, source.paths)
        assert split.acts.dtype == np.float32
        np.testing.assert_allclose(split.acts, expected, rtol=1e-5, atol=1e-6)
        assert split.labels.tolist() == list(source.labels)
        assert split.labels.dtype == np.int64
        assert split.paths == source.paths
    assert isinstance(activations.fit.acts.base, np.memmap)
    assert (activations.head.module, activations.head.d, activations.head.n_classes) == ("head", 5, 3)
    assert 0 <= activations.head_error < 1e-6
    assert activations.skipped == ()
    assert not activations.from_cache


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
    activations = extract(classifier, imageset, dataclasses.replace(settings, cache_dir=None))
    assert list(temporary.iterdir()) == []
    np.testing.assert_allclose(
        activations.audit.acts,
        activations_by_hand(classifier, imageset.root, imageset.audit.paths),
        rtol=1e-5,
        atol=1e-6,
    )


def test_bf16_is_close_and_kept_apart(classifier, imageset, settings) -> None:
    exact = extract(classifier, imageset, settings)
    rough = extract(classifier, imageset, dataclasses.replace(settings, precision="bf16"))
    assert exact.key != rough.key
    assert not same(exact, rough)
    np.testing.assert_allclose(rough.fit.acts, exact.fit.acts, rtol=0.05, atol=0.02)
    assert rough.head_error < 1e-6  # the verification is in fp32 all the same


# unreadable images


def damage(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).write_bytes((root / path).read_bytes()[:200])


def test_unreadable_images_are_named_and_skipped(classifier, images, imageset, settings, forbid_pass) -> None:
    whole = extract(classifier, imageset, settings)
    damage(images, "train/bee/03.png", "val/cow/07.png")  # 1 of 36 and 1 of 24: within 5 %
    activations = extract(classifier, imageset, settings)
    assert [skipped.path for skipped in activations.skipped] == ["train/bee/03.png", "val/cow/07.png"]
    assert all(skipped.reason.startswith("damaged (") for skipped in activations.skipped)
    assert activations.fit.paths == tuple(path for path in imageset.fit.paths if path != "train/bee/03.png")
    assert np.array_equal(activations.audit.labels, whole.audit.labels[:-1])
    np.testing.assert_allclose(activations.fit.acts, np.delete(whole.fit.acts, 12 + 3, axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(activations.audit.acts, whole.audit.acts[:-1], rtol=1e-5, atol=1e-6)
    forbid_pass()
    again = extract(classifier, imageset, settings)
    assert again.from_cache
    assert again.skipped == activations.skipped
    assert same(again, activations)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_too_many_unreadable_images(batch_size: int, classifier, images, imageset, settings) -> None:
    damage(images, "val/ant/01.png", "val/cow/07.png")  # 2 of 24
    with pytest.raises(DataError) as caught:
        extract(classifier, imageset, dataclasses.replace(settings, batch_size=batch_size))
    text = str(caught.value)
    assert text.startswith(
        f"{imageset.root}: over 5% of the 24 images to audit cannot be read, the first is val/ant/01.png: damaged ("
    )
    assert caught.value.hint == "repair or remove them"
    assert leftovers(settings.cache_dir) == []


def test_no_image_can_be_read(classifier, images, imageset, settings) -> None:
    for path in imageset.fit.paths + imageset.audit.paths:
        (images / path).write_bytes(b"")
    with pytest.raises(DataError, match=r"the first is train/ant/00\.png: not an image in a known format$"):
        extract(classifier, imageset, settings)
    assert leftovers(settings.cache_dir) == []


def test_a_class_with_no_readable_image_left(classifier, images, settings) -> None:
    for index in range(1, 8):
        (images / "val" / "cow" / f"{index:02}.png").rename(images / "val" / "ant" / f"9{index}.png")
    damage(images, "val/cow/00.png")  # 1 of 24, but the only cow
    imageset = load_images(images, seed=0)
    with pytest.raises(DataError) as caught:
        extract(classifier, imageset, settings)
    assert str(caught.value) == f"{imageset.root}: no image to audit of the class 'cow' can be read"
    assert leftovers(settings.cache_dir) == []


# networks that fail


class Rooted(nn.Module):
    """The tiny network behind a square root: NaN for images that are dark in the first corner."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x + torch.sqrt(x[:, :1, :1, :1]) * 0)


class Picky(Rooted):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) != 7:
            raise RuntimeError("not seven images\nand a page of advice")
        return self.inner(x)


def test_nan_activations_name_the_image(classifier, imageset, settings) -> None:
    broken = dataclasses.replace(classifier, model=Rooted(classifier.model).eval(), head_name="inner.head")
    transform = build_transform(classifier.transform)
    dark = next(p for p in imageset.fit.paths if transform(load_image(imageset.root / p))[0, 0, 0] < 0)
    with pytest.raises(CheckpointError) as caught:
        extract(broken, imageset, settings)
    assert str(caught.value) == f"{classifier.path}: the network gives NaN activations for {dark}"
    assert leftovers(settings.cache_dir) == []


def test_a_failing_forward_pass_is_one_line(classifier, imageset, settings) -> None:
    broken = dataclasses.replace(classifier, model=Picky(classifier.model).eval(), head_name="inner.head")
    with pytest.raises(CheckpointError) as caught:  # 60 images: eight batches of seven, then one of four
        extract(broken, imageset, settings)
    assert str(caught.value) == (
        f"{classifier.path}: a forward pass of 4 x 3 x 16 x 16 failed (RuntimeError: not seven images)"
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
    monkeypatch.setattr("salve_audit.activations.images.ImageDataset", lambda *_: Dying())
    with pytest.raises(DataError) as caught:
        extract(classifier, imageset, dataclasses.replace(settings, workers=1))
    text = str(caught.value)
    assert text.startswith(f"{imageset.root}: a process that decodes images failed (RuntimeError: DataLoader worker ")
    assert "\n" not in text
    assert caught.value.hint == "try --workers 0"
    assert leftovers(settings.cache_dir) == []


# real checkpoints


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "d", "least_accuracy"),
    [("resnet18_cifar10_64.pt", 512, 0.75), ("vit_cifar10_32.pt", 192, 0.55), ("resnet20-12fca82f.th", 64, 0.7)],
)
def test_real_checkpoints(name: str, d: int, least_accuracy: float, shared_data: Path, cifar10: Path, settings) -> None:
    arch = f"{MODELS / 'resnet20.py'}:resnet20" if name.endswith(".th") else None
    classifier = load_classifier(shared_data / name, arch)
    imageset = load_images(cifar10, seed=0, limit=8)
    activations = extract(classifier, imageset, dataclasses.replace(settings, batch_size=40))
    assert activations.fit.acts.shape == activations.audit.acts.shape == (80, d)
    assert activations.head_error < 1e-5
    transform = build_transform(classifier.transform)
    batch = torch.stack([transform(load_image(cifar10 / path)) for path in activations.audit.paths[:6]])
    with torch.inference_mode():
        logits = classifier.model(batch).numpy()
    np.testing.assert_allclose(
        activations.audit.acts[:6] @ activations.head.weight.T + activations.head.bias, logits, rtol=1e-3, atol=1e-3
    )
    predicted = (activations.audit.acts @ activations.head.weight.T + activations.head.bias).argmax(1)
    assert (predicted == activations.audit.labels).mean() >= least_accuracy
