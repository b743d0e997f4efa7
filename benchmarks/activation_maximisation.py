"""Pictures made for features: how long it takes, and how strongly the features fire on them beside real pictures.

    python benchmarks/activation_maximisation.py MODEL DATA [--features 10] [--limit 60] [--seeds 1]

A small audit is run first (signed linear codes, one seed, no other methods); its classes' dominant features, and then
those with the largest mean codes, are maximised by pixels and by spectrum. Printed are the seconds of all features
together, the code on the picture as it is shown (8 bits, unmoved) as a multiple of the largest code on a real audit
picture, and how many of them stay below 1: for these no picture was found.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from salve_audit.activations import choose_device
from salve_audit.audit import Audit, measure
from salve_audit.config import AuditConfig
from salve_audit.inputs import load_classifier
from salve_audit.saliency.activation_maximisation import (
    FeatureTarget,
    MaximisationSettings,
    SyntheticPicture,
    choose_targets,
    maximise_features,
)
from salve_audit.saliency.parametrisation import PARAMETRISATIONS


def choose(audit: Audit, n: int) -> tuple[FeatureTarget, ...]:
    """Dominant features first, then those with the largest mean codes."""
    means = {one.index: one.mean_code for one in audit.result.features}
    largest = {index: max((code for code in codes if code is not None), key=abs) for index, codes in means.items()}
    dominant = dict.fromkeys(one.dominant_feature for one in audit.result.classes)
    order = [*dominant, *sorted(set(largest) - set(dominant), key=lambda index: -abs(largest[index]))]
    return choose_targets(audit.codes, [(index, largest[index]) for index in order[:n]])


def show(made: list[tuple[SyntheticPicture, ...]], path: Path) -> None:
    """A row of pictures for each parametrisation and seed."""
    rows = [np.concatenate([one.pixels for one in row], axis=1) for row in made]
    pixels = np.rint(np.concatenate(rows) * 255).astype(np.uint8)
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--limit", type=int, default=60, help="pictures per class and split")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = {"sae": "linear-l1", "sae_seeds": 1, "interventions": ("salve",), "images": False}
    audit = measure(AuditConfig(args.model, args.data, limit=args.limit, depth="off", deep_edits="off", **options))
    classifier, device = load_classifier(args.model), choose_device("auto")
    targets = choose(audit, args.features)
    size = " x ".join(map(str, classifier.transform.input_size))
    print(f"{classifier.architecture}, {size}, {len(targets)} features, {args.threads} threads, {device}")
    print(f"{'pictures from':15} {'seed':>4} {'seconds':>8} {'median':>8} {'least':>7} {'most':>7} {'below 1':>8}")
    rows = []
    for name in PARAMETRISATIONS:
        for seed in range(args.seeds):
            settings = dataclasses.replace(MaximisationSettings(), parametrisation=name)
            began = time.perf_counter()
            generator = torch.Generator().manual_seed(seed)
            made = maximise_features((classifier, device), audit.outcome.sae, targets, settings, generator)
            seconds = time.perf_counter() - began
            ratios = np.array([one.ratio for one in made if one.ratio is not None])
            low, middle, high = ratios.min(), np.median(ratios), ratios.max()
            print(f"{name:15} {seed:4} {seconds:8.1f} {middle:8.2f} {low:7.2f} {high:7.2f} {(ratios < 1).sum():8}")
            rows.append(made)
    if args.pictures:
        show(rows, args.pictures)


if __name__ == "__main__":
    main()
