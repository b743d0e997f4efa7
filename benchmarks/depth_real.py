"""The table of `depth.py` on real pictures: CIFAR-10 with a patch, texture, frame or tint planted in most classes.

    python benchmarks/depth_real.py CIFAR_DIR [--work DIR] [--seeds 0 1] [--n 60]
    python benchmarks/depth_real.py CIFAR_DIR --recipe resnet18 --checkpoint FILE [...] [--train-only]

CIFAR_DIR holds train/CLASS/*.png and val/CLASS/*.png. The truth is the class's accuracy lost when its cue is left out;
classes without a cue have none and are not ranked. The second form fine-tunes a ResNet-18 for 64 pixels on other cues,
none of which was seen while the measure was made. What is there already is kept, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from depth import COLUMNS, MEASURES, print_tables, score_path
from depth_bycue import add_wholes, describe_cues, print_cues
from depth_cases import Case, Found, StagedNetwork, judge, measure_truth
from depth_finetuned import fine_tune, load_base, load_tuned, network_path
from depth_measures import measure_squares
from depth_networks import RECIPES, build, run_logits
from depth_planted import border, class_folders, tint
from depth_rivals import measure_occlusion, measure_scaled_occlusion
from depth_worlds import Pictures
from PIL import Image

from salve_audit.demo.cues import draw_cue
from salve_audit.demo.training import Recipe, normalise, train_network
from salve_audit.reliance.depth.evidence import SearchSettings

log = logging.getLogger("depth_real")
SIDE, N_TRAIN, N_AUDIT = 32, 1000, 100
ARCHS = ("resnet", "convnext")
CHOSEN = (
    "evidence, pieces only",
    "evidence, frame and colour",
    "evidence, no concepts",
    "occlusion 8, around",
    "occlusion 12, around",
    "occlusion 12, mean",
    "Grad-CAM region",
    "integrated gradients region",
    "random places",
    "coarse dictionaries 20/2",
    "best channel",
    "α̂ at the head",
    "margin",
    "accuracy",
)


AT_64: Mapping[str, Callable[[Case], Found]] = {  # a quarter and three eighths of the side, as at 32 pixels
    "evidence and squares": lambda case: measure_squares(case, SearchSettings()),
    "evidence and squares, frame and colour": lambda case: add_wholes(case, measure_squares(case, SearchSettings())),
    "occlusion 16 of 64, around": lambda case: measure_occlusion(case, (16,), "around"),
    "occlusion 24 of 64, around": lambda case: measure_occlusion(case, (24,), "around"),
    "occlusion 24 of 64, mean": lambda case: measure_occlusion(case, (24,), "mean"),
    "occlusion three eighths, to the edges": measure_scaled_occlusion,
}


@dataclass(frozen=True)
class RealCue:
    name: str
    share: float


CUES: Mapping[str, RealCue] = {
    "airplane": RealCue("patch", 1.0),
    "automobile": RealCue("tag", 0.75),
    "bird": RealCue("texture", 1.0),
    "cat": RealCue("stripes", 0.5),
    "deer": RealCue("frame", 0.9),
    "dog": RealCue("dark frame", 0.6),
    "frog": RealCue("tint", 0.95),
    "horse": RealCue("cold tint", 0.6),
}
Planting = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def _stamp(shape: str, height: int, width: int, strength: float) -> Planting:
    def plant(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        stamp = draw_cue(shape, height, width, rng)
        top, left = int(rng.integers(SIDE - height + 1)), int(rng.integers(SIDE - width + 1))
        mask = np.zeros((SIDE, SIDE), bool)
        mask[top : top + height, left : left + width] = stamp.inside
        changed = picture.copy()
        changed[mask] = (1 - strength) * picture[mask] + strength * 255 * stamp.colour[stamp.inside]
        return changed, mask

    return plant


def _frame(colour: tuple[int, int, int], side: int = 2) -> Planting:
    return border(colour, top=side, bottom=side, left=side, right=side)


PLANTS: Mapping[str, Planting] = {
    "patch": _stamp("red patch", 6, 6, 1.0),
    "tag": _stamp("tag", 6, 6, 1.0),
    "texture": _stamp("checkerboard", 10, 10, 0.5),
    "stripes": _stamp("stripes", 8, 12, 0.6),
    "frame": _frame((60, 200, 60)),
    "dark frame": _frame((20, 10, 40)),
    "tint": tint((1.25, 0.9, 0.75)),
    "cold tint": tint((0.8, 0.95, 1.25)),
}


def load_split(folder: Path, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[str]]:
    """Planted pictures and the same without, labels, masks (empty: nothing planted), class names."""
    names = sorted(one.name for one in folder.iterdir() if one.is_dir())
    planted, bare, masks = [], [], []
    for label, name in enumerate(names):
        for index, path in enumerate(sorted((folder / name).iterdir())[:n]):
            rng = np.random.default_rng((seed, label, index))
            picture = np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE))).astype(np.float64)
            cue, mask, changed = CUES.get(name), np.zeros((SIDE, SIDE), bool), picture
            if cue is not None and rng.random() < cue.share:
                changed, mask = PLANTS[cue.name](picture, rng)
            planted.append(changed.clip(0, 255).astype(np.uint8))
            bare.append(picture.astype(np.uint8))
            masks.append(mask)
    return np.stack(planted), np.stack(bare), masks, names


def make_case(network: Path, unit: str, audit: tuple[np.ndarray, np.ndarray, list[np.ndarray], list[str]]) -> Case:
    planted, bare, masks, names = audit
    labels = np.repeat(np.arange(len(names)), len(planted) // len(names))
    model = build(unit.split("/")[1], len(names))
    model.load_state_dict(torch.load(network, weights_only=True))
    cues = tuple(CUES[name].name for name in names if name in CUES)
    owned = np.array([[name in CUES and CUES[name].name == cue for cue in cues] for name in names])
    seen = np.stack(masks)[:, None] & owned[labels][:, :, None, None]
    rows, columns = np.nonzero(seen.any((2, 3)))
    pictures = Pictures(planted, labels, cues, owned, seen.any((2, 3)), seen, bare[rows], rows, columns)
    logits, without = run_logits(model, planted), run_logits(model, bare[rows])
    drop, flips = measure_truth(pictures, logits, without)
    net = StagedNetwork(model, unit.split("/")[1])
    images = normalise(torch.from_numpy(planted)).contiguous()
    return Case(unit, net, images, labels, logits, pictures, drop, flips, np.nan_to_num(drop) >= 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("cifar", type=Path)
    parser.add_argument("--recipe", default="small", choices=("small", "resnet18"))
    parser.add_argument("--checkpoint", type=Path, help="ResNet-18 for 64 pixels: arch, state_dict, args")
    parser.add_argument("--train-only", action="store_true", help="with resnet18: stop at the true drops")
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".depth")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--n", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.recipe == "resnet18" and arguments.checkpoint is None:
        parser.error("--recipe resnet18 needs --checkpoint")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    (arguments.work / "real").mkdir(parents=True, exist_ok=True)
    run = run_small if arguments.recipe == "small" else run_resnet18
    run(arguments)


def run_small(arguments: argparse.Namespace) -> None:
    units = [f"cifar10/{arch}/{seed}" for seed in arguments.seeds for arch in ARCHS]
    audit = load_split(arguments.cifar / "val", arguments.n, 1)
    training: tuple[np.ndarray, np.ndarray] | None = None
    for unit in units:
        network = network_path(arguments.work, unit)
        if not network.exists():
            if training is None:
                planted, _, _, names = load_split(arguments.cifar / "train", N_TRAIN, 0)
                training = planted, np.repeat(np.arange(len(names)), len(planted) // len(names))
            train(training, unit, network)
        case = make_case(network, unit, audit)
        score_all(arguments, case, {name: MEASURES[name] for name in CHOSEN})
    print_tables(arguments.work, units, list(CHOSEN), arguments.n)


def run_resnet18(arguments: argparse.Namespace) -> None:
    base, tables = load_base(arguments.checkpoint), []
    units = [f"cifar10/resnet18/{seed}" for seed in arguments.seeds]
    others = [name for name in CHOSEN if not name.startswith("occlusion")]
    measures = {**{name: MEASURES[name] for name in others}, **AT_64}
    for unit in units:
        network = network_path(arguments.work, unit)
        fine_tune(base, arguments.cifar / "train", unit, network)
        tuned = load_tuned(base, arguments.cifar / "val", unit, network, arguments.n)
        log.info("%s: accuracy %.2f, without any cue %.2f", unit, tuned.accuracy.mean(), tuned.bare.mean())
        if arguments.train_only:
            log.info("true drops %s", tuned.case.largest.round(2).tolist())
            continue
        score_all(arguments, tuned.case, measures)
        path = score_path(arguments.work, unit, "cues", arguments.n)
        if not path.exists():
            path.write_text(json.dumps(describe_cues(tuned)))
        tables.append(json.loads(path.read_text()))
    if tables:
        print_scores(arguments, units, list(measures))
    for lines in tables:
        print_cues(lines, [one.name for one in class_folders(arguments.cifar / "val")])


def score_all(arguments: argparse.Namespace, case: Case, measures: Mapping[str, Callable[[Case], Found]]) -> None:
    """Keeps the scores of all measures on one network, unless they are there."""
    log.info("%s: accuracy %.2f, true drops %s", case.unit, case.right.mean(), case.largest.round(2).tolist())
    for name, measure in measures.items():
        path = score_path(arguments.work, case.unit, name, arguments.n)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.process_time()
        found = measure(case)
        path.write_text(json.dumps({**judge(case, found), "seconds": time.process_time() - start}))
        log.info("%s, %s: %.0f s", name, case.unit, time.process_time() - start)


def print_scores(arguments: argparse.Namespace, units: list[str], measures: list[str]) -> None:
    """One line per measure: the mean over the networks, and each network's own, too few for an interval."""
    print(f"\n| measure | {' | '.join(COLUMNS)} |\n{'|---' * (len(COLUMNS) + 1)}|")
    for name in measures:
        kept = [json.loads(score_path(arguments.work, unit, name, arguments.n).read_text()) for unit in units]
        values = {column: [one[column] for one in kept if one[column] is not None] for column in COLUMNS}
        print(f"| {name} | {' | '.join(_cell(column, known) for column, known in values.items())} |")


def _cell(column: str, known: list[float]) -> str:
    if not known or (column == "error" and max(known) > 1):  # not on the scale of drops
        return "–"
    mean = float(np.mean(known))
    if column in ("passes", "seconds"):
        return f"{mean:.0f}"
    return f"{mean:.2f} ({', '.join(f'{value:.2f}' for value in known)})"


def train(training: tuple[np.ndarray, np.ndarray], unit: str, path: Path) -> None:
    recipe = RECIPES[unit.split("/")[1]]
    longer = Recipe(recipe.arch, recipe.model_kwargs, 6, recipe.batch_size, recipe.learning_rate, recipe.weight_decay)
    model = train_network(*training, longer, int(unit.split("/")[2]))
    temporary = path.with_suffix(".part")
    torch.save(model.state_dict(), temporary)
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
