"""Deletion and insertion: how fast a class's probability falls when its hottest pixels go, and rises when they come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from saliency_rivals import Library
from torch import Tensor
from torch.nn import functional

from salve_audit.activations.images import ImageDataset
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.labels.matching import match_classes
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.saliency.enlarge import enlarge_maps
from salve_audit.saliency.gradients import Directions
from salve_audit.saliency.localisation import bootstrap_mean
from salve_audit.saliency.maps import compute_grad_cam, compute_grad_fam, compute_integrated
from salve_audit.spatial.alignment import measure_alignment
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.map_layers import last_spatial_layer, middle_spatial_layer

N_IMAGES = 200
STEPS = 16


def compare_curves(model: Path, data: Path, seed: int) -> None:
    """Prints the area under both curves for the predicted class, by map, with 95 % intervals over images."""
    classifier = load_classifier(model)
    images = _load(classifier, data, seed)
    with torch.no_grad():
        predicted = classifier.model(images).argmax(1)
    blurred = functional.avg_pool2d(functional.pad(images, (8, 8, 8, 8), mode="reflect"), 17, stride=1)
    print(f"\n{model.name}, {len(images)} images, {STEPS} steps: area under the predicted class's probability")
    print(f"  {'map':32s} {'deletion (low is good)':25s} insertion (high is good)")
    for name, maps in _draw(classifier, images, predicted, seed):
        areas = [_area(classifier, images, blurred, predicted, maps, inserting) for inserting in (False, True)]
        cells = [bootstrap_mean(area.numpy(), np.random.default_rng(seed)) for area in areas]
        print(f"  {name:32s} " + "  ".join(f"{mean:5.3f} [{low:5.3f}, {high:5.3f}]   " for mean, low, high in cells))


def _load(classifier: Classifier, data: Path, seed: int) -> Tensor:
    matched = match_classes(load_images(data, seed=seed), classifier.n_outputs, classifier.class_names, None)
    rows = np.random.default_rng(seed).permutation(len(matched.audit.paths))[:N_IMAGES]
    dataset = ImageDataset(matched.images, [matched.audit.paths[row] for row in rows], classifier.transform)
    return torch.stack([dataset[index].image for index in range(len(dataset))])


def _draw(classifier: Classifier, images: Tensor, predicted: Tensor, seed: int) -> Iterator[tuple[str, Tensor]]:
    weights = torch.from_numpy(classifier.reader.fold(classifier.model).weight)
    last, middle = last_spatial_layer(classifier, images), middle_spatial_layer(classifier, images)
    rows = torch.arange(len(images))
    for name, layer, compute in (
        ("Grad-CAM", last, compute_grad_cam),
        ("Grad-FAM's form", last, compute_grad_fam),
        ("integrated, middle layer", middle, compute_integrated),
    ):
        alignment = measure_alignment(classifier, layer, images)
        with CutNetwork(classifier.model, layer, classifier.reader) as cut:
            maps = compute(Directions(cut, weights), cut.run(images))[rows, predicted]
        yield f"{name} ({layer.name})", enlarge_maps(maps, images.shape[2:], alignment)
    library = Library(classifier, last, weights)
    yield "grad-cam library", torch.cat([library(images[row : row + 1], int(predicted[row])) for row in rows])
    library.close()
    yield "random", torch.rand(len(images), *images.shape[2:], generator=torch.Generator().manual_seed(seed))


def _area(
    classifier: Classifier, images: Tensor, blurred: Tensor, predicted: Tensor, maps: Tensor, inserting: bool
) -> Tensor:
    """Mean probability of the predicted class over the steps, one value per image."""
    ranks = maps.flatten(1).argsort(dim=1, descending=True).argsort(dim=1).reshape(maps.shape)[:, None]
    n_pixels, total = maps[0].numel(), torch.zeros(len(images))
    for share in torch.linspace(0, 1, STEPS + 1):
        hot = ranks < share * n_pixels
        shown = torch.where(hot, images, blurred) if inserting else torch.where(hot, blurred, images)
        with torch.no_grad():
            total += classifier.model(shown).softmax(1)[torch.arange(len(images)), predicted]
    return total / (STEPS + 1)
