"""What a network that nobody planted anything for rests on, and whether other ways of taking the same places out agree.

    python benchmarks/depth_check.py MODEL DATA [--per-class 60]

MODEL and DATA as `salve-audit` takes them. Prints each class's concept with the largest drop, and for the places of
these concepts which pictures turn wrong when they are filled from around (the measure), covered by a box of the mean
colour (the check of the audit), blurred, or replaced by the same place of a picture of another class. The same again
at random places of the same shape, where neither should find much and agreement comes cheap.
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

from salve_audit.activations.pictures import LoaderSettings, load_pictures
from salve_audit.inputs import load_classifier, load_images, match_classes
from salve_audit.inputs.classifier import Classifier
from salve_audit.reliance.depth import DepthFindings, Evidence, Probe, SearchSettings, assess_depth, find_evidence
from salve_audit.reliance.depth import watch_network as watch
from salve_audit.reliance.depth.assess import Share
from salve_audit.reliance.depth.check import (
    bound_regions,
    check_by_occlusion,
    checked_concepts,
    checked_pieces,
    measure_kappa,
)
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.network import hard_margin
from salve_audit.reliance.depth.nulls import flip_at_random
from salve_audit.reliance.depth.regions import to_pixels
from salve_audit.reliance.depth.whole import NULLS, Batches, find_usual, flip_without_whole, turn_changed
from salve_audit.reliance.survival import wilson
from salve_audit.spatial import find_spatial_layers
from salve_audit.spatial.blocks import first_block

BATCH, N_DRAWS = 100, 1000
CONCEPT_COLUMNS = (
    "class",
    "right",
    "shown in",
    "area",
    "drop without it [95 %]",
    "random place",
    "frame (null)",
    "overall colour (null)",
    "pieces until half are wrong",
)
WAY_COLUMNS = (
    "way",
    "turned at found places",
    "at random ones",
    "difference [95 %]",
    "agreement with the measure [95 %]",
    "kappa [95 %]",
    "agreement at random places",
    "kappa there",
)


@dataclass(frozen=True)
class Setting:
    """Pictures (n, c, h, w) with what was found in them."""

    probe: Probe
    images: Tensor
    evidence: Evidence
    findings: DepthFindings
    classes: tuple[str, ...]

    @property
    def labels(self) -> np.ndarray:
        return self.evidence.labels.numpy()


@dataclass(frozen=True)
class Places:
    """One piece each: the row of its picture (p,), that of one whose content may stand in (p,), cells (p, gh, gw)."""

    rows: np.ndarray
    donors: np.ndarray
    regions: Tensor


Way = Callable[[Setting, Tensor, Tensor, Tensor], Tensor]  # setting, pictures, donors, cells (b, 1, gh, gw) -> pictures


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
    "another class's picture": replace,
}


def turned_by(setting: Setting, places: Places, way: Way) -> np.ndarray:
    """(n,) pictures that were right and turn wrong when any one of their places is changed."""
    turned = np.zeros(len(setting.images), bool)
    for start in range(0, len(places.rows), BATCH):
        here = slice(start, start + BATCH)
        rows = torch.from_numpy(places.rows[here])
        donors = setting.images[torch.from_numpy(places.donors[here])]
        with torch.no_grad():
            changed = way(setting, setting.images[rows], donors, places.regions[here, None])
            wrong = hard_margin(setting.probe(changed).logits, setting.evidence.labels[rows]) <= 0
        np.logical_or.at(turned, rows.numpy(), (wrong & setting.evidence.correct[rows]).numpy())
    return turned


def find_places(setting: Setting, rng: np.random.Generator) -> tuple[Places, Places]:
    """The places of the checked concepts, and the same shapes moved at random inside the picture."""
    rows, pieces = np.nonzero(checked_pieces(setting.evidence, setting.findings))
    regions = setting.evidence.regions[torch.from_numpy(rows), torch.from_numpy(pieces)]
    labels = setting.labels
    donors = np.array([rng.choice(np.flatnonzero(labels != labels[row])) for row in rows])
    moved = torch.stack([_move(one, rng) for one in regions])
    return Places(rows, donors, regions), Places(rows, donors, moved)


def _move(region: Tensor, rng: np.random.Generator) -> Tensor:
    """The same shape elsewhere, whole: what is as long as the picture can only move along the other side."""
    shifts = []
    for axis in (0, 1):
        hit = torch.nonzero(region.any(1 - axis))[:, 0]
        shifts.append(int(rng.integers(-int(hit.min()), region.shape[axis] - int(hit.max()))))
    return torch.roll(region, shifts, (0, 1))


def print_concepts(setting: Setting, nulls: dict[int, Share]) -> None:
    """Each class's concept with the largest drop, and what is no place, beside nulls."""
    evidence, usual = setting.evidence, find_usual(setting.images)
    batches = Batches(setting.images, evidence, BATCH)
    wholes = flip_without_whole(setting.probe, setting.images, evidence, BATCH)
    whole_nulls = {name: turn_changed(setting.probe, batches, change, usual) for name, change in NULLS.items()}
    print(f"\n| {' | '.join(CONCEPT_COLUMNS)} |\n{'|---' * len(CONCEPT_COLUMNS)}|")
    order = sorted(setting.findings.classes, key=lambda one: -one.reliance.value)
    for one in order:
        index = checked_concepts(setting.findings).get(one.label)
        if index is None:
            continue
        concept, own = setting.findings.concepts[index], setting.labels == one.label
        value = one.reliance
        beside = [f"{wholes[name][own].mean():.2f} ({whole_nulls[name][own].mean():.2f})" for name in wholes]
        cells = [
            f"{one.n_correct} of {one.n}",
            f"{len(set(concept.pictures.tolist()))}",
            f"{concept.mask_share:.0%}",
            f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]",
            f"{nulls[one.label].value:.2f}",
            *beside,
            "> 3" if one.redundancy is None else str(one.redundancy),
        ]
        print(f"| {setting.classes[one.label]} | {' | '.join(cells)} |")


