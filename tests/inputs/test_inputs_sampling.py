"""``--sample``: about so many images, of every class the same share, and the same ones every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salve_audit.errors import UsageError
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.data.sampling import sample_images, sample_rows

SIZES = {0: 300, 1: 60, 2: 5}


def make_images() -> ImageSet:
    labels = tuple(label for label, n in SIZES.items() for _ in range(n))
    fit, audit = (ImageSplit(tuple(f"{part}/{i}" for i in range(len(labels))), labels) for part in ("train", "val"))
    attributes = {"light": {key: "dim" for split in (fit, audit) for key in split.paths}}
    return ImageSet(Path("data"), ("a", "b", "c"), fit, audit, "train/ to fit, val/ to audit", attributes=attributes)


def test_every_class_has_the_same_share_of_both_parts() -> None:
    sampled = sample_images(make_images(), 146, seed=3)
    for split in (sampled.fit, sampled.audit):
        assert np.bincount(split.labels).tolist() == [60, 12, 1]
        places = [int(path.split("/")[1]) for path in split.paths]
        assert places == sorted(places)
        assert [make_images().fit.labels[place] for place in places] == list(split.labels)
    assert sampled.layout == "train/ to fit, val/ to audit, a stratified sample of 146 of 730 images"
    assert {*sampled.attributes["light"]} == {*sampled.fit.paths, *sampled.audit.paths}
    assert sampled == sample_images(make_images(), 146, seed=3) != sample_images(make_images(), 146, seed=4)
    assert sample_images(make_images(), 730, seed=3) == make_images()


def test_the_mean_over_samples_is_that_of_all() -> None:
    labels = [np.repeat([0, 1], [400, 100])]
    value = np.arange(500.0)
    means = [value[sample_rows(labels, 50, seed)[0]].mean() for seed in range(300)]
    assert np.mean(means) == pytest.approx(value.mean(), abs=4 * np.std(means) / np.sqrt(300))


def test_too_small_a_sample_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"--sample: 5 images are too few for every class in both parts; 6 are the least"
    ):
        sample_images(make_images(), 5, seed=0)
