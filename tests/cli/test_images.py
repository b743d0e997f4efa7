"""Images of every form, audited through the command line: the same content gives the same activations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file

pytestmark = pytest.mark.slow

QUICK = ("--interventions", "salve", "--no-cache", "--format", "json", "--sae", "paper", "--keep-activations")
QUICK += ("--evidence", "off", "--no-images", "--quiet")
ORIENTATION = 0x0112
UPRIGHT_AGAIN = {  # EXIF orientation -> what a camera that was held so has stored
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def blocks(seed: int, grey: bool = False) -> Image.Image:
    """32 x 32 pixels of few colours, in blocks of 8, so that palettes hold them and JPEG nearly does."""
    colours = np.random.default_rng(seed).integers(0, 255, (4, 4, 1 if grey else 3), dtype=np.uint8)
    pixels = np.broadcast_to(colours.repeat(8, 0).repeat(8, 1), (32, 32, 3))
    return Image.fromarray(np.ascontiguousarray(pixels))


def with_alpha(image: Image.Image) -> Image.Image:
    made = image.convert("RGBA")
    made.putalpha(Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))))
    return made


def as_16_bit(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def turned(image: Image.Image, folder: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.transpose(UPRIGHT_AGAIN[orientation]).save(folder / f"turned{orientation}.png", exif=exif)


def write_forms(folder: Path, seed: int) -> None:
    """One image in every form that keeps its pixels; names begin with ``grey`` where it is the grey one."""
    image, grey = blocks(seed), blocks(seed, grey=True)
    folder.mkdir(parents=True)
    for ending, settings in {"png": {}, "bmp": {}, "tif": {}, "gif": {}, "webp": {"lossless": True}}.items():
        image.save(folder / f"plain.{ending}", **settings)
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    with_alpha(image).save(folder / "alpha.png")
    image.save(folder / "animated.gif", save_all=True, append_images=[blocks(seed + 99)])
    for orientation in UPRIGHT_AGAIN:
        turned(image, folder, orientation)
    grey.save(folder / "grey_rgb.png")
    grey.convert("L").save(folder / "grey_l.png")
    as_16_bit(grey).save(folder / "grey_16.png")
    as_16_bit(grey).save(folder / "grey_16.tif")


def write_lossy(folder: Path) -> None:
    blocks(5).save(folder / "lossy.jpg", quality=95, subsampling=0)
    blocks(5).convert("CMYK").save(folder / "lossy_cmyk.jpg", quality=95)
    blocks(5).save(folder / "lossy_reference.png")
    large = blocks(5).resize((3200, 3200), Image.Resampling.NEAREST)
    large.save(folder / "large.jpg", quality=95)
    large.save(folder / "large_reference.png")


@pytest.fixture
def saved_activations(salve: Callable, colour_model: Path, tmp_path: Path) -> pd.DataFrame:
    """Activations by path, and nothing skipped."""
    for split in ("train", "val"):
        for seed, name in enumerate(("blue", "green", "red")):
            write_forms(tmp_path / "data" / split / name, seed)
    write_lossy(tmp_path / "data" / "val" / "red")
    Image.new("RGB", (1, 1), (200, 50, 40)).save(tmp_path / "data" / "val" / "red" / "pixel.png")
    options = ("--orientation", "upright", "--out", tmp_path / "out")
    done = salve(colour_model, tmp_path / "data", *options, *QUICK)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["data"]["skipped"] == []
    acts = load_file(tmp_path / "out" / "activations.safetensors")["audit_acts"]
    return pd.DataFrame(acts, index=pd.read_parquet(tmp_path / "out" / "samples.parquet").path)


def test_every_form_of_a_image_gives_its_activations(saved_activations: pd.DataFrame) -> None:
    for name in ("blue", "green", "red"):
        for reference, marks in (("plain.png", "plain palette alpha animated turned"), ("grey_rgb.png", "grey_")):
            expected = saved_activations.loc[f"val/{name}/{reference}"]
            same = [
                p
                for p in saved_activations.index
                if p.startswith(tuple(f"val/{name}/{mark}" for mark in marks.split()))
            ]
            assert len(same) == (11 if reference == "plain.png" else 4)
            for path in same:
                np.testing.assert_allclose(saved_activations.loc[path], expected, rtol=1e-5, atol=1e-6, err_msg=path)


def test_lossy_and_large_images_come_near_it_and_one_pixel_is_one(saved_activations: pd.DataFrame) -> None:
    far = np.linalg.norm(
        saved_activations.loc["val/blue/plain.png"] - saved_activations.loc["val/red/lossy_reference.png"]
    )
    pairs = {"lossy.jpg": "lossy", "lossy_cmyk.jpg": "lossy", "large.jpg": "large"}
    for path, reference in pairs.items():
        difference = (
            saved_activations.loc[f"val/red/{path}"] - saved_activations.loc[f"val/red/{reference}_reference.png"]
        )
        assert np.linalg.norm(difference) < 0.3 * far, path
    assert np.isfinite(saved_activations.loc["val/red/pixel.png"]).all()
