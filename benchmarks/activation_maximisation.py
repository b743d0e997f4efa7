"""Images made for features: how long it takes, and how strongly the features fire on them beside real images.

    python benchmarks/activation_maximisation.py MODEL DATA [--features 10] [--limit 60] [--seeds 1]

A small audit is run first (signed linear codes, one seed, no other methods); its classes' dominant features, and then
those with the largest mean codes, are maximised by pixels and by spectrum. Printed are the seconds of all features
together, the code on the image as it is shown (8 bits, unmoved) as a multiple of the largest code on a real audit
image, and how many of them stay below 1: for these no image was found.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from salve_audit.activations.device import choose_device
from salve_audit.audit.measure import Audit, measure
from salve_audit.config import AuditConfig
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.saliency.activation_maximisation import (
    FeatureTarget,
    MaximisationSettings,
    Visualisation,
    choose_targets,
    maximise_features,
)
from salve_audit.saliency.parametrisation import PARAMETRISATIONS


def choose(audit: Audit, n: int) -> tuple[FeatureTarget, ...]:
    """Dominant features first, then those with the largest mean codes."""
    means = {feature.index: feature.mean_code for feature in audit.result.features}
    largest = {index: max((code for code in codes if code is not None), key=abs) for index, codes in means.items()}
    dominant = dict.fromkeys(class_record.dominant_feature for class_record in audit.result.classes)
    order = [*dominant, *sorted(set(largest) - set(dominant), key=lambda index: -abs(largest[index]))]
    return choose_targets(audit.codes, [(index, largest[index]) for index in order[:n]])


def show(made: list[tuple[Visualisation, ...]], path: Path) -> None:
    """A row of images for each parametrisation and seed."""
    rows = [np.concatenate([image.pixels for image in row], axis=1) for row in made]
    pixels = np.rint(np.concatenate(rows) * 255).astype(np.uint8)
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--limit", type=int, default=60, help="images per class and split")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = {"sae": "linear-l1", "sae_seeds": 1, "interventions": ("salve",), "images": False}
    audit = measure(AuditConfig(args.model, args.data, limit=args.limit, evidence="off", deep_edits="off", **options))
    classifier, device = load_classifier(args.model), choose_device("auto")
    targets = choose(audit, args.features)
    size = " x ".join(map(str, classifier.transform.input_size))
    print(f"{classifier.architecture}, {size}, {len(targets)} features, {args.threads} threads, {device}")
    print(f"{'images from':15} {'seed':>4} {'seconds':>8} {'median':>8} {'least':>7} {'most':>7} {'below 1':>8}")
    rows = []
    for name in PARAMETRISATIONS:
        for seed in range(args.seeds):
            settings = dataclasses.replace(MaximisationSettings(), parametrisation=name)
            began = time.perf_counter()
            generator = torch.Generator().manual_seed(seed)
            made = maximise_features((classifier, device), audit.outcome.sae, targets, settings, generator)
            seconds = time.perf_counter() - began
            ratios = np.array([image.ratio for image in made if image.ratio is not None])
            low, middle, high = ratios.min(), np.median(ratios), ratios.max()
            print(f"{name:15} {seed:4} {seconds:8.1f} {middle:8.2f} {low:7.2f} {high:7.2f} {(ratios < 1).sum():8}")
            rows.append(made)
    if args.images:
        show(rows, args.images)


if __name__ == "__main__":
    main()
