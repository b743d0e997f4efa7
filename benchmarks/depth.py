"""How well measures of reliance at depth rank what networks really rest on: one table, from networks with known truth.

    python benchmarks/depth.py [--work DIR] [--seeds 5] [--n 60] [--untouched | --untouched-again] [--measures NAME ...]

Draws worlds, trains small networks of four families on them, leaves each cue out of the pictures for the truth, and
scores every measure. Networks and scores are kept in DIR, so that an interrupted run goes on where it stopped.
Without ``--untouched`` two worlds and two families are left aside; one of each is for the measure that was chosen
first, once, and with ``--untouched-again`` the other of each for what was chosen after that.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import depth_rivals as rivals
import numpy as np
import torch
from depth_cases import Case, Found, judge, load_case
from depth_latents import MEASURES as LATENTS
from depth_latents_pieces import measure_by_pieces
from depth_measures import measure_evidence, measure_pieces, measure_squares, measure_with_wholes
from depth_networks import RECIPES, UNTOUCHED_ARCH, UNTOUCHED_ARCH_AGAIN, network_path, train_all
from depth_worlds import UNTOUCHED_AGAIN, UNTOUCHED_WORLD, worlds

from salve_audit.reliance.depth.evidence import SearchSettings

log = logging.getLogger("depth")
DEFAULT = SearchSettings()
N_DRAWS = 2000
COLUMNS = ("spearman", "auroc", "error", "sample_auroc", "named", "passes", "seconds")


def _variant(stage: int = 2, **changes: float) -> Callable[[Case], Found]:
    settings = SearchSettings(**{**vars(DEFAULT), **changes})
    return lambda case: measure_evidence(case, settings, stage)


MEASURES: Mapping[str, Callable[[Case], Found]] = {
    "evidence, pieces only": _variant(),
    "evidence and squares": lambda case: measure_squares(case, DEFAULT),
    "evidence, frame and colour": lambda case: measure_with_wholes(case, DEFAULT),
    "evidence, no concepts": lambda case: measure_pieces(case, DEFAULT),
    "evidence, not merged": _variant(merged=False),
    "evidence, 3 steps": _variant(n_steps=3),
    "evidence, 4 steps": _variant(n_steps=4),
    "evidence, not grown": _variant(n_grown=0),
    "evidence, grown twice": _variant(n_grown=2),
    "evidence, margin 1": _variant(margin=1),
    "evidence, margin 3": _variant(margin=3),
    "evidence, share 0.15": _variant(share=0.15),
    "evidence, share 0.4": _variant(share=0.4),
    "evidence, spread 0.7": _variant(spread=0.7),
    "evidence, told apart at stage 1": _variant(stage=1),
    "evidence, told apart at stage 3": _variant(stage=3),
    "occlusion 6, mean": lambda case: rivals.measure_occlusion(case, (6,), "mean"),
    "occlusion 8, mean": lambda case: rivals.measure_occlusion(case, (8,), "mean"),
    "occlusion 12, mean": lambda case: rivals.measure_occlusion(case, (12,), "mean"),
    "occlusion 8, around": lambda case: rivals.measure_occlusion(case, (8,), "around"),
    "occlusion 12, around": lambda case: rivals.measure_occlusion(case, (12,), "around"),
    "occlusion 6, around": lambda case: rivals.measure_occlusion(case, (6,), "around"),
    "occlusion 16, around": lambda case: rivals.measure_occlusion(case, (16,), "around"),
    "occlusion three eighths, to the edges": rivals.measure_scaled_occlusion,
    "occlusion 8 and 12, around": lambda case: rivals.measure_occlusion(case, (8, 12), "around"),
    "Grad-CAM region": rivals.measure_gradcam,
    "integrated gradients region": rivals.measure_gradients,
    "random places": lambda case: rivals.measure_random(case, DEFAULT),
    "best channel": rivals.measure_channels,
    "best component": rivals.measure_components,
    "coarse dictionaries 20/2": rivals.measure_dictionaries,
    "α̂ at the head": rivals.measure_head,
    "margin": rivals.measure_margin,
    "accuracy": rivals.measure_accuracy,
    **LATENTS,
    "latents by pieces": measure_by_pieces,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".depth")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--archs", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--n", type=int, default=60, help="pictures per class that are measured")
    parser.add_argument("--untouched", action="store_true", help="measure the untouched world and family instead")
    parser.add_argument("--untouched-again", action="store_true", help="the second untouched world and family instead")
    parser.add_argument("--measures", nargs="+", default=list(MEASURES), choices=list(MEASURES))
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    names = list_units(arguments.seeds, arguments.archs, 2 if arguments.untouched_again else int(arguments.untouched))
    if not arguments.table_only:
        train_all(arguments.work, names)
    if arguments.train_only:
        return
    for name in arguments.measures if not arguments.table_only else ():
        for unit in names:
            score(arguments.work, unit, name, arguments.n)
    print_tables(arguments.work, names, arguments.measures, arguments.n)


def list_units(seeds: list[int], archs: list[str], untouched: int) -> list[str]:
    """ "world/arch/seed": all that may be looked at (0), or the first (1) or second (2) that may not."""
    every = [(world, arch, seed) for seed in seeds for world in worlds() for arch in archs]

    def aside(world: str, arch: str) -> int:
        if world == UNTOUCHED_AGAIN or arch == UNTOUCHED_ARCH_AGAIN:
            return 2
        return int(world == UNTOUCHED_WORLD or arch == UNTOUCHED_ARCH)

    return ["/".join(map(str, one)) for one in every if aside(*one[:2]) == untouched]


def score_path(work: Path, unit: str, name: str, n: int) -> Path:
    return work / "scores" / unit.replace("/", "-") / f"{name}-{n}.json"


def score(work: Path, unit: str, name: str, n: int) -> None:
    """Measures and keeps one measure on one network, unless it is there."""
    path = score_path(work, unit, name, n)
    if path.exists() or not network_path(work, unit).exists():
        return
    case = load_case(work, unit, n)
    start = time.process_time()  # others may use the machine
    found = MEASURES[name](case)
    taken = time.process_time() - start
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps({**judge(case, found), "seconds": taken}))
    os.replace(temporary, path)
    log.info("%s, %s: %.1f s", name, unit, taken)


def print_tables(work: Path, names: list[str], measures: list[str], n: int) -> None:
    """One line per measure: means over the networks with 95 % bootstrap intervals over them."""
    groups = {"all": names}
    for part in range(2):
        groups |= {key: [u for u in names if u.split("/")[part] == key] for key in {u.split("/")[part] for u in names}}
    for group, members in groups.items():
        print(f"\n### {group}: {len(members)} networks\n\n| measure | n | {' | '.join(COLUMNS)} |")
        print("|---" * (len(COLUMNS) + 2) + "|")
        for name in measures:
            paths = [score_path(work, unit, name, n) for unit in members]
            kept = [json.loads(path.read_text()) for path in paths if path.exists()]
            if kept:
                cells = [_cell([one[column] for one in kept], column) for column in COLUMNS]
                print(f"| {name} | {len(kept)} | {' | '.join(cells)} |")


def _cell(values: list[float | None], column: str) -> str:
    known = np.array([one for one in values if one is not None])
    if not len(known):
        return "–"
    if column in ("passes", "seconds"):
        return f"{known.mean():.0f}" if column == "passes" else f"{known.mean():.1f}"
    if column == "error" and known.mean() > 1:
        return "–"  # not on the scale of drops
    rng = np.random.default_rng(0)
    low, high = np.percentile(known[rng.integers(len(known), size=(N_DRAWS, len(known)))].mean(1), [2.5, 97.5])
    return f"{known.mean():.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
