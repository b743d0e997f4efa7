"""Whether a review's entries find their concept again after retraining, and nothing else.

    python benchmarks/evidence/matching.py [--work DIR] [--networks market/resnet ...] [--seeds 0 1 2 3] [--untouched]

Trains each network from several seeds on the same images, searches its evidence, and names each concept by the cue that
most of its regions lie on. Every concept that a class loses something without gets an entry, which is matched with all
concepts of the same class in the other seeds' audits. Found again: it matches one on the same cue, of those where there
is one. False: it matches one on another cue or on none. Also against the concepts of other classes, as if another cue
had taken the place of the reviewed one, and with half of the images, or all of them, under other names.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cases import load_case, to_maps
from measures import SIGNATURE_STAGE, match_cues
from networks import WORK, train_all
from torch import Tensor

from salve_audit.demo.training import MEAN, STD
from salve_audit.evidence.findings import assess_evidence
from salve_audit.evidence.looks import RegionSources, describe_looks
from salve_audit.evidence.probe import ProbeOutput
from salve_audit.evidence.search import SearchSettings, find_evidence, judge_with_squares
from salve_audit.reliance.survival import wilson
from salve_audit.results.looks import (
    ConceptLook,
    decode_places,
    encode_places,
    find_nearest,
    is_same_look,
    look_distance,
    place_overlap,
)
from salve_audit.results.transform import TransformSpec

log = logging.getLogger("matching")
DEVELOPMENT = ("market/resnet", "court/resnet")
UNTOUCHED = ("attic/resnet", "quay/resnet")
LEAST_DROP = 0.1  # of a class's accuracy: who would review less
PURE = 0.6  # share of a concept's regions on one cue, for it to be named after it
MIXED = "mixed"  # names a concept whose regions lie on several cues: neither right nor false


@dataclass(frozen=True)
class Named:
    """A concept of one audit: class, cue ("": on none), drop and look."""

    class_index: int
    cue: str
    drop: float
    look: ConceptLook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--networks", nargs="+", default=None, help="WORLD/FAMILY of networks.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--n", type=int, default=60, help="images per class that are examined")
    parser.add_argument("--untouched", action="store_true")
    parser.add_argument(
        "--pairs", type=Path, help="write distances and overlaps of all pairs here, to choose limits by"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    names = arguments.networks or (UNTOUCHED if arguments.untouched else DEVELOPMENT)
    audits = {
        name: [examine(arguments.work, f"{name}/{seed}", arguments.n) for seed in arguments.seeds] for name in names
    }
    print_table(audits)
    if arguments.pairs is not None:
        arguments.pairs.write_text(json.dumps(list(list_pairs(audits))))


def examine(work: Path, unit: str, n: int) -> list[Named]:
    """The concepts of one network, kept."""
    path = work / "looks" / f"{unit.replace('/', '-')}-{n}.json"
    if not path.exists():
        train_all(work, [unit])
        concepts = _examine(work, unit, n)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(
            json.dumps([[c.class_index, c.cue, c.drop, c.look.values, c.look.places] for c in concepts])
        )
        os.replace(temporary, path)
        log.info("%s: %d concepts", unit, len(concepts))
    return [Named(label, cue, drop, ConceptLook(*look)) for label, cue, drop, *look in json.loads(path.read_text())]


def _examine(work: Path, unit: str, n: int) -> list[Named]:
    case = load_case(work, unit, n)

    def probe(images: Tensor) -> ProbeOutput:
        inner = case.net.before(images, SIGNATURE_STAGE)
        return ProbeOutput(case.net.after(inner, SIGNATURE_STAGE), to_maps(inner).detach())

    settings = SearchSettings()
    evidence = find_evidence(probe, case.images, torch.from_numpy(case.labels), settings)
    evidence = judge_with_squares(probe, case.images, evidence, settings.batch_size)
    findings = assess_evidence(evidence, np.random.default_rng(0))
    side = case.images.shape[-1]
    spec = TransformSpec((3, side, side), tuple(MEAN), tuple(STD), "bilinear", 1.0, "matching")
    sources = RegionSources(
        lambda rows: case.images[torch.from_numpy(rows)], lambda row: f"{case.labels[row]}/{row % n}.png", spec
    )
    looks = describe_looks(findings, evidence, sources)
    named = []
    for index, (_, look) in looks.items():
        concept = findings.concepts[index]
        cues = match_cues(evidence, concept, case.cue_masks.masks[concept.images])
        values, counts = np.unique(cues, return_counts=True)
        best = int(values[counts.argmax()])
        cue = MIXED if counts.max() < PURE * len(cues) else "" if best < 0 else case.cue_masks.cues[best]
        named.append(Named(concept.label, cue, concept.effect[concept.label].value, look))
    return named


def with_other_images(look: ConceptLook, part: float) -> ConceptLook:
    """The look as it would be had this part of the images other names."""
    places = decode_places(look.places)
    kept = dict(list(places.items())[round(part * len(places)) :])
    return ConceptLook(look.values, encode_places(kept))


@dataclass
class Tally:
    """Counts of entries with something to be found, of those found, of chances to be wrong, and of wrong matches."""

    n: int = 0
    found: int = 0
    n_false: int = 0
    false: int = 0


def count_matches(audits: Sequence[Sequence[Named]], exchanged: float) -> Tally:
    """Match all entries of each seed's audit with the concepts of the same class in every other seed's."""
    tally = Tally()
    for old, new in itertools.permutations(audits, 2):
        for entry in _worth_review(old):
            same = [c for c in new if c.class_index == entry.class_index and c.drop >= LEAST_DROP]
            nearest = find_nearest(with_other_images(entry.look, exchanged), [c.look for c in same])
            there = any(c.cue == entry.cue for c in same)
            tally.n += there
            tally.found += there and nearest is not None and same[nearest].cue == entry.cue
            tally.n_false += 1
            tally.false += nearest is not None and same[nearest].cue not in (entry.cue, MIXED)
    return tally


def count_intruders(audits: Sequence[Sequence[Named]]) -> Tally:
    """Match every entry with each concept of other classes on another cue, as if that were all that its class has."""
    tally = Tally()
    for old, new in itertools.permutations(audits, 2):
        for entry, other in itertools.product(_worth_review(old), _worth_review(new)):
            if other.class_index != entry.class_index and other.cue != entry.cue:
                tally.n_false += 1
                tally.false += is_same_look(entry.look, other.look)
    return tally


def _worth_review(concepts: Sequence[Named]) -> list[Named]:
    return [concept for concept in concepts if concept.drop >= LEAST_DROP and concept.cue != MIXED]


def list_pairs(audits: Mapping[str, Sequence[Sequence[Named]]]) -> Iterator[list[object]]:
    """Network, whether the classes agree, whether the cues do, distance, shared images and overlap of every pair."""
    for name, seeds in audits.items():
        for old, new in itertools.permutations(seeds, 2):
            for a, b in itertools.product(_worth_review(old), _worth_review(new)):
                shared, overlap = place_overlap(a.look.places, b.look.places)
                distance = look_distance(a.look.values, b.look.values)
                yield [name, a.class_index == b.class_index, a.cue, b.cue, distance, shared, overlap]


def print_table(audits: Mapping[str, Sequence[Sequence[Named]]]) -> None:
    """Found again and false matches of every network and of all, by share of images exchanged."""
    heads = ("networks", "images exchanged", "found again [95 %]", "false matches [95 %]", "another class's cue [95 %]")
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for name in (*audits, "all"):
        chosen = list(audits.values()) if name == "all" else [audits[name]]
        far = _sum(count_intruders(seeds) for seeds in chosen)
        for exchanged in (0.0, 0.5, 1.0):
            own = _sum(count_matches(seeds, exchanged) for seeds in chosen)
            cells = [_share(own.found, own.n), _share(own.false, own.n_false), _share(far.false, far.n_false)]
            print(f"| {name} | {exchanged:.0%} | {' | '.join(cells)} |")


def _sum(tallies: Iterator[Tally]) -> Tally:
    total = Tally()
    for part in tallies:
        total = Tally(*(getattr(total, key) + getattr(part, key) for key in ("n", "found", "n_false", "false")))
    return total


def _share(hits: int, n: int) -> str:
    if not n:
        return "–"
    low, high = wilson(hits, n)
    return f"{hits / n:.3f} [{low:.3f}, {high:.3f}] of {n}"


if __name__ == "__main__":
    main()
