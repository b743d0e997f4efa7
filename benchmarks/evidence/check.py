"""What a network without planted cues depends on, and whether other ways of removing the same places agree.

    python benchmarks/evidence/check.py MODEL DATA [--per-class 60]

MODEL and DATA as `salve-audit` takes them. Prints each class's concept with the largest drop, and for the places of
these concepts which images are misclassified when they are filled from around (the measure), covered by a box of the
mean colour (the check of the audit), blurred, or replaced by the same place of an image of another class. All of it
again at random places of the same shape, where neither should find much and agreement comes cheap.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from salve_audit.activations.images import LoaderSettings, load_batch
from salve_audit.evidence.controls import (
    bound_regions,
    check_by_occlusion,
    checked_concepts,
    checked_slots,
    flip_at_random,
    measure_kappa,
)
from salve_audit.evidence.findings import EvidenceFindings, Share, assess_evidence
from salve_audit.evidence.probe import Probe, hard_margin
from salve_audit.evidence.probe import watch_network as watch
from salve_audit.evidence.regions import fill_regions, to_pixels
from salve_audit.evidence.search import Evidence, SearchSettings, find_evidence
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.labels.matching import match_classes
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.reliance.survival import wilson
from salve_audit.spatial.blocks import first_block
from salve_audit.spatial.layers import find_spatial_layers

BATCH, N_DRAWS = 100, 1000
CONCEPT_COLUMNS = (
    "class",
    "right",
    "shown in",
    "area",
    "drop without it [95 %]",
    "random place",
    "regions until half are wrong",
)
WAY_COLUMNS = (
    "way",
    "flipped at found places",
    "at random ones",
    "difference [95 %]",
    "agreement with the measure [95 %]",
    "kappa [95 %]",
    "agreement at random places",
    "kappa there",
)


@dataclass(frozen=True)
class Setting:
    """Images (n, c, h, w) with what was found in them."""

    probe: Probe
    images: Tensor
    evidence: Evidence
    findings: EvidenceFindings
    classes: tuple[str, ...]

    @property
    def labels(self) -> np.ndarray:
        return self.evidence.labels.numpy()


@dataclass(frozen=True)
class Places:
    """Rows of images (p,), of images whose content may stand in (p,), and cells (p, gh, gw) of evidence regions."""

    rows: np.ndarray
    donors: np.ndarray
    regions: Tensor


Way = Callable[[Setting, Tensor, Tensor, Tensor], Tensor]  # setting, images, donors, cells (b, 1, gh, gw) -> images


def _pixels(images: Tensor, cells: Tensor) -> Tensor:
    return to_pixels(cells.float(), (images.shape[2], images.shape[3]))


def fill(_: Setting, images: Tensor, __: Tensor, cells: Tensor) -> Tensor:
    return fill_regions(images, _pixels(images, cells))


def cover(setting: Setting, images: Tensor, _: Tensor, cells: Tensor) -> Tensor:
    box = _pixels(images, bound_regions(cells))
    return images * (1 - box) + setting.images.mean((0, 2, 3), keepdim=True) * box


def paint(setting: Setting, images: Tensor, _: Tensor, cells: Tensor) -> Tensor:
    inside = _pixels(images, cells)
    return images * (1 - inside) + setting.images.mean((0, 2, 3), keepdim=True) * inside


def blur(_: Setting, images: Tensor, __: Tensor, cells: Tensor) -> Tensor:
    """Gaussian, its standard deviation an eighth of the side: colour stays, structure goes."""
    spread = images.shape[-1] / 8
    radius = int(2 * spread)
    kernel = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * spread**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    padded = functional.pad(images, (radius, radius, radius, radius), mode="reflect")
    rows = functional.conv2d(padded, kernel[:, :, None], groups=images.shape[1])
    blurred = functional.conv2d(rows, kernel[..., None], groups=images.shape[1])
    inside = _pixels(images, cells)
    return images * (1 - inside) + blurred * inside


def replace(_: Setting, images: Tensor, donors: Tensor, cells: Tensor) -> Tensor:
    inside = _pixels(images, cells)
    return images * (1 - inside) + donors * inside


WAYS: Mapping[str, Way] = {
    "box of the mean colour": cover,
    "outline of the mean colour": paint,
    "blurred": blur,
    "another class's image": replace,
}


def flipped_by(setting: Setting, places: Places, way: Way) -> np.ndarray:
    """(n,) images that were right and are misclassified when any one of their places is changed."""
    flipped = np.zeros(len(setting.images), bool)
    for start in range(0, len(places.rows), BATCH):
        here = slice(start, start + BATCH)
        rows = torch.from_numpy(places.rows[here])
        donors = setting.images[torch.from_numpy(places.donors[here])]
        with torch.no_grad():
            changed = way(setting, setting.images[rows], donors, places.regions[here, None])
            wrong = hard_margin(setting.probe(changed).logits, setting.evidence.labels[rows]) <= 0
        np.logical_or.at(flipped, rows.numpy(), (wrong & setting.evidence.correct[rows]).numpy())
    return flipped


def find_places(setting: Setting, rng: np.random.Generator) -> tuple[Places, Places]:
    """The places of the checked concepts, and the same shapes moved at random inside the image."""
    rows, slots = np.nonzero(checked_slots(setting.evidence, setting.findings))
    regions = setting.evidence.regions[torch.from_numpy(rows), torch.from_numpy(slots)]
    labels = setting.labels
    donors = np.array([rng.choice(np.flatnonzero(labels != labels[row])) for row in rows])
    moved = torch.stack([_move(region, rng) for region in regions])
    return Places(rows, donors, regions), Places(rows, donors, moved)


def _move(region: Tensor, rng: np.random.Generator) -> Tensor:
    """Moves a region inside the image; one as long as the image can only move along the other side."""
    shifts = []
    for axis in (0, 1):
        hit = torch.nonzero(region.any(1 - axis))[:, 0]
        shifts.append(int(rng.integers(-int(hit.min()), region.shape[axis] - int(hit.max()))))
    return torch.roll(region, shifts, (0, 1))


def print_concepts(setting: Setting, nulls: dict[int, Share]) -> None:
    """Each class's concept with the largest drop, and what is no place, beside nulls."""
    print(f"\n| {' | '.join(CONCEPT_COLUMNS)} |\n{'|---' * len(CONCEPT_COLUMNS)}|")
    order = sorted(setting.findings.classes, key=lambda class_finding: -class_finding.reliance.value)
    for class_finding in order:
        index = checked_concepts(setting.findings).get(class_finding.label)
        if index is None:
            continue
        concept = setting.findings.concepts[index]
        value = class_finding.reliance
        cells = [
            f"{class_finding.n_correct} of {class_finding.n}",
            f"{len(set(concept.images.tolist()))}",
            f"{concept.mask_share:.0%}",
            f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]",
            f"{nulls[class_finding.label].value:.2f}",
            "> 3" if class_finding.redundancy is None else str(class_finding.redundancy),
        ]
        print(f"| {setting.classes[class_finding.label]} | {' | '.join(cells)} |")


