"""Single images: every mode to RGB or grey, and damaged or hostile files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import load_image
from PIL import Image

from salve_audit.errors import DataError
from salve_audit.inputs.data.decoding import decode_image


def message_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_image(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


def huge_png(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size without having the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    return path


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "gif", "jpg"])
def test_formats(ending: str, pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}", lossless=True)
    image = load_image(tmp_path / f"a.{ending}")
    assert (image.mode, image.size) == ("RGB", (16, 12))
    if ending not in ("gif", "jpg"):
        assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_modes(mode: str, n_channels: int, pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(pixels).convert(mode).save(path)
    image = load_image(path, n_channels)
    assert image.mode == {1: "L", 3: "RGB"}[n_channels]
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(image), np.asarray(opened.convert(image.mode)))


def test_a_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert np.asarray(load_image(tmp_path / "a.png")).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(load_image(tmp_path / "a.png", 1)).tolist() == [[0, 1, 128, 255]]
    assert np.asarray(load_image(tmp_path / "a.png", 3))[0, 2].tolist() == [128, 128, 128]


@pytest.mark.parametrize(("dtype", "mode"), [(np.float32, "F"), (np.int32, "I")])
def test_32_bit_pixels_are_refused(dtype: type, mode: str, tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), dtype)).save(tmp_path / "a.tif")
    assert message_of(tmp_path / "a.tif") == f"32-bit pixels (mode {mode}) have no defined range"


def test_turns_images_upright_on_demand(pixels: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png", is_upright=True)), np.rot90(pixels, -1))
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png")), pixels)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(load_image(tmp_path / "a.gif"))[0, 0].tolist() == [255, 0, 0]


def test_a_truncated_image(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).resize((200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    assert message_of(path).startswith("damaged (OSError: image file is truncated (")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"<svg></svg>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_no_image(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert message_of(tmp_path / "a.png") == "not an image in a known format"


def test_a_format_off_the_list_is_not_decoded(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.tga")
    (tmp_path / "a.tga").rename(tmp_path / "a.png")
    assert message_of(tmp_path / "a.png") == "not an image in a known format"


def test_missing(tmp_path: Path) -> None:
    assert message_of(tmp_path / "a.png") == "cannot be read (No such file or directory)"


@pytest.mark.parametrize(
    ("width", "height", "why"),
    [
        (8_000, 7_000, "8000 x 7000 pixels, more than 50 million"),
        (10_000, 10_000, "more than 50 million pixels"),  # Pillow warns
        (60_000, 60_000, "more than 50 million pixels"),  # Pillow refuses
    ],
)
def test_decompression_bombs(width: int, height: int, why: str, tmp_path: Path) -> None:
    assert message_of(huge_png(tmp_path / "a.png", width, height)) == why


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "red").save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").size == (1, 1)


def test_a_line_of_pixels_is_refused(tmp_path: Path) -> None:
    """Enlarged until its short side fits the network it would fill the memory."""
    Image.new("L", (50_000, 1)).save(tmp_path / "a.png")
    assert message_of(tmp_path / "a.png") == "50000 x 1 pixels, a side is over 1000 times the other"


def test_transparent_pixels_keep_the_colour_behind_them(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert np.asarray(load_image(tmp_path / "a.png")).tolist() == [[[10, 20, 30]]]


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path: Path) -> None:
    """Drafted to a quarter, then shown at 64 pixels: within two grey levels of the whole decode on average."""
    y, x = np.mgrid[0:1536, 0:2048]
    smooth = np.stack([x / 8 % 256, y / 6 % 256, 127 + 120 * np.sin(x / 90) * np.cos(y / 70)], 2)
    noise = np.random.default_rng(0).normal(0, 12, smooth.shape)
    Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(tmp_path / "a.jpg", quality=92)
    whole, drafted = load_image(tmp_path / "a.jpg"), load_image(tmp_path / "a.jpg", shown_side=64)
    assert (whole.size, drafted.size) == ((2048, 1536), (512, 384))
    shown = [np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC), np.float64) for image in (whole, drafted)]
    assert np.abs(shown[0] - shown[1]).mean() < 2
    assert load_image(tmp_path / "a.jpg", shown_side=400).size == (2048, 1536)


def test_a_drafted_jpeg_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (1600, 1200)).save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg", shown_side=64, is_upright=True).size == (300, 400)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_pixels(shape: tuple[int, ...], n_channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = decode_image(pixels, "row 1", n_channels)
    assert (image.size, image.mode) == ((6, 4), {1: "L", 3: "RGB"}[n_channels])
    if n_channels == 3 and len(shape) == 3 and shape[2] >= 3:
        assert np.array_equal(np.asarray(image), pixels[:, :, :3])


def test_damaged_exif_does_not_spoil_a_image(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff")
    assert load_image(tmp_path / "a.jpg").size == (16, 12)


def test_a_file_too_large_for_a_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.bmp").open("wb") as stream:
        stream.truncate(3 * 1024**3)  # sparse: takes no disk
    assert message_of(tmp_path / "a.bmp") == "3,072 MiB, more than 256 MiB for one image"
