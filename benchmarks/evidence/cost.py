"""What image reliance costs, and which share of it the network's own passes are: the floor.

    python benchmarks/evidence/cost.py MODEL DATA [--per-class 200] [--threads 2]

MODEL and DATA as `salve-audit` takes them. The floor is timed from inside: every call of the network and every call of
its backward pass.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from salve_audit.activations.images import ImageDataset
from salve_audit.evidence.controls import check_by_occlusion, flip_at_random
from salve_audit.evidence.findings import assess_evidence
from salve_audit.evidence.probe import Probe, ProbeOutput, watch_network
from salve_audit.evidence.projection_fitting import project_concepts
from salve_audit.evidence.removals import ExaminedNetwork, remove_projected
from salve_audit.evidence.search import SearchSettings, find_evidence, judge_with_squares
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.labels.matching import match_classes
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.spatial.blocks import first_block
from salve_audit.spatial.layers import find_spatial_layers

GRAD = torch.autograd.grad


class TimedProbe:
    """A probe that adds up the seconds of its forward and backward passes."""

    def __init__(self, probe: Probe) -> None:
        self.probe, self.seconds = probe, 0.0

    def __call__(self, images: torch.Tensor) -> ProbeOutput:
        start = time.perf_counter()
        logits = self.probe(images)
        self.seconds += time.perf_counter() - start
        return logits

    def grad(self, *arguments: Any, **options: Any) -> Any:
        """In place of `torch.autograd.grad`."""
        start = time.perf_counter()
        gradients = GRAD(*arguments, **options)
        self.seconds += time.perf_counter() - start
        return gradients


def main() -> None:
    """Prints seconds by part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    classifier = load_classifier(options.model)
    images = load_images(options.data, seed=0, limit=options.per_class)
    images = match_classes(images, classifier.n_outputs, classifier.class_names, None)
    dataset = ImageDataset(images.reader, images.audit.paths, classifier.transform)
    prepared = torch.stack([dataset[i].image for i in range(len(dataset))])
    labels = torch.tensor(images.audit.labels)
    layer = first_block(classifier.model, find_spatial_layers(classifier, prepared[:4]))
    settings, rng = SearchSettings(), np.random.default_rng(0)
    with watch_network(classifier, layer) as probe:
        timed = TimedProbe(probe)
        torch.autograd.grad = timed.grad
        start = time.perf_counter()
        evidence = find_evidence(timed, prepared, labels, settings)
        evidence = judge_with_squares(timed, prepared, evidence, settings.batch_size)
        searched = time.perf_counter() - start
        findings = assess_evidence(evidence, rng)
        assessed = time.perf_counter() - start - searched
        nulls = flip_at_random(timed, prepared, evidence, settings.batch_size, rng)
        check_by_occlusion(timed, prepared, evidence, findings, settings.batch_size)
        total = time.perf_counter() - start
    torch.autograd.grad = GRAD
    probed = total - searched - assessed
    start = time.perf_counter()

    def load(rows: np.ndarray) -> torch.Tensor:
        return prepared[torch.from_numpy(rows)]

    projected = project_concepts(classifier, layer, evidence, findings, load)
    if projected.projections:
        place = next(place for place in find_spatial_layers(classifier, prepared[:4]) if place.name == projected.layer)
        network = ExaminedNetwork(classifier, None, place, load, images.classes)
        remove_projected(network, projected.projections, evidence, findings, lambda _: np.random.default_rng(1))
    projecting = time.perf_counter() - start
    n_concepts = len(findings.concepts)
    print(f"{len(prepared):,} images of {len(nulls)} classes, {n_concepts} concepts, {options.threads} threads")
    print(f"  evidence, with squares   {searched:8.1f} s   {evidence.n_passes / len(prepared):.1f} passes per image")
    print(f"  nulls, check             {probed:8.1f} s")
    print(f"  concepts and intervals   {assessed:8.1f} s")
    print(f"  so far                   {total:8.1f} s   of it the passes themselves {timed.seconds / total:.0%}")
    print(f"  projections              {projecting:8.1f} s")
    print(f"  together                 {total + projecting:8.1f} s")


if __name__ == "__main__":
    main()
