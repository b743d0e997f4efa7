"""Removing a concept's latents instead of its pieces: how near that comes to the truth, for networks of `depth.py`.

    python benchmarks/depth_latents_pieces.py [--work DIR] [--seeds 0 1] [--n 60] [--untouched] [--ways NAME ...]

For each class and the concept it rests on most, latents of a dictionary are chosen by the concept's pieces and taken
out of a layer. Their drops, of the class and of all others, are held against those of leaving the cue out of the
pictures, and against random latents.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from depth_cases import Case, Found, auroc, load_case, spearman
from depth_latents import Setup, codes_of, set_up
from depth_measures import probe_case
from depth_networks import network_path

from salve_audit.reliance.depth.assess import ConceptFinding, DepthFindings, assess_depth, mask_of, piece_effects
from salve_audit.reliance.depth.evidence import Evidence, SearchSettings, find_evidence
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.latents import (
    DictionarySettings,
    LossTerms,
    PieceSearch,
    as_removals,
    choose_by_loss,
    choose_by_presence,
    cover_positions,
    random_groups,
    remove_each,
)
from salve_audit.reliance.depth.latents.groups import Latents
from salve_audit.reliance.depth.regions import to_pixels

log = logging.getLogger("depth_latents")
N_RANDOM = 3
CHOSEN_BY = 30  # pictures of the concept


@dataclass(frozen=True)
class Way:
    """How a concept's latents are found.

    Attributes:
        stage: the layer.
        settings: of the dictionary.
        by: "presence" or "loss".
        search: of the latents.
    """

    stage: int = 2
    settings: DictionarySettings = field(default_factory=DictionarySettings)
    by: str = "loss"
    search: PieceSearch = field(default_factory=PieceSearch)


def find_pieces(case: Case) -> tuple[Evidence, DepthFindings]:
    evidence = find_evidence(probe_case(case), case.images, torch.from_numpy(case.labels), SearchSettings())
    return evidence, assess_depth(evidence, np.random.default_rng(0))


def choose_latents(case: Case, setup: Setup, evidence: Evidence, concept: ConceptFinding, way: Way) -> Latents:
    rows, keep = np.unique(concept.pictures, return_index=True)
    rows, keep = rows[:CHOSEN_BY], keep[:CHOSEN_BY]
    masks = torch.zeros(len(rows), *evidence.regions.shape[2:], dtype=torch.bool)
    cells = mask_of(evidence, concept)
    for place, row in enumerate(rows):
        masks[place] = cells[torch.from_numpy(concept.pictures == row)].any(0)
    codes = codes_of(setup, rows).flatten(1, 2)
    if way.by == "presence":
        return choose_by_presence(codes, cover_positions(masks, setup.grid), way.search)
    size = (case.images.shape[2], case.images.shape[3])
    images = case.images[torch.from_numpy(rows)]
    filled = fill_regions(images, to_pixels(masks[:, None].float(), size))
    layout, cut = setup.tail.cut.layer.layout, setup.tail.cut
    lost = layout.to_positions(cut.run(images).output) - layout.to_positions(cut.run(filled).output)
    other = np.flatnonzero((case.labels != concept.label) & case.right)
    other = other[np.linspace(0, len(other) - 1, 40).astype(int)]
    others = codes_of(setup, other).flatten(1, 2)
    shown, elsewhere = LossTerms.of(setup.dictionary, codes, lost), LossTerms.of(setup.dictionary, others)
    return choose_by_loss(setup.dictionary, shown, elsewhere, way.search)


def measure_by_pieces(case: Case, way: Way | None = None) -> Found:
    """Drop of each class without the latents of the concept it rests on most."""
    way = way or Way()
    evidence, findings = find_pieces(case)
    setup = set_up(case, way.stage, way.settings)
    reliance, sample = np.zeros(case.n_classes), np.zeros(len(case.labels))
    for one in findings.classes:
        rows = np.flatnonzero(case.labels == one.label)
        chosen: Latents = ()
        if one.concept is not None:
            chosen = choose_latents(case, setup, evidence, findings.concepts[one.concept], way)
        clean, changed = remove_each(setup.tail, as_removals(setup.dictionary, [chosen]), rows)
        reliance[one.label] = ((changed[0] <= 0) & (clean > 0)).mean()
        sample[rows] = -changed[0]
    return Found(reliance, sample, evidence.n_passes + setup.n_passes + setup.tail.n_passes)


def compare(case: Case, ways: Mapping[str, Way], n_seeds: int = 1) -> dict[str, list[dict[str, Any]]]:
    """For every way, a row per class that has a concept: drops against the truth of the cue it is."""
    evidence, findings = find_pieces(case)
    setups: dict[tuple[int, DictionarySettings], Setup] = {}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for name, way in ways.items():
        for seed in range(n_seeds):
            settings = replace(way.settings, seed=seed)
            key = (way.stage, settings)
            if key not in setups:
                setups[key] = set_up(case, *key)
            start = time.process_time()
            for one in findings.classes:
                if one.concept is None:
                    continue
                concept = findings.concepts[one.concept]
                chosen = choose_latents(case, setups[key], evidence, concept, way)
                row = _compare_one(case, setups[key], evidence, concept, chosen)
                rows[name].append({**row, "seed": seed, "r2": setups[key].dictionary.quality.r2})
            log.info("%s, %s: %.1f s", case.unit, name, time.process_time() - start)
    return rows


def _compare_one(
    case: Case, setup: Setup, evidence: Evidence, concept: ConceptFinding, chosen: Latents
) -> dict[str, Any]:
    drawn = random_groups(setup.dictionary, max(1, len(chosen)), N_RANDOM, np.random.default_rng(concept.label))
    removals = as_removals(setup.dictionary, [chosen, *drawn])
    clean, changed = remove_each(setup.tail, removals, np.arange(len(case.labels)))
    turned = (changed <= 0) & (clean > 0)
    drops = np.array([turned[:, case.labels == k].mean(1) for k in range(case.n_classes)]).T  # (r, k)
    own, cue = concept.label, cue_of(case, evidence, concept)
    owners = [] if cue is None else [k for k in range(case.n_classes) if k != own and case.pictures.owned[k, cue]]
    free = [k for k in range(case.n_classes) if k != own and k not in owners]
    mine = case.labels == own
    return {
        "class": own,
        "cue": cue,
        "chosen": len(chosen),
        "drop": drops[0, own],
        "null": drops[1:, own].mean(),
        "pieces": float(piece_effects(evidence, concept)[mine].mean()),
        "truth": None if cue is None else case.drop[own, cue],
        "largest": float(np.nanmax(case.drop[own])) if case.pictures.owned[own].any() else None,
        "free": drops[0, free].mean(),
        "worst": drops[0, free].max(),
        "null_free": drops[1:, free].mean(),
        "shared": [(drops[0, k], case.drop[k, cue]) for k in owners],
        "picture": None if cue is None else auroc(-changed[0, mine & case.right], case.flips[mine & case.right, cue]),
    }


def cue_of(case: Case, evidence: Evidence, concept: ConceptFinding) -> int | None:
    """The cue that more than half of the concept's pieces cover by half."""
    cells = mask_of(evidence, concept)
    masks = case.pictures.masks
    pixels = torch.nn.functional.interpolate(cells[:, None].float(), masks.shape[2:])[:, 0] > 0
    here = masks[concept.pictures]
    covered = (here & pixels.numpy()[:, None]).sum((2, 3)) / np.maximum(here.sum((2, 3)), 1)
    cues = np.where(covered.max(1) >= 0.5, covered.argmax(1), -1)
    values, counts = np.unique(cues, return_counts=True)
    best = int(counts.argmax())
    if values[best] < 0 or counts[best] <= len(cues) / 2 or not case.pictures.owned[concept.label, values[best]]:
        return None
    return int(values[best])


