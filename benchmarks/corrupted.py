"""Images at six levels of four corruptions, and how many levels each image survives.

Gaussian noise (one pattern per image, standard deviation .02 to .4), Gaussian blur (standard deviation .4 to 4 pixels
of a side of 64), contrast (deviations from the image's mean times .7 to .05), JPEG (quality 60 to 4); of pixels in 0..1
at the network's size.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from robustness import Pixels
from torch import Tensor, nn
from torch.nn import functional

from salve_audit.activations.images import LoaderSettings, load_batch
from salve_audit.evidence.factors.record import undo_preparation
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.labels.matching import match_classes
from salve_audit.inputs.model.classifier import Classifier

N_LEVELS, BATCH = 6, 100
LEVELS: Mapping[str, np.ndarray] = {
    "noise": np.geomspace(0.02, 0.4, N_LEVELS),
    "blur": np.geomspace(0.4, 4, N_LEVELS) / 64,
    "contrast": np.geomspace(0.7, 0.05, N_LEVELS),
    "jpeg": np.geomspace(60, 4, N_LEVELS).round(),
}


@dataclass(frozen=True)
class Sample:
    """Correctly classified images of a network.

    Attributes:
        model: on pixels of 0..1.
        pixels: (n, c, h, w) in 0..1.
        labels: (n,).
    """

    model: nn.Module
    pixels: Tensor
    labels: Tensor


def corrupt(pixels: Tensor, name: str, level: int, seeds: Tensor) -> Tensor:
    """The images at one level of a corruption; `seeds` (n,) name each image's noise."""
    size = float(LEVELS[name][level])
    if name == "noise":
        drawn = [torch.randn(pixels.shape[1:], generator=torch.Generator().manual_seed(int(s))) for s in seeds]
        return (pixels + size * torch.stack(drawn)).clamp(0, 1)
    if name == "blur":
        return _blur(pixels, size * pixels.shape[-1])
    if name == "contrast":
        mean = pixels.mean((1, 2, 3), keepdim=True)
        return mean + size * (pixels - mean)
    return torch.stack([_compress(image, int(size)) for image in pixels])


def _blur(pixels: Tensor, spread: float) -> Tensor:
    radius = min(int(3 * spread + 1), pixels.shape[-1] - 1)
    kernel = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * spread**2))
    kernel = (kernel / kernel.sum()).expand(pixels.shape[1], 1, -1)
    padded = functional.pad(pixels, (radius,) * 4, mode="reflect")
    rows = functional.conv2d(padded, kernel[:, :, None], groups=pixels.shape[1])
    return functional.conv2d(rows, kernel[..., None], groups=pixels.shape[1])


def _compress(image: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    values = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(values).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255


def count_survived(sample: Sample, name: str) -> np.ndarray:
    """(n,) levels of a corruption that each image survives."""
    survived, rows = np.zeros(len(sample.labels), int), torch.arange(len(sample.labels))
    for level in range(N_LEVELS):
        if not len(rows):
            break
        with torch.no_grad():
            parts = [sample.model(corrupt(sample.pixels[some], name, level, some)) for some in torch.split(rows, BATCH)]
        rows = rows[torch.cat(parts).argmax(1) == sample.labels[rows]]
        survived[rows.numpy()] += 1
    return survived


def choose_sample(classifier: Classifier, data: Path, classes: list[int], n: int) -> Sample:
    """The first correctly classified audit images, `n` of every class."""
    spec = classifier.transform
    images = match_classes(load_images(data, seed=0, limit=None), classifier.n_outputs, classifier.class_names, None)
    moments = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    model = Pixels(classifier.model.eval().requires_grad_(False), *moments)
    labels, pixels, chosen = np.array(images.audit.labels), [], []
    for label in classes:
        taken = 0
        for rows in np.array_split(np.flatnonzero(labels == label), 5):
            paths = [images.audit.paths[row] for row in rows] if taken < n else []
            if paths:
                loaded = load_batch(images.reader, paths, spec, LoaderSettings(64, 0)).images
                some = undo_preparation(loaded, spec).clamp(0, 1)
                with torch.no_grad():
                    right = torch.cat([model(part).argmax(1) for part in torch.split(some, BATCH)]) == label
                pixels.append(some[right][: n - taken])
                taken += len(pixels[-1])
        chosen += [label] * taken
    return Sample(model, torch.cat(pixels), torch.tensor(chosen))
