"""What removing a concept from the weights does, against really leaving its cue out of the images.

    python benchmarks/evidence/projection.py [--work DIR] [--seeds 0 1 ...] [--untouched] [--table-only]

Takes the networks of `ranking.py`. On the first 60 images of every class evidence is found and the strongest concept
of each class becomes a projection, as an audit does it; the next 40 are for measuring, at strength 1: the drop
of its class beside the true drop of the cue that the concept lies on, which images are misclassified, and what the
other classes lose. Rivals: the orthogonal projection on the same directions, on the concept's signature, on random
directions.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cases import Case, load_case
from measures import match_cues
from networks import UNTOUCHED_ARCH, WORK, network_path
from worlds import SIDE, UNTOUCHED_AGAIN, UNTOUCHED_WORLD, worlds

from salve_audit.evidence.findings import ConceptFinding, assess_evidence
from salve_audit.evidence.probe import watch_network
from salve_audit.evidence.projection import ConceptProjection
from salve_audit.evidence.projection_fitting import project_concepts
from salve_audit.evidence.search import Evidence, SearchSettings, find_evidence
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.search import find_head
from salve_audit.results.transform import TransformSpec
from salve_audit.spatial.blocks import first_block
from salve_audit.spatial.layers import find_spatial_layers
from salve_audit.spatial.readers import require_foldable_layer

N_FIT, N_ALL = 60, 100  # images per class
N_DRAWS = 2000
STRONG = 0.5  # true drop
COLUMNS = ("error", "strong", "true_strong", "weak", "true_weak", "agree", "others", "worst")


@dataclass(frozen=True)
class Fitted:
    """A concept of a network: its class, the cue that its regions lie on, and its projection."""

    label: int
    cue: int
    concept: ConceptFinding
    projection: ConceptProjection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--untouched", action="store_true", help="the world and the family that nothing was chosen on")
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    units = list(list_units(arguments.work, arguments.seeds, arguments.untouched))
    for unit in () if arguments.table_only else units:
        measure_unit(arguments.work, unit)
    print_table(arguments.work, units)


def list_units(work: Path, seeds: list[int], untouched: bool) -> Iterator[str]:
    """ "world/arch/seed" of those that have been trained; transformers have no layer that folds."""
    for world in worlds():
        for arch in ("resnet", UNTOUCHED_ARCH):
            aside = world == UNTOUCHED_WORLD or arch == UNTOUCHED_ARCH
            for seed in seeds:
                unit = f"{world}/{arch}/{seed}"
                if world != UNTOUCHED_AGAIN and aside == untouched and network_path(work, unit).exists():
                    yield unit


def score_path(work: Path, unit: str) -> Path:
    return work / "projections" / f"{unit.replace('/', '-')}.json"


def measure_unit(work: Path, unit: str) -> None:
    """Measures and keeps the scores of one network, unless they are there."""
    path = score_path(work, unit)
    if path.exists():
        return
    case = load_case(work, unit, N_ALL)
    classifier = as_classifier(case)
    layer, fitted = fit_all(case, classifier)
    scores: dict[str, list[dict[str, float]]] = {}
    for fitted_concept in fitted:
        for name, matrix in rivals(fitted_concept).items():
            scores.setdefault(name, []).append(measure(case, classifier, layer, fitted_concept, matrix))
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps({"layer": layer, "scores": scores}))
    os.replace(temporary, path)
    print(f"{unit}: {len(fitted)} concepts at {layer}", flush=True)


def as_classifier(case: Case) -> Classifier:
    model = case.net.model.eval().requires_grad_(False)
    reader = find_head(model, (3, SIDE, SIDE))
    spec = TransformSpec((3, SIDE, SIDE), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0, "benchmark")
    return Classifier(
        model, case.net.arch, "benchmark", Path(case.unit), "", reader.name, spec, None, False, (), head_reader=reader
    )


def fit_all(case: Case, classifier: Classifier) -> tuple[str, list[Fitted]]:
    """The layer and the strongest concepts on planted cues, from the first images of each class."""
    rows = np.concatenate([np.flatnonzero(case.labels == k)[:N_FIT] for k in range(case.n_classes)])
    images, labels = case.images[torch.from_numpy(rows)], torch.from_numpy(case.labels[rows])
    layer = first_block(classifier.model, find_spatial_layers(classifier, images))
    with watch_network(classifier, layer) as probe:
        evidence = find_evidence(probe, images, labels, SearchSettings())
    findings = assess_evidence(evidence, np.random.default_rng(0))
    projections = project_concepts(classifier, layer, evidence, findings, lambda some: images[torch.from_numpy(some)])
    fitted = []
    for index, projection in projections.projections.items():
        concept = findings.concepts[index]
        cue = _match_cue(case, rows, evidence, concept)
        if cue is not None:
            fitted.append(Fitted(concept.label, cue, concept, projection))
    return projections.layer, fitted


def _match_cue(case: Case, rows: np.ndarray, evidence: Evidence, concept: ConceptFinding) -> int | None:
    """The cue of its class that most of the concept's regions cover by half."""
    matched = match_cues(evidence, concept, case.cue_masks.masks[rows[concept.images]])
    cues, counts = np.unique(matched, return_counts=True)
    best = int(cues[counts.argmax()])
    return best if best >= 0 and case.cue_masks.owned[concept.label, best] else None