def _ways() -> dict[str, Way]:
    """By how they find latents, the dictionary, and what changes elsewhere weigh."""
    sizes = {f"{m}/{k}": DictionarySettings(n_latents=m, n_active=k) for m, k in ((32, 3), (64, 4), (128, 8), (256, 8))}
    ways = {"chosen": Way()}
    for size, settings in sizes.items():
        for weight in (0.0, 0.1, 0.3, 1.0, 3.0):
            search = PieceSearch(8, 0.01, weight)
            ways[f"loss, {size}, others {weight}"] = Way(settings=settings, search=search)
        ways[f"presence, {size}"] = Way(settings=settings, by="presence")
    for stage in (1, 3, 4):
        ways[f"loss, stage {stage}"] = Way(stage)
    for variant in ("batchtopk", "matryoshka"):
        ways[f"loss, {variant}"] = Way(settings=replace(sizes["64/4"], variant=variant))
    return ways


WAYS = _ways()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".depth")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--untouched", action="store_true")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--dictionary-seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="units that start with this")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    log.setLevel(logging.INFO)
    torch.set_num_threads(1)
    from depth import list_units

    units = list_units(arguments.seeds, ["resnet", "vit", "convnext"], arguments.untouched)
    units = [one for one in units if one.startswith(arguments.only) and network_path(arguments.work, one).exists()]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.ways}
    for unit in units:
        for name, rows in _kept(arguments, unit).items():
            found[name] += [{**row, "unit": unit} for row in rows]
    print_table(found)


