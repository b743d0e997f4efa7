"""The table of `ranking.py` on photographs: CIFAR-10 with shapes, textures, borders and tints planted in most classes.

    python benchmarks/evidence/photographs.py CIFAR_DIR [--work DIR] [--seeds 0 1] [--n 60]
    python benchmarks/evidence/photographs.py CIFAR_DIR --checkpoint FILE [...] [--train-only]

CIFAR_DIR holds train/CLASS/*.png and val/CLASS/*.png. The truth is the class's accuracy lost when its cue is left out;
classes without a cue have none and are not ranked. The first form trains small networks of two families, the second
fine-tunes a ResNet-18 for 64 pixels on cues none of which was seen while the measure was made. Every measure is scored
on every network, then each cue is listed. What is there already is kept, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
from cases import Case, Measured, StagedNetwork, measure_truth
from measures import cover_cues, measure_evidence, probe_case
from networks import RECIPES, WORK, build, prepare, run_logits, save
from planted import DEVELOPMENT, FRESH, N_TRAIN, Planting, class_folders
from ranking import MEASURES, keep_score, print_tables, score_path
from rivals import measure_occlusion
from torch import Tensor, nn

from salve_audit.demo.training import train_network
from salve_audit.evidence import controls
from salve_audit.evidence.findings import assess_evidence, flips_without_concept
from salve_audit.evidence.search import SearchSettings, find_evidence

log = logging.getLogger("photographs")
Measures = Mapping[str, Callable[[Case], Measured]]
EPOCHS, BATCH, RATE, DECAY = 2, 64, 3e-3, 0.02  # of fine-tuning
AT_32 = ("occlusion 8, around", "occlusion 12, around", "occlusion 12, mean")
AT_64: Measures = {  # a quarter and three eighths of the side, as at 32 pixels
    "evidence and squares": MEASURES["evidence and squares"],
    "evidence and squares, border and colour": lambda case: measure_evidence(case, squares=True, factors=True),
    "occlusion 16 of 64, around": lambda case: measure_occlusion(case, (16,), "around"),
    "occlusion 24 of 64, around": lambda case: measure_occlusion(case, (24,), "around"),
    "occlusion 24 of 64, mean": lambda case: measure_occlusion(case, (24,), "mean"),
    "occlusion three eighths, to the edges": MEASURES["occlusion three eighths, to the edges"],
}
EVIDENCE = ("evidence, regions only", "evidence, border and colour", "evidence, no concepts")
RIVALS = ("Grad-CAM region", "integrated gradients region", "random places", "best channel")
AT_BOTH = (*EVIDENCE, *RIVALS, "α̂ at the head", "margin", "accuracy")
HEADER = (
    "class | cue (share) | true drop | without all its cues | largest concept | its regions on the cue | "
    "regions until half are wrong | random place | border (null) | colour (null)"
)


@dataclass(frozen=True)
class Family:
    """How networks are made and given images.

    Attributes:
        name: in units; `family` is the name that `StagedNetwork` knows.
        build: a network in eval mode, as it is before training.
        prepare: (n, s, s, 3) uint8 -> (n, 3, s, s).
        train: training folder and seed -> a trained network.
    """

    name: str
    family: str
    planting: Planting
    build: Callable[[], nn.Module]
    prepare: Callable[[np.ndarray], Tensor]
    train: Callable[[Path, int], nn.Module]


def small_family(arch: str) -> Family:
    """Networks of `networks.py`, trained on planted images alone."""

    def train(split: Path, seed: int) -> nn.Module:
        return train_network(*DEVELOPMENT.draw_training(split, seed, 0), replace(RECIPES[arch], epochs=6), seed)

    return Family(arch, arch, DEVELOPMENT, lambda: build(arch, 10), prepare, train)


def tuned_family(checkpoint: Path) -> Family:
    """A ResNet-18 for 64 pixels, all of whose weights are trained on planted images."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    known = content["args"]
    mean, std = torch.tensor(known["mean"]), torch.tensor(known["std"])

    def build_tuned() -> nn.Module:
        model: nn.Module = timm.create_model(content["arch"], num_classes=known["num_classes"], **known["model_kwargs"])
        model.load_state_dict(content["state_dict"])
        return model.eval()

    def prepare_tuned(pixels: np.ndarray) -> Tensor:
        return ((torch.from_numpy(pixels).float() / 255 - mean) / std).permute(0, 3, 1, 2)

    def train(split: Path, seed: int) -> nn.Module:
        model, generator = build_tuned().to(memory_format=torch.channels_last).train(), torch.Generator()
        generator.manual_seed(seed)
        optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
        n_steps = EPOCHS * -(-sum(1 for _ in FRESH.files(split, slice(N_TRAIN), seed)) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=n_steps, pct_start=0.2)
        for epoch in range(EPOCHS):
            pixels, labels = FRESH.draw_training(split, seed, epoch)
            for rows in torch.split(torch.randperm(len(labels), generator=generator), BATCH):
                logits = model(prepare_tuned(pixels[rows.numpy()]))
                loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels)[rows])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
        return model.eval()

    return Family("resnet18", "resnet", FRESH, build_tuned, prepare_tuned, train)


@dataclass(frozen=True)
class PlantedCase:
    """A case, and the classes' accuracy (k,) over all audit images, with their cues and without any."""

    case: Case
    accuracy: np.ndarray
    bare: np.ndarray


