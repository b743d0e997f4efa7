"""How well measures of image reliance rank what networks really depend on: one table, from networks with known truth.

    python benchmarks/evidence/ranking.py [--work DIR] [--seeds 0 1 ...] [--n 60] [--measures NAME ...]
                                          [--untouched | --untouched-again]

Draws worlds, trains small networks of four families on them, leaves each cue out of the images for the truth, and
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

import numpy as np
import rivals
import torch
from cases import Case, Measured, judge, load_case
from measures import DEFAULT, SIGNATURE_STAGE, measure_evidence, measure_regions
from networks import RECIPES, UNTOUCHED_ARCH, UNTOUCHED_ARCH_AGAIN, WORK, network_path, train_all
from worlds import UNTOUCHED_AGAIN, UNTOUCHED_WORLD, worlds

from salve_audit.evidence.search import SearchSettings

log = logging.getLogger("ranking")
N_DRAWS = 2000
FEW = 4  # networks, of which there is no interval
COLUMNS = ("spearman", "auroc", "error", "sample_auroc", "named", "passes", "seconds")


def _variant(stage: int = SIGNATURE_STAGE, **changes: float) -> Callable[[Case], Measured]:
    settings = SearchSettings(**{**vars(DEFAULT), **changes})
    return lambda case: measure_evidence(case, settings, stage)


MEASURES: Mapping[str, Callable[[Case], Measured]] = {
    "evidence, regions only": _variant(),
    "evidence and squares": lambda case: measure_evidence(case, squares=True),
    "evidence, no concepts": measure_regions,
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
    "evidence, distinguished at stage 1": _variant(stage=1),
    "evidence, distinguished at stage 3": _variant(stage=3),
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
    "α̂ at the head": rivals.measure_head,
    "margin": rivals.measure_margin,
    "accuracy": rivals.measure_accuracy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--archs", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--n", type=int, default=60, help="images per class that are measured")
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

    return ["/".join(map(str, parts)) for parts in every if aside(*parts[:2]) == untouched]


def score_path(work: Path, unit: str, name: str, n: int) -> Path:
    return work / "scores" / unit.replace("/", "-") / f"{name}-{n}.json"


def score(work: Path, unit: str, name: str, n: int) -> None:
    """Measures and keeps one measure on one network, unless it is there or the network is not."""
    path = score_path(work, unit, name, n)
    if not path.exists() and network_path(work, unit).exists():
        keep_score(path, load_case(work, unit, n), MEASURES[name])


def keep_score(path: Path, case: Case, measure: Callable[[Case], Measured]) -> None:
    """The scores of one measure on one network, unless they are there."""
    if path.exists():
        return
    start = time.process_time()  # others may use the machine
    measured = measure(case)
    seconds = time.process_time() - start
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps({**judge(case, measured), "seconds": seconds}))
    os.replace(temporary, path)
    log.info("%s, %s: %.1f s", path.stem, case.unit, seconds)


def print_tables(work: Path, names: list[str], measures: list[str], n: int) -> None:
    """One line per measure: means over the networks, with 95 % bootstrap intervals over them or the values of few."""
    groups = {"all": names}
    for part in range(2):
        groups |= {key: [u for u in names if u.split("/")[part] == key] for key in {u.split("/")[part] for u in names}}
    for group, members in groups.items():
        print(f"\n### {group}: {len(members)} networks\n\n| measure | n | {' | '.join(COLUMNS)} |")
        print("|---" * (len(COLUMNS) + 2) + "|")
        for name in measures:
            paths = [score_path(work, unit, name, n) for unit in members]
            records = [json.loads(path.read_text()) for path in paths if path.exists()]
            if records:
                cells = [_cell([record[column] for record in records], column) for column in COLUMNS]
                print(f"| {name} | {len(records)} | {' | '.join(cells)} |")


def _cell(values: list[float | None], column: str) -> str:
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return "–"
    if column in ("passes", "seconds"):
        return f"{known.mean():.0f}" if column == "passes" else f"{known.mean():.1f}"
    if column == "error" and known.mean() > 1:
        return "–"  # not on the scale of drops
    if len(known) < FEW:
        return f"{known.mean():.2f} ({', '.join(f'{value:.2f}' for value in known)})"
    rng = np.random.default_rng(0)
    low, high = np.percentile(known[rng.integers(len(known), size=(N_DRAWS, len(known)))].mean(1), [2.5, 97.5])
    return f"{known.mean():.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
