"""Shortcuts as practice has them, to be laid over an image of any size: two banks, of which one is kept untouched.

Every kind of `DEVELOPMENT` is in `UNTOUCHED` in another shape, place, colour or strength, and `UNTOUCHED` has two kinds
more. Sizes are shares of the image's side, so that the same bank serves 32 and 260 pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Photo = np.ndarray  # (s, s, 3) float32 in 0..255
Mask = np.ndarray  # (s, s) bool, True where the image was changed
Apply = Callable[[Photo, np.random.Generator], tuple[Photo, Mask]]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Cue:
    """A shortcut.

    Attributes:
        kind: what practice calls it.
        families: kinds of findings that name it rightly, in the words of audit.json.
        apply: lays it over an image; None for what the scene is made with, its background or a companion.
    """

    kind: str
    families: tuple[str, ...]
    apply: Apply | None


def _blend(photo: Photo, box: tuple[int, int], patch: Image.Image, opacity: float = 1.0) -> tuple[Photo, Mask]:
    """The photo with an RGBA patch at (left, top)."""
    layer = Image.new("RGBA", (photo.shape[1], photo.shape[0]))
    layer.paste(patch, box)
    values = np.asarray(layer, np.float32)
    alpha = values[..., 3:] / 255 * opacity
    return photo * (1 - alpha) + values[..., :3] * alpha, alpha[..., 0] > 0


def _at(side: int, share: float, least: int = 2) -> int:
    return max(least, round(side * share))


def _place(side: int, size: tuple[int, int], where: str, rng: np.random.Generator) -> tuple[int, int]:
    """(left, top) of a patch: near a corner, or anywhere in the outer ring, where it rarely hides the object."""
    jitter = rng.uniform(0.01, 0.06, 2) * side
    free = side - size[0], side - size[1]
    if where == "ring":
        along = rng.uniform(0, 1, 2) * free
        axis = int(rng.integers(2))
        along[axis] = jitter[axis] if rng.random() < 0.5 else free[axis] - jitter[axis]
        left, top = along
    else:
        left = jitter[0] if "left" in where else free[0] - jitter[0]
        top = jitter[1] if "upper" in where else free[1] - jitter[1]
    return int(np.clip(left, 0, free[0])), int(np.clip(top, 0, free[1]))


def _label(colour: Colour, ink: Colour, size: tuple[float, float], where: str, upright: bool) -> Apply:
    """A printed label: lines of ink, or upright bars."""

    def apply(photo: Photo, rng: np.random.Generator) -> tuple[Photo, Mask]:
        side = len(photo)
        width, height = _at(side, size[0], 6), _at(side, size[1], 5)
        patch = Image.new("RGBA", (width, height), (*colour, 255))
        draw = ImageDraw.Draw(patch)
        step = max(2, (width if upright else height) // 6)
        for start in range(step, (width if upright else height) - 1, step):
            thick = max(0, int(rng.integers(0, max(1, step // 2) + 1)) - 1)
            if upright:
                draw.rectangle((start, 1, start + thick, height - 2), fill=ink)
            else:
                draw.rectangle((1, start, int(width * rng.uniform(0.5, 0.95)), start + thick), fill=ink)
        return _blend(photo, _place(side, (width, height), where, rng), patch)

    return apply


def _sticker(colour: Colour, size: float, n_corners: int, where: str = "ring") -> Apply:
    """A disc, or a star of `n_corners`, drawn four times as large and reduced."""

    def apply(photo: Photo, rng: np.random.Generator) -> tuple[Photo, Mask]:
        side = len(photo)
        width = _at(side, size * rng.uniform(0.85, 1.15), 6)
        patch = Image.new("RGBA", (4 * width, 4 * width), (*colour, 0))
        draw, centre = ImageDraw.Draw(patch), 2 * width
        if n_corners == 0:
            draw.ellipse((0, 0, 4 * width - 1, 4 * width - 1), fill=(*colour, 255))
        else:
            turn = rng.uniform(0, 2 * np.pi) + np.arange(2 * n_corners) * np.pi / n_corners
            radius = np.where(np.arange(2 * n_corners) % 2, 0.5, 1.0) * centre
            corners = np.stack([centre + radius * np.sin(turn), centre + radius * np.cos(turn)], 1)
            draw.polygon([(float(x), float(y)) for x, y in corners], fill=(*colour, 255))
        patch = patch.resize((width, width), Image.Resampling.BOX)
        return _blend(photo, _place(side, (width, width), where, rng), patch)

    return apply


def _text(words: str, colour: Colour, height: float, opacity: float, where: str, angle: float = 0) -> Apply:
    """Written over the middle, or into a corner."""

    def apply(photo: Photo, rng: np.random.Generator) -> tuple[Photo, Mask]:
        side = len(photo)
        font = ImageFont.load_default(size=_at(side, height, 7))
        box = font.getbbox(words)
        patch = Image.new("RGBA", (int(box[2]) + 2, int(box[3]) + 2), (*colour, 0))
        ImageDraw.Draw(patch).text((1, 1), words, font=font, fill=(*colour, 255))
        patch = patch.rotate(angle, Image.Resampling.BICUBIC, expand=True)
        if where == "middle":
            shift = rng.uniform(-0.08, 0.08, 2) * side
            place = int((side - patch.width) / 2 + shift[0]), int((side - patch.height) / 2 + shift[1])
        else:
            place = _place(side, patch.size, where, rng)
        return _blend(photo, place, patch, opacity)

    return apply


def _ruler(colour: Colour, width: float, edge: str) -> Apply:
    """A measuring rule with ticks along one edge of the image."""

    def apply(photo: Photo, rng: np.random.Generator) -> tuple[Photo, Mask]:
        side = len(photo)
        thick, step = _at(side, width, 4), _at(side, 0.035, 3)
        patch = Image.new("RGBA", (side, thick), (*colour, 255))
        draw = ImageDraw.Draw(patch)
        for number, start in enumerate(range(int(rng.integers(step)), side, step)):
            draw.line((start, 0, start, thick * (2 if number % 5 == 0 else 1) // 3), fill=(20, 20, 20, 255))
        if edge == "left":
            return _blend(photo, (0, 0), patch.rotate(90, expand=True))
        return _blend(photo, (0, side - thick), patch)

    return apply


def _bands(colour: Colour, width: float, edges: tuple[str, ...]) -> Apply:
    def apply(photo: Photo, rng: np.random.Generator) -> tuple[Photo, Mask]:
        side = len(photo)
        thick = _at(side, width * rng.uniform(0.85, 1.15))
        mask = np.zeros((side, side), bool)
        parts = {"upper": np.s_[:thick], "lower": np.s_[-thick:], "left": np.s_[:, :thick], "right": np.s_[:, -thick:]}
        for edge in edges:
            mask[parts[edge]] = True
        changed = photo.copy()
        changed[mask] = np.array(colour) + rng.normal(0, 4, (int(mask.sum()), 3))
        return changed, mask

    return apply


def _shade(centre: tuple[float, float], least: float, power: float) -> Apply:
    """Light that falls off with the distance from `centre`, to `least` of it at the farthest corner."""

    def apply(photo: Photo, rng: np.random.Generator) -> tuple[Photo, Mask]:
        side = len(photo)
        rows, columns = np.mgrid[:side, :side] / (side - 1)
        shift = rng.normal(0, 0.03, 2)
        away = np.hypot(rows - centre[0] - shift[0], columns - centre[1] - shift[1])
        light = (1 - (1 - least) * (away / away.max()) ** power).astype(np.float32)
        return photo * light[..., None], light < 0.8

    return apply


def _texture(pattern: Callable[[np.ndarray], np.ndarray], size: tuple[float, float], opacity: float) -> Apply:
    """A see-through pattern of light and dark; `pattern` turns places (2, h, w) in percent of the side into light."""

    def apply(photo: Photo, rng: np.random.Generator) -> tuple[Photo, Mask]:
        side = len(photo)
        height, width = _at(side, size[0]), _at(side, size[1])
        at = np.indices((height, width)) * 100 / side + rng.integers(100, size=(2, 1, 1))
        top, left = (int(rng.integers(side - length + 1)) for length in (height, width))
        here = np.s_[top : top + height, left : left + width]
        changed, mask = photo.copy(), np.zeros(photo.shape[:2], bool)
        changed[here] = (1 - opacity) * photo[here] + opacity * 255 * pattern(at)[..., None]
        mask[here] = True
        return changed, mask

    return apply


def _everywhere(change: Callable[[Photo, np.random.Generator], Photo]) -> Apply:
    def apply(photo: Photo, rng: np.random.Generator) -> tuple[Photo, Mask]:
        return change(photo, rng), np.ones(photo.shape[:2], bool)

    return apply


def _to_image(photo: Photo) -> Image.Image:
    return Image.fromarray(photo.clip(0, 255).astype(np.uint8))


def _blur(photo: Photo, rng: np.random.Generator) -> Photo:
    radius = max(len(photo) * 0.009, 1.2) * rng.uniform(0.8, 1.2)
    return np.asarray(_to_image(photo).filter(ImageFilter.GaussianBlur(radius)), np.float32)


def _shake(photo: Photo, rng: np.random.Generator) -> Photo:
    """Blur of a camera moved sideways."""
    length = _at(len(photo), 0.035 * rng.uniform(0.8, 1.2), 5)
    padded = np.pad(photo, ((0, 0), (length // 2, length - 1 - length // 2), (0, 0)), "edge")
    sums = np.cumsum(np.pad(padded, ((0, 0), (1, 0), (0, 0))), 1, dtype=np.float64)
    return ((sums[:, length:] - sums[:, :-length]) / length).astype(np.float32)


def _noise(photo: Photo, rng: np.random.Generator) -> Photo:
    return photo + rng.normal(0, 24 * rng.uniform(0.8, 1.2), photo.shape).astype(np.float32)


def _grain(photo: Photo, rng: np.random.Generator) -> Photo:
    """Film grain: of luminance only, over about two pixels."""
    half = -(-len(photo) // 2)
    coarse = rng.normal(0, 20 * rng.uniform(0.8, 1.2), (half, half)).repeat(2, 0).repeat(2, 1)
    return photo + coarse[: len(photo), : len(photo), None].astype(np.float32)


def _jpeg(low: int, high: int) -> Callable[[Photo, np.random.Generator], Photo]:
    def change(photo: Photo, rng: np.random.Generator) -> Photo:
        buffer = io.BytesIO()
        _to_image(photo).save(buffer, "JPEG", quality=int(rng.integers(low, high + 1)))
        return np.asarray(Image.open(buffer), np.float32)

    return change


def _cast(gains: tuple[float, float, float]) -> Callable[[Photo, np.random.Generator], Photo]:
    return lambda photo, rng: photo * np.array(gains, np.float32) ** np.float32(rng.uniform(0.8, 1.2))


def _grey(photo: Photo, rng: np.random.Generator) -> Photo:
    return np.repeat(photo @ np.array([[0.3], [0.59], [0.11]], np.float32), 3, 2)


def _scan_lines(photo: Photo, rng: np.random.Generator) -> Photo:
    """Every fourth row darker, as on a photographed screen."""
    rows = (np.arange(len(photo)) + int(rng.integers(4))) % 4 == 0
    return np.where(rows[:, None, None], photo * np.float32(0.7), photo)


REGION = ("region",)
EDGE = ("border", "region")
SHADE = ("border", "mean field", "brightness", "vignette", "contrast")
SHARPNESS = ("sharpness", "spectrum", "noise", "compression")
COLOUR = ("colour", "saturation", "greyscale", "hue")
ALL_EDGES = ("upper", "lower", "left", "right")

# in the order in which they are laid over an image: what stands in the scene, what is put on it, what a camera adds
DEVELOPMENT: Mapping[str, Cue] = {
    "sky": Cue("background", ("background", "context", "mean field", "colour"), None),
    "coin": Cue("companion", REGION, None),
    "white tag": Cue("tag", REGION, _label((240, 240, 235), (40, 40, 40), (0.18, 0.12), "upper left", False)),
    "orange sticker": Cue("sticker", REGION, _sticker((240, 120, 20), 0.15, 0)),
    "watermark": Cue("watermark", REGION, _text("SAMPLE", (255, 255, 255), 0.14, 0.5, "middle", 20)),
    "ruler": Cue("ruler", EDGE, _ruler((225, 215, 170), 0.085, "lower")),
    "blue sticker": Cue("redundant pair", REGION, _sticker((30, 80, 220), 0.14, 0)),
    "pink tag": Cue("redundant pair", REGION, _label((250, 170, 200), (90, 0, 40), (0.17, 0.11), "lower right", False)),
    "frame": Cue("frame", EDGE, _bands((245, 245, 245), 0.045, ALL_EDGES)),
    "vignette": Cue("vignette", SHADE, _shade((0.5, 0.5), 0.1, 2.2)),
    "warm cast": Cue("colour cast", COLOUR, _everywhere(_cast((1.2, 1.0, 0.7)))),
    "blur": Cue("blur", SHARPNESS, _everywhere(_blur)),
    "noise": Cue("noise", SHARPNESS, _everywhere(_noise)),
    "jpeg": Cue("jpeg", SHARPNESS, _everywhere(_jpeg(9, 14))),
}
UNTOUCHED: Mapping[str, Cue] = {
    "leaves": Cue("background", ("background", "context", "mean field", "colour"), None),
    "ball": Cue("companion", REGION, None),
    "bar code": Cue("tag", REGION, _label((250, 225, 90), (20, 20, 20), (0.2, 0.1), "upper right", True)),
    "green star": Cue("sticker", REGION, _sticker((40, 190, 60), 0.17, 5)),
    "date stamp": Cue("watermark", REGION, _text("11.07.24", (255, 150, 30), 0.085, 0.9, "lower right")),
    "side ruler": Cue("ruler", EDGE, _ruler((250, 250, 250), 0.07, "left")),
    "violet star": Cue("redundant pair", REGION, _sticker((140, 40, 200), 0.16, 4)),
    "cyan tag": Cue("redundant pair", REGION, _label((120, 230, 240), (0, 40, 70), (0.12, 0.16), "lower left", False)),
    "letterbox": Cue("frame", EDGE, _bands((8, 8, 8), 0.075, ("upper", "lower"))),
    "corner shade": Cue("vignette", SHADE, _shade((0.2, 0.2), 0.1, 1.6)),
    "cold cast": Cue("colour cast", COLOUR, _everywhere(_cast((0.78, 0.98, 1.2)))),
    "grey": Cue("greyscale", COLOUR, _everywhere(_grey)),
    "shake": Cue("blur", SHARPNESS, _everywhere(_shake)),
    "grain": Cue("noise", SHARPNESS, _everywhere(_grain)),
    "scan lines": Cue("scan lines", SHARPNESS, _everywhere(_scan_lines)),
    "strong jpeg": Cue("jpeg", SHARPNESS, _everywhere(_jpeg(5, 8))),
}
# for photographs whose object is not cut out
DEVELOPMENT_TEXTURE: Mapping[str, Cue] = {
    "hatching": Cue("texture", REGION, _texture(lambda at: at.sum(0) % 9 < 4.5, (0.31, 0.44), 0.5))
}
UNTOUCHED_TEXTURE: Mapping[str, Cue] = {
    "dots": Cue("texture", REGION, _texture(lambda at: ((at % 10 - 5) ** 2).sum(0) < 10, (0.38, 0.38), 0.5))
}
