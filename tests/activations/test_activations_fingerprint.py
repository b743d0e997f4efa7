"""The key: everything that changes an activation changes it, nothing else does."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from salve_audit.activations import fingerprint as module
from salve_audit.activations.fingerprint import compute_fingerprint, hash_images
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.imageset import ImageSplit
from salve_audit.inputs.data.sources.source import FolderSource


def change(record, **values):
    return dataclasses.replace(record, **values)


def other_transform(classifier):
    return change(classifier, transform=change(classifier.transform, crop_pct=0.5))


def other_weights(classifier):
    classifier.model.conv.weight.data[0, 0, 0, 0] += 1e-6
    return classifier


def other_buffer(classifier):
    classifier.model.norm.running_mean[1] += 1
    return classifier


@pytest.mark.parametrize(
    "alter",
    [
        other_weights,
        other_buffer,
        other_transform,
        lambda classifier: change(classifier, head_name="other"),
        lambda classifier: change(classifier, build_key="other"),
    ],
)
def test_the_classifier_changes_the_key_but_not_the_data(alter, classifier, imageset) -> None:
    before = compute_fingerprint(classifier, imageset, "fp32")
    after = compute_fingerprint(alter(classifier), imageset, "fp32")
    assert after.key != before.key
    assert after.data_sha256 == before.data_sha256


def test_the_precision_and_the_code_version_change_the_key(classifier, imageset, monkeypatch) -> None:
    keys = {compute_fingerprint(classifier, imageset, precision).key for precision in ("fp32", "bf16")}
    monkeypatch.setattr(module, "CODE_VERSION", -1)
    keys.add(compute_fingerprint(classifier, imageset, "fp32").key)
    assert len(keys) == 3


def test_where_the_checkpoint_lies_and_what_the_source_is_called_do_not(classifier, imageset) -> None:
    other = change(
        classifier, path=Path("x.pt"), sha256="0", notes=("x",), transform=change(classifier.transform, source="x")
    )
    assert compute_fingerprint(classifier, imageset, "fp32") == compute_fingerprint(other, imageset, "fp32")


def test_the_images_change_both(classifier, imageset, images) -> None:
    prints = [compute_fingerprint(classifier, imageset, "fp32")]
    prints.append(compute_fingerprint(classifier, load_images(images, seed=0, limit=5), "fp32"))
    relabelled = ImageSplit(imageset.fit.paths, (1, *imageset.fit.labels[1:]))
    prints.append(compute_fingerprint(classifier, change(imageset, fit=relabelled), "fp32"))
    swapped = change(imageset, fit=imageset.audit, audit=imageset.fit)
    prints.append(compute_fingerprint(classifier, swapped, "fp32"))
    file = images / imageset.audit.paths[-1]
    content, times = bytearray(file.read_bytes()), file.stat()
    content[-20] ^= 1
    file.write_bytes(content)
    import os

    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # same size, same time: only the contents tell
    prints.append(compute_fingerprint(classifier, imageset, "fp32"))
    assert len({fingerprint.key for fingerprint in prints}) == 5
    assert len({fingerprint.data_sha256 for fingerprint in prints}) == 5


def test_a_new_name_changes_the_key_alone(classifier, imageset, images) -> None:
    before = compute_fingerprint(classifier, imageset, "fp32")
    (images / "val/cow/07.png").rename(images / "val/cow/08.png")
    after = compute_fingerprint(classifier, load_images(images, seed=0), "fp32")
    assert after.key != before.key
    assert after.data_sha256 == before.data_sha256


@pytest.mark.parametrize("per_task", [1, 4, 1000])
def test_hashes_are_sha256_in_order(per_task: int, imageset, monkeypatch) -> None:
    monkeypatch.setattr(module, "FILES_PER_TASK", per_task)
    expected = [hashlib.sha256((imageset.root / path).read_bytes()).hexdigest() for path in imageset.fit.paths]
    assert hash_images(imageset.reader, imageset.fit.paths) == expected


def test_a_file_that_cannot_be_read_has_the_reason_for_a_hash(tmp_path: Path) -> None:
    assert hash_images(FolderSource(tmp_path), ["none.png"]) == ["unreadable: No such file or directory"]