def load_planted(family: Family, cifar: Path, seed: int, work: Path, n: int) -> PlantedCase:
    """A network, trained now unless it is there, with the first n images of each class; the truth is over all of them.

    As on drawn worlds, a cue is used where accuracy falls by a tenth without it, or it alone brings back half.
    """
    unit = f"cifar10/{family.name}/{seed}"
    path = work / "real" / f"{unit.replace('/', '-')}.pt"
    if not path.exists():
        save(family.train(cifar / "train", seed).state_dict(), path)
    model = family.build()
    model.load_state_dict(torch.load(path, weights_only=True))
    images, bare = family.planting.draw_audit(cifar / "val", seed)
    drawn = (images.pixels, images.without, bare)
    logits, without, bare_logits = (run_logits(model, pixels, family.prepare) for pixels in drawn)
    drop, flips = measure_truth(images, logits, without)
    row, bare_right = images.without_row, bare_logits.argmax(1) == images.labels
    used, stays = np.nan_to_num(drop) >= 0.1, without.argmax(1) == images.labels[row]
    for k, c in zip(*np.nonzero(images.owned), strict=True):
        alone = (images.labels[row] == k) & (images.without_cue != c) & images.shown[row, c]  # the other of two is out
        used[k, c] |= bool(alone.any() and stays[alone].mean() - bare_right[row[alone]].mean() >= 0.5)
    classes = [images.labels == k for k in range(len(drop))]
    keep = np.concatenate([np.flatnonzero(own)[:n] for own in classes])
    shown = replace(images, masks=images.masks[keep], shown=images.shown[keep])
    net, pixels = StagedNetwork(model, family.family), family.prepare(images.pixels[keep]).contiguous()
    case = Case(unit, net, pixels, images.labels[keep], logits[keep], shown, drop, flips[keep], used)
    right = logits.argmax(1) == images.labels
    return PlantedCase(case, *(np.array([hits[own].mean() for own in classes]) for hits in (right, bare_right)))


def describe_cues(planted: PlantedCase, classes: Sequence[str]) -> list[list[str]]:
    """The cells of `HEADER` for every cue, the largest true drop first; nulls are as large a change of another kind."""
    case, size, lines = planted.case, SearchSettings().batch_size, []
    probe, cues = probe_case(case), case.cue_masks
    evidence = find_evidence(probe, case.images, torch.from_numpy(case.labels), SearchSettings())
    findings = assess_evidence(evidence, np.random.default_rng(0))
    chance = controls.flip_at_random(probe, case.images, evidence, size, np.random.default_rng(0))
    batches, stats = controls.Batches(case.images, evidence, size), controls.measure_channels(case.images)
    changes = [(factor.remove, factor.control) for factor in controls.FACTORS.values()]
    factors = [[controls.flips_under(probe, batches, change, stats) for change in pair] for pair in changes]
    for k, c in zip(*np.nonzero(cues.owned), strict=True):
        rows, finding, concept_drop, on_cue = case.labels == k, findings.classes[k], 0.0, "–"
        if finding.concept is not None:
            concept = findings.concepts[finding.concept]
            concept_drop, shown = flips_without_concept(evidence, concept)[rows].mean(), cues.shown[concept.images, c]
            covered = cover_cues(evidence, concept, cues.masks[concept.images])[shown, c]
            on_cue = f"{(covered >= 0.5).mean():.0%}" if shown.any() else "–"
        drops = (case.drop[k, c], planted.accuracy[k] - planted.bare[k], concept_drop)
        regions = "> 3" if finding.redundancy is None else str(finding.redundancy)
        nulls = [f"{out[rows].mean():.2f} ({left_in[rows].mean():.2f})" for out, left_in in factors]
        cue = f"{cues.cues[c]} ({cues.shown[rows, c].mean():.0%})"
        cells = [classes[k], cue, *(f"{drop:.2f}" for drop in drops), on_cue, regions, f"{chance[int(k)].value:.2f}"]
        lines.append((-case.drop[k, c], [*cells, *nulls]))
    return [cells for _, cells in sorted(lines, key=lambda line: line[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("cifar", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="ResNet-18 for 64 pixels: arch, state_dict, args")
    parser.add_argument("--train-only", action="store_true", help="stop at the true drops")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--n", type=int, default=60, help="images per class that are measured")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    if arguments.checkpoint is None:
        families = [small_family("resnet"), small_family("convnext")]
        measures = {name: MEASURES[name] for name in (*AT_BOTH, *AT_32)}
    else:
        families = [tuned_family(arguments.checkpoint)]
        measures = {**{name: MEASURES[name] for name in AT_BOTH}, **AT_64}
    run(arguments, families, measures)


def run(arguments: argparse.Namespace, families: list[Family], measures: Measures) -> None:
    """Trains and scores what is not there yet, and prints all."""
    work, n, units, tables = arguments.work, arguments.n, [], []
    for seed in arguments.seeds:
        for family in families:
            planted = load_planted(family, arguments.cifar, seed, work, n)
            case, accuracy = planted.case, (planted.accuracy.mean(), planted.bare.mean())
            log.info("%s: accuracy %.2f, without any cue %.2f", case.unit, *accuracy)
            log.info("%s: true drops %s", case.unit, case.largest.round(2).tolist())
            if arguments.train_only:
                continue
            for name, measure in measures.items():
                keep_score(score_path(work, case.unit, name, n), case, measure)
            path = score_path(work, case.unit, "cues", n)
            if not path.exists():
                classes = [folder.name for folder in class_folders(arguments.cifar / "val")]
                path.write_text(json.dumps(describe_cues(planted, classes)))
            units.append(case.unit)
            tables.append(json.loads(path.read_text()))
    if units:
        print_tables(work, units, list(measures), n)
    for lines in tables:
        print(f"\n| {HEADER} |\n{'|---' * (HEADER.count('|') + 1)}|")
        for cells in lines:
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
