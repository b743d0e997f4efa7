"""Each global factor on images: what it leaves, what it changes, and that it brings what it measures to the target."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from salve_audit.evidence.factors.bank import FACTORS
from salve_audit.evidence.factors.blur import LENGTH, blur
from salve_audit.evidence.factors.border import SIDES, THIN, WIDE, paste, reflect, strip_width
from salve_audit.evidence.factors.compression import compress
from salve_audit.evidence.factors.mean_field import mean_field
from salve_audit.evidence.factors.noise import MOST_SCALES
from salve_audit.evidence.factors.record import Factor, Shift, change_prepared, to_luminance, undo_preparation
from salve_audit.evidence.factors.spectrum import radial_spectrum
from salve_audit.evidence.regions import choose_grid
from salve_audit.results import TransformSpec

SIZES = ((3, 32, 32), (3, 20, 48), (1, 28, 28), (3, 3, 5), (4, 9, 9))
NOTHING = Shift(torch.zeros(1, 0), torch.zeros(1, 0))


def smooth(n: int, size: tuple[int, ...], seed: int = 0) -> Tensor:
    """Images that vary slowly, between 0 and 1."""
    coarse = torch.rand(n, size[0], 6, 6, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size[1:], mode="bicubic", align_corners=False).clamp(0, 1)


@pytest.mark.parametrize("factor", FACTORS.values(), ids=lambda factor: factor.name)
@pytest.mark.parametrize("size", SIZES)
def test_every_factor_keeps_shape_and_stays_finite(factor: Factor, size: tuple[int, ...]) -> None:
    if factor.given or (factor.coloured and size[0] != 3):
        return
    images = torch.rand(4, *size, generator=torch.Generator().manual_seed(0))
    values = factor.statistics(images)
    if factor.given:
        values = torch.rand(
            4, math.prod(choose_grid(size[1], size[2])), generator=torch.Generator().manual_seed(1)
        ).round()
    shift = Shift(values, values.flip(0), images.flip(0))
    assert 0 < factor.area <= 1
    for change in filter(None, (factor.remove, factor.insert)):
        for start in (images, torch.full_like(images, 0.5)):
            changed = change(start, shift)
            assert changed.shape == images.shape
            assert torch.isfinite(changed).all()


@pytest.mark.parametrize("name", ["colour", "saturation"])
def test_images_are_brought_to_the_target(name: str) -> None:
    factor, images = FACTORS[name], smooth(4, (3, 64, 64))
    images = (images + 0.02 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    values = factor.statistics(images)
    for own, wanted in zip(images, values.flip(0), strict=True):
        target = wanted[None]
        shift = Shift(factor.statistics(own[None]), target)
        before = (factor.statistics(own[None]) - target).abs().mean()
        after = (factor.statistics(factor.remove(own[None], shift)) - target).abs().mean()
        assert after < 0.5 * before


def test_names_and_kinds_are_those_of_records() -> None:
    assert all(name == factor.name for name, factor in FACTORS.items())
    assert all(factor.remove or factor.insert for factor in FACTORS.values())
    kinds = {"fixed place", "border", "colour", "mean field", "sharpness", "noise", "compression"}
    assert kinds == {f.kind for f in FACTORS.values()}
    assert {f.kind for f in FACTORS.values()} <= set(FACTORS)  # a kind is the name of its first factor


@pytest.mark.parametrize("side", SIDES)
def test_strips_of_one_side_are_the_mirror_image_of_what_is_inside(side: str) -> None:
    images = torch.arange(32.0 * 32).view(1, 1, 32, 32)
    changed = reflect(images, NOTHING, (side,), WIDE)
    turned = {"upper": 0, "lower": 2, "left": 1, "right": 3}[side]  # quarter turns that bring the side to the top
    before, after = (torch.rot90(version, -turned, (2, 3)) for version in (images, changed))
    assert torch.equal(after[:, :, 4:], before[:, :, 4:])
    assert torch.equal(after[:, :, :4], before[:, :, 4:8].flip(2))


def test_strips_are_at_least_two_pixels_and_leave_the_middle() -> None:
    assert [strip_width(length, THIN) for length in (224, 32, 20, 6, 3)] == [14, 2, 2, 2, 1]
    assert strip_width(224, WIDE) == 28
    images = torch.rand(1, 3, 224, 224)
    changed = (reflect(images, NOTHING, SIDES, THIN) != images).any(1)[0]
    assert changed.float().mean() == pytest.approx(FACTORS["border"].area, abs=0.01)
    assert not changed[14:-14, 14:-14].any()


def test_strips_of_donors_are_pasted() -> None:
    images, donors = torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32)
    shift = dataclasses.replace(NOTHING, donors=donors)
    assert paste(images, shift, SIDES, WIDE)[:, :, 4:-4, 4:-4].sum() == 0
    assert paste(images, shift, SIDES, WIDE).mean() == 1 - 0.75**2
    lower = paste(images, shift, ("lower",), WIDE)
    assert (lower[:, :, -4:] == 1).all()
    assert lower.mean() == 1 / 8


def test_blurred_images_become_sharp_and_sharp_ones_blurred() -> None:
    sharp = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sharp = functional.avg_pool2d(sharp, 3, 1, 1)
    blurred = functional.avg_pool2d(sharp, 5, 1, 2)
    factor = FACTORS["sharpness"]
    usual, soft = (radial_spectrum(images).mean(0, keepdim=True).expand(6, -1) for images in (sharp, blurred))
    restored = factor.remove(blurred, Shift(soft, usual))
    softened = factor.remove(sharp, Shift(usual, soft))
    inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    assert (softened - blurred)[inside].std() < 0.5 * (sharp - blurred)[inside].std()
    assert (radial_spectrum(restored).mean(0) - usual[0])[2:8].abs().mean() < 0.2
    assert restored.mean().item() == pytest.approx(blurred.mean().item(), abs=1e-4)


def test_noise_is_taken_away_and_added() -> None:
    clean = smooth(6, (3, 64, 64))
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    factor = FACTORS["noise"]
    own, usual = (factor.statistics(images).mean(0, keepdim=True).expand(6, -1) for images in (noisy, clean))
    inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    assert (factor.remove(noisy, Shift(own, usual)) - clean)[inside].std() < 0.5 * (noisy - clean)[inside].std()
    assert factor.insert is not None
    added = factor.insert(clean, Shift(usual, own)) - clean
    assert 0.07 < added[inside].std() < 0.13
    assert (added[:, 0] - added[:, 1]).std() > 0.07, "of each channel its own"


def test_dark_corners_are_taken_away_by_the_mean_field() -> None:
    images, (rows, columns) = smooth(20, (3, 32, 32)), torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 2, indexing="ij")
    shaded = images * (1 - 0.4 * (rows**2 + columns**2))
    own, usual = (mean_field(version).mean(0, keepdim=True).expand(20, -1) for version in (shaded, images))
    lit = FACTORS["mean field"].remove(shaded, Shift(own, usual))
    assert (mean_field(lit).mean(0) - usual[0]).abs().max() < 0.05 < (own[0] - usual[0]).abs().max()


def test_compression_makes_blocks() -> None:
    images = smooth(2, (3, 64, 64))

    def blocks(version: Tensor) -> Tensor:
        steps = (to_luminance(version)[..., 1:] - to_luminance(version)[..., :-1]).abs().mean((0, 1, 2))
        return steps[7::8].mean() / steps.mean()

    pressed = compress(images, NOTHING, 10)
    assert blocks(pressed) > 1.2 > blocks(images)
    assert (pressed - images).abs().mean() < 0.1
    assert compress(images[:, :1], NOTHING, 90).shape == (2, 1, 64, 64)


def test_images_are_changed_as_pixels_and_prepared_again() -> None:
    spec = TransformSpec((3, 32, 32), (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), "bilinear", 1.0, "test")
    prepared = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(change_prepared(prepared, spec, lambda pixels, _: pixels, NOTHING), prepared)
    grey = undo_preparation(change_prepared(prepared, spec, FACTORS["hue"].remove, NOTHING), spec)
    torch.testing.assert_close(grey, to_luminance(undo_preparation(prepared, spec)).expand(-1, 3, -1, -1))


def test_noise_of_a_class_is_removed_and_what_all_have_stays() -> None:
    factor, clean = FACTORS["noise"], smooth(6, (3, 64, 64))
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    quiet, loud = (factor.statistics(images).mean(0, keepdim=True).expand(6, -1) for images in (clean, noisy))
    assert (factor.remove(noisy, Shift(loud, quiet)) - clean).std() < 0.6 * (noisy - clean).std()
    assert torch.equal(factor.remove(noisy, Shift(loud, loud)), noisy)
    assert torch.equal(factor.remove(clean, Shift(quiet, loud)), clean)


@pytest.mark.parametrize("size", SIZES)
def test_noise_is_removed_at_every_size(size: tuple[int, ...]) -> None:
    factor, images = FACTORS["noise"], torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    loud = factor.statistics(images)
    quiet = loud.clone()
    quiet[:, -MOST_SCALES:] = 0
    removed = factor.remove(images, Shift(loud, quiet))
    assert removed.shape == images.shape
    assert removed.isfinite().all()
    assert min(size[1:]) < 2 or not torch.equal(removed, images)


def test_a_row_of_pixels_has_no_noise() -> None:
    assert not FACTORS["noise"].statistics(torch.rand(2, 3, 1, 9))[:, -MOST_SCALES:].any()


def test_grain_of_two_pixels_is_removed_as_well() -> None:
    factor, clean = FACTORS["noise"], smooth(6, (3, 64, 64))
    grain = 0.1 * torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    grainy = clean + grain.repeat_interleave(2, 2).repeat_interleave(2, 3)
    quiet, loud = (factor.statistics(images).mean(0, keepdim=True).expand(6, -1) for images in (clean, grainy))
    assert (factor.remove(grainy, Shift(loud, quiet)) - clean).std() < 0.7 * (grainy - clean).std()


def test_a_channel_that_is_constant_is_not_scaled_without_end() -> None:
    factor, images = FACTORS["colour"], smooth(2, (3, 16, 16))
    flat = images.clone()
    flat[:, 1] = 0.5
    own, others = (factor.statistics(part).mean(0, keepdim=True).expand(2, -1) for part in (flat, images))
    assert factor.remove(images, Shift(own, others)).abs().max() < 10


def test_blur_is_the_mean_around_each_pixel() -> None:
    images = torch.rand(2, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    reach = round(60 / LENGTH / 2)
    steps = range(-reach, reach + 1)
    around = torch.stack([images.roll((down, along), (2, 3)) for down in steps for along in steps]).mean(0)
    inside = (..., slice(reach, -reach), slice(reach, -reach))
    torch.testing.assert_close(blur(images, NOTHING)[inside], around[inside], rtol=1e-5, atol=1e-6)
    assert torch.equal(blur(torch.ones(1, 1, 7, 5), NOTHING), torch.ones(1, 1, 7, 5))
