"""Thumbnails and overlays: what goes in comes out, nothing else does, and the map can be read without colour."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional

from salve_audit.results import Thumbnail
from salve_audit.saliency.heat import LUMA, colour, find_hottest, overlay, share_in_hottest
from salve_audit.saliency.thumbnails import encode_image, fit_side, resize_heat, resize_pixels, to_display_pixels

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def decoded(image: Thumbnail) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(image.jpeg, validate=True)))


def photo(size: int = 40, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, size=(5, 5, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("n_channels", [1, 3])
def test_normalisation_is_undone(n_channels: int) -> None:
    original = np.random.default_rng(0).integers(0, 256, size=(2, 6, 4, n_channels)).astype(np.uint8)
    mean, std = MEAN[:n_channels], STD[:n_channels]
    prepared = [functional.normalize(functional.to_tensor(image), mean, std).numpy() for image in original]
    back = to_display_pixels(np.stack(prepared), mean, std)
    assert back.shape == (2, 6, 4, 3)
    np.testing.assert_array_equal(back, np.broadcast_to(original, back.shape))


def test_colours_beyond_the_range_are_cut() -> None:
    images = np.array([-9.0, 9.0, np.nan], np.float32).reshape(1, 1, 1, 3)
    assert to_display_pixels(images, (0.5,), (0.5,))[0, 0, :, 0].tolist() == [0, 255, 0]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(32, 32, (96, 96)), (224, 112, (96, 48)), (100, 400, (24, 96)), (1, 900, (1, 96))],
)
def test_the_longer_side_is_96(height: int, width: int, expected: tuple) -> None:
    assert fit_side(height, width) == expected


def test_a_thumbnail_is_a_plain_rgb_jpeg_of_its_pixels() -> None:
    pixels = photo(112)
    image = encode_image(pixels)
    assert encode_image(pixels) == image
    opened = decoded(image)
    assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (image.width, image.height))
    assert not opened.getexif()
    assert not {"exif", "icc_profile", "comment", "xmp", "photoshop"} & set(opened.info)
    assert np.abs(np.asarray(opened).astype(int) - pixels).mean() < 6
    assert len(image.jpeg) < 6000


def test_resizing_a_map_invents_no_heat() -> None:
    heat = np.random.default_rng(0).random((4, 7)).astype(np.float32)
    large = resize_heat(heat, (60, 112))
    assert large.shape == (60, 112)
    assert large.min() >= heat.min() - 1e-6
    assert large.max() <= heat.max() + 1e-6
    # a cell's centre keeps the place it had: map and image coincide
    hot = np.zeros((4, 4), np.float32)
    hot[1, 2] = 1
    row, column = np.unravel_index(resize_heat(hot, (112, 112)).argmax(), (112, 112))
    assert abs(row - 1.5 * 28) <= 1
    assert abs(column - 2.5 * 28) <= 1


def test_lightness_rises_with_heat_so_that_grey_print_keeps_the_map() -> None:
    light = colour(np.linspace(0, 1, 256)) @ LUMA
    assert (np.diff(light) > 0).all()
    ramp = np.tile(np.linspace(0, 1, 112, dtype=np.float32), (112, 1))
    inside = slice(0, 80)  # left of the outline
    for grey in (0, 90, 255):
        painted = overlay(np.full((112, 112, 3), grey, np.uint8), ramp) @ LUMA
        assert (np.diff(painted[50, inside]) > -1e-3).all()
    hot = overlay(np.zeros((112, 112, 3), np.uint8), ramp)[50, -1] @ LUMA
    cold = overlay(np.full((112, 112, 3), 255, np.uint8), ramp)[50, 0] @ LUMA
    assert hot > cold, "heat on black is lighter than no heat on white"


def test_the_hottest_fifth_is_a_fifth_and_outlined() -> None:
    heat = resize_heat(np.random.default_rng(1).random((5, 5)), (112, 112))
    hottest = find_hottest(heat)
    assert hottest.mean() == pytest.approx(0.2, abs=1e-3)
    assert heat[hottest].min() >= heat[~hottest].max()
    painted = overlay(photo(112), heat)
    edges = hottest[:, 1:] != hottest[:, :-1]
    left, right = painted[:, :-1][edges].astype(int), painted[:, 1:][edges].astype(int)
    assert {tuple(sorted(pair)) for pair in zip(left[:, 0], right[:, 0], strict=True)} == {(20, 255)}


def test_share_in_the_hottest_fifth() -> None:
    assert share_in_hottest(np.zeros((8, 8), np.float32)) is None
    assert share_in_hottest(np.full((8, 8), 3.0, np.float32)) is None
    point = np.zeros((10, 10), np.float32)
    point[3, 3] = 5
    assert share_in_hottest(point) == 1
    ramp = np.arange(100, dtype=np.float32).reshape(10, 10)
    assert share_in_hottest(ramp) == pytest.approx(ramp.ravel()[80:].sum() / ramp.sum())
    assert share_in_hottest(7 * ramp + 2) == pytest.approx(share_in_hottest(ramp)), "scale and offset do not matter"


def test_a_flat_map_has_no_outline() -> None:
    painted = overlay(np.full((20, 20, 3), 128, np.uint8), np.ones((20, 20), np.float32))
    assert (painted == painted[0, 0]).all()


def test_a_image_is_enlarged_smoothly() -> None:
    small = photo(8)
    large = resize_pixels(small, (112, 112))
    assert large.shape == (112, 112, 3)
    steps = np.abs(np.diff(large.astype(int), axis=0)).max()
    assert steps < np.abs(np.diff(small.astype(int), axis=0)).max() / 2
