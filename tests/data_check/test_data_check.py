"""The data check: properties that were planted are found and no others, and copies are told from look-alikes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.stats import norm

from salve_audit.data_check.duplicates import Split
from salve_audit.data_check.properties import PROPERTIES, estimate_quality, measure_properties
from salve_audit.data_check.separation import bound_auroc, measure_auroc
from salve_audit.data_check.stage import DataCheckInputs, check_data, choose_images
from salve_audit.results import DataCheck, DataCue

N = 24


@dataclass(frozen=True)
class Held:
    """A source in memory."""

    files: Mapping[str, bytes]
    resident_bytes: int = 0

    def read(self, key: str) -> bytes:
        return self.files[key]


def draw(rng: np.random.Generator) -> Image.Image:
    """A scene of blocks whose light, colour and detail vary."""
    coarse = Image.fromarray(rng.integers(40, 200, (6, 6, 3), dtype=np.uint8)).resize(
        (48, 48), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse, dtype=float) * rng.uniform(0.8, 1.2) + rng.normal(0, 6, (48, 48, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def treat(image: Image.Image, label: int, rng: np.random.Generator) -> bytes:
    """Class 1 is blurred, 2 a poor JPEG, 3 reddish, 4 has dark corners; 0 is left as it is."""
    if label == 1:
        return encode(image.filter(ImageFilter.GaussianBlur(1.5)))
    if label == 2:
        return encode(image, "JPEG", quality=30)
    pixels = np.asarray(image, dtype=float)
    if label == 3:
        pixels = pixels * (1.25, 0.85, 0.85)
    if label == 4:
        y, x = np.mgrid[-1:1:48j, -1:1:48j]
        pixels = pixels * (1 - 0.35 * (x**2 + y**2))[:, :, None]
    return encode(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))


def check(files: Mapping[str, bytes], labels: np.ndarray, n_fit: int, n_classes: int = 5) -> DataCheck:
    """Acts are small versions of the images: what any network has of near copies is as near."""
    names = list(files)
    acts = np.stack(
        [np.asarray(Image.open(io.BytesIO(file)).convert("L").resize((8, 8))).ravel() for file in files.values()]
    )
    parts = [slice(n_fit), slice(n_fit, None)]
    fit, audit = (Split(names[part], labels[part], acts[part].astype(float)) for part in parts)
    return check_data(DataCheckInputs(Held(files), fit, audit, [f"class {i}" for i in range(n_classes)]))


def test_what_was_planted_is_found_and_an_untreated_class_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(5), 2 * N)
    files = {f"{i}.img": treat(draw(rng), label, rng) for i, label in enumerate(labels.tolist())}
    found = check(files, labels, 5 * N)
    best: dict[str, list[DataCue]] = {}
    for cue in found.cues:
        best.setdefault(cue.class_name, []).append(cue)
    blurred = {cue.property: cue.is_higher for cue in best["class 1"]}
    assert blurred.items() >= {"sharpness": False, "noise": False}.items()  # a blur takes both
    assert {"JPEG", "sharpness"} & {cue.property for cue in best["class 2"]}
    assert best["class 3"][0].property == "red against green"
    assert best["class 3"][0].kind == "colour"
    assert {"dark corners", "border brightness"} <= {cue.property for cue in best["class 4"]}
    assert found.n_classes == 5
    assert found.properties == PROPERTIES
    assert all(cue.low > 0.6 for cue in found.cues)


def test_labels_by_chance_give_nothing_away() -> None:
    rng = np.random.default_rng(1)
    files = {f"{i}.img": encode(draw(rng)) for i in range(120)}
    assert check(files, rng.integers(0, 5, 120), 60).cues == ()


def test_copies_are_found_across_and_within_the_splits_and_look_alikes_are_not() -> None:
    rng = np.random.default_rng(2)
    scenes = [draw(rng) for _ in range(60)]
    files = {f"{i:02}.img": encode(scene) for i, scene in enumerate(scenes)}
    files["again.img"] = files["03.img"]  # of the fit split, and the same file
    files["jpeg.img"] = encode(scenes[4], "JPEG", quality=70)
    files["small.img"] = encode(scenes[40].resize((40, 40), Image.Resampling.BICUBIC))  # of the audit split
    files["other.img"] = encode(scenes[5])
    files["flat.img"] = files["flat too.img"] = encode(Image.new("RGB", (48, 48), (9, 9, 9)))
    labels = np.zeros(len(files), int)
    labels[list(files).index("other.img")] = 1
    found = check(files, labels, 30, 2)
    pairs = {frozenset((pair.path, pair.other_path)): pair for pair in found.pairs}
    assert set(pairs) == {
        frozenset(pair)
        for pair in (("again.img", "03.img"), ("jpeg.img", "04.img"), ("small.img", "40.img"), ("other.img", "05.img"))
    }
    assert found.pairs[0].path == "other.img"  # labels that contradict each other come first
    assert (found.n_audit_in_fit, found.n_within, found.n_conflicts, found.n_compared) == (3, 1, 1, 36)
    assert pairs[frozenset(("again.img", "03.img"))].exact
    assert not pairs[frozenset(("jpeg.img", "04.img"))].exact


@pytest.mark.parametrize("quality", [30, 60, 75, 90, 95])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality: int) -> None:
    content = encode(draw(np.random.default_rng(3)), "JPEG", quality=quality)
    values = dict(zip(PROPERTIES, measure_properties(content, "x").tolist(), strict=True))
    assert abs(values["JPEG quality"] - quality) <= 2
    assert np.isnan(estimate_quality(None))


def test_tiny_and_grey_images_have_properties() -> None:
    for size, mode in (((1, 1), "L"), ((2, 5), "RGB"), ((3, 3), "P"), ((700, 3), "RGBA")):
        values = measure_properties(encode(Image.new(mode, size)), "x")
        assert len(values) == len(PROPERTIES)


def test_intervals_of_the_area_hold() -> None:
    rng = np.random.default_rng(4)
    z, shift, m, n, hits = 1.96, 1.5, 15, 60, 0
    truth = float(norm.cdf(shift / np.sqrt(2)))
    for _ in range(400):
        area = measure_auroc(rng.normal(shift, 1, m), rng.normal(0, 1, n))
        low, high = bound_auroc(area, m, n, z)
        assert 0 <= low <= area <= high <= 1
        hits += low <= truth <= high
    assert hits / 400 > 0.92
    assert bound_auroc(1.0, 15, 60, z)[0] < 1
    assert measure_auroc(np.array([1.0, 2.0]), np.array([0.0, 1.0])) == 0.875


def test_many_classes_are_looked_at_in_part() -> None:
    rows = choose_images(np.repeat(np.arange(1000), 40))
    assert len(rows) == 800
    assert len(choose_images(np.repeat(np.arange(3), 400))) == 180