def _kept(arguments: argparse.Namespace, unit: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of one network, measured now where they are not in the folder yet."""
    folder = arguments.work / "latents" / unit.replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        name: folder / f"{name.replace(chr(47), chr(45))}-{arguments.n}-{arguments.dictionary_seeds}.json"
        for name in arguments.ways
    }
    missing = {name: WAYS[name] for name, path in paths.items() if not path.exists()}
    if missing:
        case = load_case(arguments.work, unit, arguments.n)
        for name, rows in compare(case, missing, arguments.dictionary_seeds).items():
            temporary = paths[name].with_suffix(".part")
            temporary.write_text(json.dumps(rows, default=float))
            os.replace(temporary, paths[name])
    return {name: json.loads(path.read_text()) for name, path in paths.items()}


def print_table(found: Mapping[str, list[dict[str, Any]]]) -> None:
    """A line per way; drops are means over classes, `shared` over classes that own the cue besides."""
    columns = "way | classes | R² | latents | drop | truth | error | ρ | by pieces: drop, error | random | per picture"
    columns += " | others: mean, worst, random | shared: drop, truth, error (n)"
    print(f"| {columns} |\n{'|---' * (columns.count(' | ') + 1)}|")
    for name, every in found.items():
        rows = [one for one in every if one["truth"] is not None]
        if rows:
            print(f"| {name} | {' | '.join(_cells(rows))} |")


def _cells(rows: list[dict[str, Any]]) -> Iterator[str]:
    def mean(key: str) -> float:
        return float(np.mean([one[key] for one in rows if one[key] is not None and not np.isnan(one[key])] or [np.nan]))

    units = sorted({one["unit"] for one in rows})
    ranks = [_rank([one for one in rows if one["unit"] == unit]) for unit in units]
    shared = np.array([pair for one in rows for pair in one["shared"]]).reshape(-1, 2)
    yield str(len(rows))
    yield f"{mean('r2'):.2f}"
    yield f"{mean('chosen'):.1f}"
    yield f"{mean('drop'):.2f}"
    yield f"{mean('truth'):.2f}"
    yield f"{np.mean([abs(one['drop'] - one['truth']) for one in rows]):.2f}"
    yield f"{np.nanmean(ranks):.2f}"
    yield f"{mean('pieces'):.2f}, {np.mean([abs(one['pieces'] - one['truth']) for one in rows]):.2f}"
    yield f"{mean('null'):.2f}"
    yield f"{mean('picture'):.2f}"
    yield f"{mean('free'):.3f}, {mean('worst'):.2f}, {mean('null_free'):.3f}"
    if len(shared):
        off = np.abs(shared[:, 0] - shared[:, 1]).mean()
        yield f"{shared[:, 0].mean():.2f}, {shared[:, 1].mean():.2f}, {off:.2f} ({len(shared)})"
    else:
        yield "–"


def _rank(rows: list[dict[str, Any]]) -> float:
    if len(rows) < 3:
        return float("nan")
    return spearman(np.array([one["drop"] for one in rows]), np.array([one["truth"] for one in rows]))


if __name__ == "__main__":
    main()