def rivals(fitted: Fitted) -> Mapping[str, np.ndarray]:
    """By name, what the layer's channels are multiplied by."""
    d = fitted.projection.directions.shape[1]
    random = np.random.default_rng(fitted.label).normal(size=fitted.projection.directions.shape)
    matrices = {
        "oblique (default)": fitted.projection.matrix(1.0),
        "orthogonal, same directions": _orthogonal(fitted.projection.directions),
        "random directions": _orthogonal(random),
    }
    if len(fitted.concept.centre) == d:  # the layer that evidence was looked at
        matrices["orthogonal, signature"] = _orthogonal(fitted.concept.centre[None])
    return matrices


def _orthogonal(directions: np.ndarray) -> np.ndarray:
    basis = np.linalg.qr(directions.T)[0]
    return np.asarray(np.eye(len(basis)) - basis @ basis.T)


def measure(case: Case, classifier: Classifier, layer: str, fitted: Fitted, matrix: np.ndarray) -> dict[str, float]:
    """On the images that nothing was fitted on, with the change in the weights of the layer's readers."""
    held = np.concatenate([np.flatnonzero(case.labels == k)[N_FIT:] for k in range(case.n_classes)])
    place = require_foldable_layer(classifier, case.images[:4], layer)
    with torch.no_grad(), place.changing(classifier.model, matrix):
        logits = torch.cat([classifier.model(part) for part in torch.split(case.images[torch.from_numpy(held)], 200)])
    labels, before = case.labels[held], case.right[held]
    after, flips = logits.argmax(1).numpy() == labels, case.flips[held, fitted.cue]
    own = labels == fitted.label
    lost = {
        k: float(before[labels == k].mean() - after[labels == k].mean())
        for k in range(case.n_classes)
        if not case.cue_masks.owned[k, fitted.cue]  # who shares the cue loses it rightly
    }
    return {
        "drop": float(before[own].mean() - after[own].mean()),
        "true": float(flips[own].mean()),
        "agree": float(((before & ~after) == flips)[own & before].mean()),
        "others": float(np.mean(list(lost.values()))),
        "worst": max(lost.values()),
    }


def print_table(work: Path, units: list[str]) -> None:
    """One line per way of projecting: means over concepts, 95 % bootstrap intervals over networks."""
    groups = {"all": units}
    for part in range(2):
        groups |= {key: [unit for unit in units if unit.split("/")[part] == key] for key in _keys(units, part)}
    for group, members in groups.items():
        records = [json.loads(score_path(work, member).read_text())["scores"] for member in members]
        names = list(dict.fromkeys(name for record in records for name in record))
        print(f"\n### {group}: {len(records)} networks\n\n| projection | concepts | {' | '.join(COLUMNS)} |")
        print("|---" * (len(COLUMNS) + 2) + "|")
        for name in names:
            scores = [record[name] for record in records if name in record]
            cells = [_cell(scores, column) for column in COLUMNS]
            print(f"| {name} | {sum(map(len, scores))} | {' | '.join(cells)} |")


def _keys(units: list[str], part: int) -> list[str]:
    return list(dict.fromkeys(unit.split("/")[part] for unit in units))


def _cell(scores: list[list[dict[str, float]]], column: str) -> str:
    values = [
        [value for scores_of_class in network for value in _values(scores_of_class, column)] for network in scores
    ]
    rng, flat = np.random.default_rng(0), [scores_of_class for network in values for scores_of_class in network]
    if not flat:
        return "–"
    drawn = []
    for picks in rng.integers(len(values), size=(N_DRAWS, len(values))):
        some = [value for pick in picks for value in values[pick]]
        drawn.append(np.mean(some) if some else np.nan)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return f"{np.mean(flat):.2f} [{low:.2f}, {high:.2f}]"


def _values(scores: dict[str, float], column: str) -> list[float]:
    if column == "error":
        return [abs(scores["drop"] - scores["true"])]
    if column in scores:
        return [scores[column]]
    strong, key = column.endswith("strong"), "true" if column.startswith("true") else "drop"
    return [scores[key]] if (scores["true"] > STRONG) == strong else []


if __name__ == "__main__":
    main()
