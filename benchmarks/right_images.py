"""Images that a network classifies correctly, in pixels of 0..1, and their flip thresholds at the head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from salve_audit.activations.images import LoaderSettings, load_batch
from salve_audit.evidence.factors.record import undo_preparation
from salve_audit.evidence.probe import hard_margin
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.labels.matching import match_classes
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.results import AuditResult

BATCH, N_NULLS = 100, 20
GRID = np.concatenate([[0.0], np.geomspace(0.02, 60, 399)])  # of strengths in α̂


class Pixels(nn.Module):
    """The network on pixels of 0..1."""

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model, self.mean, self.std = model, mean, std

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x - self.mean) / self.std)


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


def flip_thresholds(
    acts: np.ndarray, weight: np.ndarray, bias: np.ndarray, coupling: np.ndarray, label: int
) -> np.ndarray:
    """(n,) the first strength of the grid at which `label` is not the largest logit; inf: none."""
    flips = np.full(len(acts), np.inf)
    share = coupling / coupling.max()
    for strength in GRID[::-1]:
        logits = (acts * np.maximum(0, 1 - strength * share)) @ weight.T + bias
        rivals = np.delete(logits, label, axis=1).max(1)
        flips[logits[:, label] <= rivals] = strength
    return flips


def measure_thresholds(
    classifier: Classifier, sample: Sample, result: AuditResult, dictionary: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(1 + 20, n) flip thresholds and those of permuted couplings; (n, 3) margin, confidence, norm of activations."""
    acts: list[Tensor] = []
    module = classifier.model.get_submodule(classifier.reader.modules[0])
    hook = module.register_forward_pre_hook(lambda _, given: acts.append(given[0].flatten(1)))
    with torch.no_grad():
        logits = torch.cat([sample.model(part) for part in torch.split(sample.pixels, BATCH)])
    hook.remove()
    values, labels = torch.cat(acts).double().numpy(), sample.labels.numpy()
    head = classifier.reader.fold(classifier.model)
    weight, bias = np.asarray(head.weight, np.float64), np.asarray(head.bias, np.float64)
    thresholds = np.empty((1 + N_NULLS, len(labels)))
    for record in result.classes:
        rows = np.flatnonzero(labels == record.index)
        coupling = np.abs(np.asarray(dictionary[record.dominant_feature], np.float64))
        for draw in range(1 + N_NULLS):
            order = rng.permutation(len(coupling)) if draw else np.arange(len(coupling))
            thresholds[draw, rows] = flip_thresholds(values[rows], weight, bias, coupling[order], record.index)
    confidence = logits.softmax(1).gather(1, sample.labels[:, None])[:, 0]
    margin = hard_margin(logits, sample.labels)
    return thresholds, np.stack([margin.numpy(), confidence.numpy(), np.linalg.norm(values, axis=1)], 1)