def compare(one: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> str:
    """Agreement and kappa of two ways, (n,) each, with intervals over pictures."""
    low, high = wilson(int((one == other).sum()), len(one))
    picks = rng.integers(len(one), size=(N_DRAWS, len(one)))
    drawn = [kappa for kappa in (measure_kappa(one[pick], other[pick]) for pick in picks) if kappa is not None]
    kappa = measure_kappa(one, other)
    span = f" [{np.percentile(drawn, 2.5):.2f}, {np.percentile(drawn, 97.5):.2f}]" if drawn else ""
    beyond = "–" if kappa is None else f"{kappa:.2f}{span}"
    return f"{(one == other).mean():.0%} [{low:.0%}, {high:.0%}] | {beyond}"


def print_ways(setting: Setting, rng: np.random.Generator) -> None:
    """All classes together, at the found places and at random ones."""
    found, moved = find_places(setting, rng)
    overlap = (found.regions & moved.regions).sum((1, 2)) / found.regions.sum((1, 2)).clamp(min=1)
    shown = np.unique(found.rows)
    print(f"\n{len(shown):,} pictures with a place; random places overlap the found ones by {overlap.mean():.0%}\n")
    filled = [turned_by(setting, places, fill)[shown] for places in (found, moved)]
    print(f"| {' | '.join(WAY_COLUMNS)} |\n{'|---' * len(WAY_COLUMNS)}|")
    print(f"| filled from around (the measure) | {compare_places(filled, rng)} | | | |")
    for way, change in WAYS.items():
        turned = [turned_by(setting, places, change)[shown] for places in (found, moved)]
        agreement = [compare(one, other, rng) for one, other in zip(filled, turned, strict=True)]
        print(f"| {way} | {compare_places(turned, rng)} | {agreement[0]} | {agreement[1]} |")


def compare_places(turned: list[np.ndarray], rng: np.random.Generator) -> str:
    """Shares at the found places and at random ones, (n,) each, and their difference with an interval over pictures."""
    found, moved = turned
    difference = found.astype(float) - moved
    drawn = difference[rng.integers(len(difference), size=(N_DRAWS, len(difference)))].mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    span = f"{difference.mean():+.0%} [{low:+.0%}, {high:+.0%}]"
    return f"{found.mean():.0%} | {moved.mean():.0%} | {span}"


def print_checks(setting: Setting) -> None:
    """The check that audits make, class by class."""
    checks = check_by_occlusion(setting.probe, setting.images, setting.evidence, setting.findings, BATCH)
    print("\n| class | pictures | agreement [95 %] | kappa | drop when filled | drop when covered [95 %] |")
    print("|---" * 6 + "|")
    for one in setting.findings.classes:
        check = checks.get(one.label)
        if check is not None:
            kappa = "–" if check.kappa is None else f"{check.kappa:.2f}"
            agreement = f"{check.agreement:.0%} [{check.low:.0%}, {check.high:.0%}]"
            drop = f"{check.occluded:.2f} [{check.occluded_low:.2f}, {check.occluded_high:.2f}]"
            cells = [str(check.n), agreement, kappa, f"{one.reliance.value:.2f}", drop]
            print(f"| {setting.classes[one.label]} | {' | '.join(cells)} |")


@dataclass(frozen=True)
class Loaded:
    """A network and prepared pictures (n, c, h, w) with labels (n,), as an audit would load them."""

    classifier: Classifier
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


def load(model: Path, data: Path, per_class: int) -> Loaded:
    classifier = load_classifier(model)
    images = load_images(data, seed=0, limit=per_class)
    images = match_classes(images, classifier.n_outputs, classifier.class_names, None)
    found = load_pictures(images.pictures, images.audit.paths, classifier.transform, LoaderSettings(BATCH, 0))
    labels = torch.tensor(images.audit.labels)[torch.tensor(found.rows)]
    return Loaded(classifier, found.images, labels, tuple(images.classes))


def main() -> None:
    """Prints the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--per-class", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load(options.model, options.data, options.per_class)
    classifier, pictures = loaded.classifier, loaded.images
    layer = first_block(classifier.model, find_spatial_layers(classifier, pictures[:4]))
    with watch(classifier, layer) as probe:
        evidence = find_evidence(probe, pictures, loaded.labels, SearchSettings())
        findings = assess_depth(evidence, np.random.default_rng(0))
        setting = Setting(probe, pictures, evidence, findings, loaded.classes)
        nulls = flip_at_random(probe, pictures, evidence, BATCH, np.random.default_rng(1))
        print_concepts(setting, nulls)
        print_checks(setting)
        print_ways(setting, np.random.default_rng(2))


if __name__ == "__main__":
    main()
