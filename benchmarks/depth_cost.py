"""What reliance at depth costs, and which share of it the network's own passes are: the floor.

    python benchmarks/depth_cost.py MODEL DATA [--per-class 200] [--threads 2]

MODEL and DATA as `salve-audit` takes them. The floor is timed from inside: every call of the network and every call of
its backward pass.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from salve_audit.activations.pictures import PictureDataset
from salve_audit.depth.at_layer import ExaminedNetwork
from salve_audit.depth.projections import project_concepts
from salve_audit.depth.removals import remove_concepts, remove_projected
from salve_audit.inputs import load_classifier, load_images, match_classes
from salve_audit.reliance.depth import Probe, SearchSettings, Seen, assess_depth, find_evidence, watch_network
from salve_audit.reliance.depth.check import check_by_occlusion
from salve_audit.reliance.depth.nulls import flip_at_random
from salve_audit.reliance.depth.squares import judge_with_squares
from salve_audit.reliance.depth.whole import flip_without_whole
from salve_audit.spatial import find_spatial_layers
from salve_audit.spatial.blocks import first_block

GRAD = torch.autograd.grad


class TimedProbe:
    """A probe that adds up the seconds of its forward and backward passes."""

    def __init__(self, probe: Probe) -> None:
        self.probe, self.seconds = probe, 0.0

    def __call__(self, images: torch.Tensor) -> Seen:
        start = time.perf_counter()
        seen = self.probe(images)
        self.seconds += time.perf_counter() - start
        return seen

    def grad(self, *arguments: Any, **options: Any) -> Any:
        """In place of `torch.autograd.grad`."""
        start = time.perf_counter()
        found = GRAD(*arguments, **options)
        self.seconds += time.perf_counter() - start
        return found


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
    dataset = PictureDataset(images.pictures, images.audit.paths, classifier.transform)
    pictures = torch.stack([dataset[i].image for i in range(len(dataset))])
    labels = torch.tensor(images.audit.labels)
    layer = first_block(classifier.model, find_spatial_layers(classifier, pictures[:4]))
    settings, rng = SearchSettings(), np.random.default_rng(0)
    with watch_network(classifier, layer) as probe:
        timed = TimedProbe(probe)
        torch.autograd.grad = timed.grad
        start = time.perf_counter()
        evidence = find_evidence(timed, pictures, labels, settings)
        evidence = judge_with_squares(timed, pictures, evidence, settings.batch_size)
        searched = time.perf_counter() - start
        findings = assess_depth(evidence, rng)
        assessed = time.perf_counter() - start - searched
        nulls = flip_at_random(timed, pictures, evidence, settings.batch_size, rng)
        flip_without_whole(timed, pictures, evidence, settings.batch_size)
        check_by_occlusion(timed, pictures, evidence, findings, settings.batch_size)
        total = time.perf_counter() - start
    torch.autograd.grad = GRAD
    probed = total - searched - assessed
    start = time.perf_counter()
    network = ExaminedNetwork(classifier, None, (layer,), lambda rows: pictures[torch.from_numpy(rows)], images.classes)
    outcome = remove_concepts(network, evidence, findings, lambda _: np.random.default_rng(1))
    latents, start = time.perf_counter() - start, time.perf_counter()
    found = project_concepts(classifier, layer, evidence, findings, network.load)
    if found.projections:
        place = next(one for one in find_spatial_layers(classifier, pictures[:4]) if one.name == found.layer)
        network = dataclasses.replace(network, layers=(place,))
        remove_projected(network, found.projections, evidence, findings, lambda _: np.random.default_rng(1))
    projected = time.perf_counter() - start
    n_pieces = len(findings.concepts)
    print(f"{len(pictures):,} pictures of {len(nulls)} classes, {n_pieces} concepts, {options.threads} threads")
    print(f"  evidence, with squares   {searched:8.1f} s   {evidence.n_passes / len(pictures):.1f} passes per picture")
    print(f"  nulls, wholes, check     {probed:8.1f} s")
    print(f"  concepts and intervals   {assessed:8.1f} s")
    print(f"  so far                   {total:8.1f} s   of it the passes themselves {timed.seconds / total:.0%}")
    print(f"  latents                  {latents:8.1f} s   {outcome.n_passes / len(pictures):.1f} passes per picture")
    print(f"  projections              {projected:8.1f} s")
    print(f"  together                 {total + latents + projected:8.1f} s")


if __name__ == "__main__":
    main()
