"""How prepared images are turned back into colours: by a mean and a standard deviation, an inverse, or their range."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import UsageError
from salve_audit.inputs.model.pixel_range import BYTE, Moments, rescale_bytes
from salve_audit.inputs.reasons import summarise_error

FITTED_WITHIN = 0.02  # how far a scale and a shift may be off an inverse
NO_MOMENTS = "inverse=FUNCTION may turn one prepared image into its colours instead"
Inverse = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Shown:
    """How prepared images are turned back into colours: all None, it is found out.

    Attributes:
        mean, std: of the normalisation, one value or one per channel, for colours in 0..1.
        inverse: from a prepared image (c, h, w) to colours in 0..1, or 0..255 where they are whole numbers.
    """

    mean: Sequence[float] | float | None = None
    std: Sequence[float] | float | None = None
    inverse: Inverse | None = None


class Colours(NamedTuple):
    """Scale and shift of each channel, (c,), from prepared values to colours in 0..1.

    Attributes:
        mean, std: a colour is value * std + mean.
        source: what they come from.
        notes: what the reader of a report should know.
    """

    mean: Sequence[float] | np.ndarray
    std: Sequence[float] | np.ndarray
    source: str
    notes: tuple[str, ...] = ()


def find_colours(shown: Shown, first: Float[np.ndarray, "n c h w"], datasets: Sequence[Any]) -> Colours:
    """As the caller says, else by the dataset's own Normalize, else by the range of the values.

    Args:
        shown: what the caller says.
        first: some prepared images.
        datasets: whose transforms are looked through.

    Raises:
        UsageError: mean, std or inverse do not fit the images.
    """
    if shown.inverse is not None:
        mean, std, note = _fit_inverse(shown.inverse, first)
        return Colours(mean, std, "inverse", (note,) if note else ())
    if shown.mean is not None and shown.std is not None:
        return _of_moments(read_moments(shown.mean, shown.std, first.shape[1]), "mean and std")
    if shown.mean is not None or shown.std is not None:
        raise UsageError("mean, std", "give both or none of them")
    return _guess(first, datasets)


def read_moments(mean: Any, std: Any, n_channels: int) -> Moments:
    """Mean and standard deviation per channel for pixels in 0..1; those for 0..255 are divided by 255.

    Raises:
        UsageError: another number of values, or values that no pixels have.
    """
    means, deviations = (_per_channel(value, n_channels).tolist() for value in (mean, std))
    if min(deviations) <= 0:
        raise UsageError("std", "is not above 0")
    if max(*means, *deviations) > BYTE:
        raise UsageError("mean, std", "are for pixels beyond 255", hint=NO_MOMENTS)
    try:
        return rescale_bytes(means, deviations)
    except ValueError as error:
        raise UsageError("mean, std", str(error), hint=NO_MOMENTS) from error


def _of_moments(moments: Moments, source: str) -> Colours:
    notes = [f"mean and std were {moments.note}"] if moments.note else []
    if moments.blue_first:
        notes.append("the mean is that of networks that take blue first; images are shown with red and blue exchanged")
    return Colours(moments.mean, moments.std, source, tuple(notes))


def _per_channel(value: Sequence[float] | float, n_channels: int) -> np.ndarray:
    """(c,) float32 of one value or one per channel.

    Raises:
        UsageError: another number of values.
    """
    values = np.atleast_1d(np.asarray(value, np.float32)).reshape(-1)
    values = np.repeat(values, n_channels) if len(values) == 1 else values
    if len(values) != n_channels or not np.isfinite(values).all():
        raise UsageError("mean, std", f"{len(values)} values for images of {n_channels} channels")
    return values


def _guess(first: Float[np.ndarray, "n c h w"], datasets: Sequence[Any]) -> Colours:
    """Mean and std of the dataset's own Normalize, else of tensors that are in 0..1, else what spans their range."""
    c = first.shape[1]
    normalise = next((step for data in datasets for step in find_normalise(data)), None)
    if normalise is not None:
        with contextlib.suppress(UsageError):  # of values beyond 255, say
            return _of_moments(read_moments(normalise.mean, normalise.std, c), "Normalize of the dataset")
    low, high = first.min((0, 2, 3)), first.max((0, 2, 3))
    if low.min() >= 0 and high.max() <= 1:
        return Colours(np.zeros(c), np.ones(c), "values are in 0..1")
    span = np.maximum(high - low, 1e-6)
    return Colours(-low / span, 1 / span, "the range of the values, since nothing else is known")


def find_normalise(data: Any) -> Iterator[Any]:
    """The normalisations among a dataset's transforms, by what they have: mean and std."""
    for holder in (data, getattr(data, "dataset", None)):
        steps = [getattr(holder, name, None) for name in ("transform", "transforms")]
        for _ in range(4):  # Compose in Compose
            parts = [getattr(step, "transforms", None) or getattr(step, "transform", None) for step in steps]
            inner = [part for found in parts for part in (found if isinstance(found, list) else [found])]
            steps += [part for part in inner if part is not None and not any(part is step for step in steps)]
        yield from (step for step in steps if all(_is_moment(getattr(step, name, None)) for name in ("mean", "std")))


def _is_moment(value: Any) -> bool:
    return isinstance(value, (list, tuple, float, np.ndarray, Tensor)) and np.ndim(value) <= 1


def _fit_inverse(inverse: Inverse, first: Float[np.ndarray, "n c h w"]) -> tuple[np.ndarray, np.ndarray, str]:
    """Scale and shift per channel that do what the inverse does, by least squares over pixels that it does not clip."""
    pixels = np.stack([_invert(inverse, image) for image in first])
    c = first.shape[1]
    mean, std, worst = np.zeros(c, np.float32), np.ones(c, np.float32), 0.0
    for channel in range(c):
        x, y = first[:, channel].ravel().astype(np.float64), pixels[:, channel].ravel().astype(np.float64)
        free = (y > 1 / BYTE) & (y < 1 - 1 / BYTE)
        x, y = (x[free], y[free]) if free.any() else (x, y)
        slope = float(((x - x.mean()) * (y - y.mean())).sum() / max(float(np.square(x - x.mean()).sum()), 1e-12))
        std[channel] = slope if slope > 0 else 1.0
        mean[channel] = y.mean() - std[channel] * x.mean()
        worst = max(worst, float(np.abs(std[channel] * x + mean[channel] - y).max()))
    note = "the inverse is more than a scale and a shift of each channel; images are shown, and evidence is removed, "
    return mean, std, f"{note}with the nearest such" if worst > FITTED_WITHIN else ""


def _invert(inverse: Inverse, image: np.ndarray) -> np.ndarray:
    try:
        shown = inverse(torch.from_numpy(image.copy()))
    except Exception as error:  # the caller's own code
        raise UsageError("inverse", f"fails on an image ({summarise_error(error)})") from error
    pixels = shown.detach().cpu().numpy() if isinstance(shown, Tensor) else np.asarray(shown)
    if pixels.ndim == 3 and pixels.shape == (*image.shape[1:], image.shape[0]) and pixels.shape != image.shape:
        pixels = pixels.transpose(2, 0, 1)
    if pixels.shape != image.shape:
        raise UsageError("inverse", f"returns {pixels.shape} for an image {image.shape}, expected the same shape")
    return pixels / BYTE if pixels.dtype.kind in "iu" else pixels.astype(np.float32)