def compare(first: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> str:
    """Agreement and kappa of two ways, (n,) each, with intervals over images."""
    low, high = wilson(int((first == other).sum()), len(first))
    picks = rng.integers(len(first), size=(N_DRAWS, len(first)))
    drawn = [kappa for kappa in (measure_kappa(first[pick], other[pick]) for pick in picks) if kappa is not None]
    kappa = measure_kappa(first, other)
    span = f" [{np.percentile(drawn, 2.5):.2f}, {np.percentile(drawn, 97.5):.2f}]" if drawn else ""
    beyond = "–" if kappa is None else f"{kappa:.2f}{span}"
    return f"{(first == other).mean():.0%} [{low:.0%}, {high:.0%}] | {beyond}"


def print_ways(setting: Setting, rng: np.random.Generator) -> None:
    """All classes together, at the found places and at random ones."""
    shown_places, moved = find_places(setting, rng)
    overlap = (shown_places.regions & moved.regions).sum((1, 2)) / shown_places.regions.sum((1, 2)).clamp(min=1)
    shown = np.unique(shown_places.rows)
    print(f"\n{len(shown):,} images with a place; random places overlap the found ones by {overlap.mean():.0%}\n")
    filled = [flipped_by(setting, places, fill)[shown] for places in (shown_places, moved)]
    print(f"| {' | '.join(WAY_COLUMNS)} |\n{'|---' * len(WAY_COLUMNS)}|")
    print(f"| filled from around (the measure) | {compare_places(filled, rng)} | | | |")
    for way, change in WAYS.items():
        flipped = [flipped_by(setting, places, change)[shown] for places in (shown_places, moved)]
        agreement = [compare(by_measure, other, rng) for by_measure, other in zip(filled, flipped, strict=True)]
        print(f"| {way} | {compare_places(flipped, rng)} | {agreement[0]} | {agreement[1]} |")


def compare_places(flipped: list[np.ndarray], rng: np.random.Generator) -> str:
    """Shares at the found places and at random ones, (n,) each, and their difference with an interval over images."""
    at_places, moved = flipped
    difference = at_places.astype(float) - moved
    drawn = difference[rng.integers(len(difference), size=(N_DRAWS, len(difference)))].mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    span = f"{difference.mean():+.0%} [{low:+.0%}, {high:+.0%}]"
    return f"{at_places.mean():.0%} | {moved.mean():.0%} | {span}"


def print_checks(setting: Setting) -> None:
    """The check that audits make, class by class."""
    checks = check_by_occlusion(setting.probe, setting.images, setting.evidence, setting.findings, BATCH)
    print("\n| class | images | agreement [95 %] | kappa | drop when filled | drop when covered [95 %] |")
    print("|---" * 6 + "|")
    for class_finding in setting.findings.classes:
        check = checks.get(class_finding.label)
        if check is not None:
            kappa = "–" if check.kappa is None else f"{check.kappa:.2f}"
            agreement = f"{check.agreement:.0%} [{check.low:.0%}, {check.high:.0%}]"
            drop = f"{check.occluded:.2f} [{check.occluded_low:.2f}, {check.occluded_high:.2f}]"
            cells = [str(check.n), agreement, kappa, f"{class_finding.reliance.value:.2f}", drop]
            print(f"| {setting.classes[class_finding.label]} | {' | '.join(cells)} |")


@dataclass(frozen=True)
class Loaded:
    """A network and prepared images (n, c, h, w) with labels (n,), as an audit would load them."""

    classifier: Classifier
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


def load(model: Path, data: Path, per_class: int) -> Loaded:
    classifier = load_classifier(model)
    images = load_images(data, seed=0, limit=per_class)
    images = match_classes(images, classifier.n_outputs, classifier.class_names, None)
    batch = load_batch(images.reader, images.audit.paths, classifier.transform, LoaderSettings(BATCH, 0))
    labels = torch.tensor(images.audit.labels)[torch.tensor(batch.rows)]
    return Loaded(classifier, batch.images, labels, tuple(images.classes))


def main() -> None:
    """Prints the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--per-class", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load(options.model, options.data, options.per_class)
    classifier, images = loaded.classifier, loaded.images
    layer = first_block(classifier.model, find_spatial_layers(classifier, images[:4]))
    with watch(classifier, layer) as probe:
        evidence = find_evidence(probe, images, loaded.labels, SearchSettings())
        findings = assess_evidence(evidence, np.random.default_rng(0))
        setting = Setting(probe, images, evidence, findings, loaded.classes)
        nulls = flip_at_random(probe, images, evidence, BATCH, np.random.default_rng(1))
        print_concepts(setting, nulls)
        print_checks(setting)
        print_ways(setting, np.random.default_rng(2))


if __name__ == "__main__":
    main()
