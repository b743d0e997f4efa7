"""Do edits repair a class that depends on a shortcut? Edits of concepts, of the head, and training again, side by side.

    python benchmarks/repair.py [--seeds 4] [--out FOLDER] [--table]

Protocol, fixed before the first run:

* **Networks**: three generated worlds with a class that has a faint object and a strong shortcut (`SHORTCUTS`), four
  seeds each (of images and weights), 400 training images of a class; audited with image reliance on 100 of a class.
  Those whose true drop without the shortcut is below .2 have nothing to repair; they are counted and left out.
* **Groups**, of images that nothing was fitted to (150 of a class), each drawn both ways: the class *with* the cue, the
  same images *without* it, the *others* without it, the same *others with* it planted. Reliance is with - without: the
  true drop, which image reliance estimates. Worst group: the lowest accuracy of the four.
* **Repairs**: *nothing*; *edit --concept*, what the command writes for the class (an early layer), a refused edit
  counts as nothing; *edit --feature* at the head, SALVE at α̂ = 1, of the feature that moves most when the cue is left
  out of training images (chosen knowing the cue: the best that a head edit by features can do); *last layer* fitted
  again on the training images as they are (the control of fitting again), without the cue, and balanced: every second
  image of all classes with the cue, the others without; *network* trained again from its seed on the balanced images.
* **Table**: means over networks with 95 % intervals, bootstrapped over networks (10,000 draws), and the paired
  difference of the worst group to nothing. A repair works where that difference leaves out zero, and it costs others
  where theirs falls by more than .02.

Seeded; every network's scores are kept in the folder, so that a second call goes on; prints what it cost
and writes repair.svg there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from gate import audit_config
from interval_plot import Row, draw_intervals
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent / "evidence"))
from worlds import worlds  # type: ignore[import-not-found]

from salve_audit import load_sae
from salve_audit.audit.run import run_audit
from salve_audit.demo.files import write_world
from salve_audit.demo.images import class_keys, draw
from salve_audit.demo.training import NetworkRecipe, normalise_pixels, one_thread, save_checkpoint, train_network
from salve_audit.demo.world import Planted, World, demo_world
from salve_audit.edit.plan import EditRequest, Step, make_step
from salve_audit.edit.run import run_edit
from salve_audit.errors import SalveError
from salve_audit.inputs.model.checkpoint import load_classifier

N_TRAIN, N_AUDIT, N_HELD = 400, 100, 150
LEAST_DROP, PENALTY, N_DRAWS = 0.2, 1e-3, 10_000
GROUPS = ("with", "without", "others", "others with")
NOTHING = "nothing"
RECIPE = NetworkRecipe()


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """A class of a world, and the cue that is not its object."""

    world: World
    class_name: str
    cue: str

    @property
    def label(self) -> int:
        return self.world.class_names.index(self.class_name)

    @property
    def planted(self) -> World:
        """The world with the cue in all images of other classes."""
        return dataclasses.replace(self.world, strays=(Planted(self.cue, 1.0),))


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Images (n, s, s, 3) with the cue and without it, labels (n,), and whether the first show it (n,)."""

    shown: np.ndarray
    bare: np.ndarray
    labels: np.ndarray
    shows: np.ndarray

    def mix(self) -> np.ndarray:
        """Every second image with the cue, the others without."""
        second = (np.arange(len(self.labels)) % 2 == 0)[:, None, None, None]
        return np.where(second, self.shown, self.bare)


def shortcuts() -> tuple[Shortcut, ...]:
    every = worlds()
    return (
        Shortcut(demo_world(), "clinic", "tag"),
        Shortcut(every["market"], "g shortcut", "tag"),
        Shortcut(every["attic"], "f shortcut", "red patch"),
    )


def draw_pairs(shortcut: Shortcut, split: str, first: int, n: int, seed: int) -> Pairs:
    """The images `first` to `first + n` of every class, both ways."""
    world, shown, bare, labels, shows = shortcut.planted, [], [], [], []
    for label in range(len(world.classes)):
        for key in class_keys(split, label, first + n, seed)[first:]:
            image = draw(world, key)
            shown.append(image.pixels)
            bare.append(draw(world, key, (shortcut.cue,)).pixels)
            labels.append(label)
            shows.append(shortcut.cue in image.masks)
    return Pairs(np.stack(shown), np.stack(bare), np.array(labels), np.array(shows))


def run_network(model: nn.Module, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations before the head (n, d), and logits (n, k)."""
    acts: list[Tensor] = []
    hook = model.get_submodule("fc").register_forward_pre_hook(lambda _, given: acts.append(given[0]))
    with torch.no_grad():
        logits = torch.cat([model(normalise_pixels(part)) for part in torch.split(torch.from_numpy(pixels), 200)])
    hook.remove()
    return torch.cat(acts).numpy(), logits.numpy()


def score(predict_shown: np.ndarray, predict_bare: np.ndarray, held: Pairs, label: int) -> dict[str, float]:
    """Accuracies of the four groups from predictions (n,) on both versions."""
    own = (held.labels == label) & held.shows
    others = held.labels != label
    shown, bare = predict_shown == held.labels, predict_bare == held.labels
    groups = dict(
        zip(GROUPS, (float(part.mean()) for part in (shown[own], bare[own], bare[others], shown[others])), strict=True)
    )
    return {**groups, "reliance": groups["with"] - groups["without"], "worst": min(groups.values())}


def score_network(model: nn.Module, held: Pairs, label: int) -> dict[str, float]:
    both = [run_network(model, pixels)[1].argmax(1) for pixels in (held.shown, held.bare)]
    return score(both[0], both[1], held, label)


def fit_head(acts: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k, d) and (k,) of a multinomial logistic regression, its penalty on activations of unit variance."""
    mean, scale = acts.mean(0), acts.std(0) + 1e-6
    x, y = torch.from_numpy((acts - mean) / scale).double(), torch.from_numpy(labels)
    layer = nn.Linear(x.shape[1], int(labels.max()) + 1, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(layer(x), y) + PENALTY * layer.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(step)  # type: ignore[no-untyped-call]
    weight = layer.weight.detach().numpy() / scale
    return weight, layer.bias.detach().numpy() - weight @ mean


def edit_steps(model: nn.Module, audit: Path, train: Pairs, shortcut: Shortcut) -> Mapping[str, Step]:
    """The two edits of the command line."""
    rows = (train.labels == shortcut.label) & train.shows
    sae = load_sae(audit)
    shown, bare = (sae.encode(run_network(model, pixels[rows])[0]) for pixels in (train.shown, train.bare))
    moved = int(np.abs(np.asarray(shown) - np.asarray(bare)).mean(0).argmax())  # rows of the dictionary are units
    return {
        "edit --concept": make_step(None, None, {}, None, False, shortcut.class_name),
        "edit --feature (head)": Step(feature=str(moved), strength=1.0),
    }


def score_edits(
    model: nn.Module, place: Path, train: Pairs, held: Pairs, shortcut: Shortcut, nothing: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Scores of the files that the edits write; `nothing` with a mark for one that is refused."""
    scores = {}
    for name, step in edit_steps(model, place / "audit", train, shortcut).items():
        out = place / f"{name.split()[1].strip('-')}.pt"
        try:
            run_edit(EditRequest(place / "model.pt", place / "audit", out, (step,), 200, data=place / "data"))
        except SalveError as error:
            print(f"{name}: refused, {error}", flush=True)
            scores[name] = {**nothing, "refused": 1.0}
            continue
        scores[name] = score_network(load_classifier(out, None).model, held, shortcut.label)
    return scores


def measure(shortcut: Shortcut, seed: int, place: Path) -> dict[str, dict[str, float]]:
    """Scores of every repair of one network."""
    started = time.process_time()
    drawn = write_world(shortcut.world, place / "data", N_TRAIN, N_AUDIT, seed)["train"]
    model = train_network(drawn.pixels, drawn.labels, RECIPE, seed)
    save_checkpoint(model, RECIPE, place / "model.pt", shortcut.world.size, shortcut.world.class_names)
    train = draw_pairs(shortcut, "train", 0, N_TRAIN, seed)
    held = draw_pairs(shortcut, "val", N_AUDIT, N_HELD, seed)
    scores = {NOTHING: score_network(model, held, shortcut.label)}
    result = run_audit(audit_config(place / "model.pt", place / "data", N_AUDIT, place / "audit"))
    said = next(each.image_reliance for each in result.classes if each.name == shortcut.class_name)
    scores[NOTHING]["said"] = float("nan") if said is None else said.reliance
    scores |= score_edits(model, place, train, held, shortcut, scores[NOTHING])
    acts = [run_network(model, pixels)[0] for pixels in (held.shown, held.bare)]
    versions = {"as they are": drawn.pixels, "without the cue": train.bare, "balanced": train.mix()}
    for name, pixels in versions.items():
        weight, bias = fit_head(run_network(model, pixels)[0], train.labels)
        predicted = [(some @ weight.T + bias).argmax(1) for some in acts]
        scores[f"last layer, {name}"] = score(predicted[0], predicted[1], held, shortcut.label)
    again = train_network(versions["balanced"], train.labels, RECIPE, seed)
    scores["network, balanced"] = score_network(again, held, shortcut.label)
    scores[NOTHING]["seconds"] = time.process_time() - started
    return scores


def measure_all(out: Path, n_seeds: int, is_measuring: bool) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Scores of every network, from their files where they are there."""
    for seed in range(n_seeds):
        for shortcut in shortcuts():
            place = out / f"{shortcut.world.name}-{seed}"
            path = place.with_suffix(".json")
            if not path.is_file() and not is_measuring:
                continue
            if not path.is_file():
                shutil.rmtree(place, ignore_errors=True)  # what an interrupted run left
                place.mkdir(parents=True)
                scores = measure(shortcut, seed, place)
                path.write_text(json.dumps(scores))
                print(f"{place.name}: {scores[NOTHING]['seconds']:.0f} s", flush=True)
            yield place.name, json.loads(path.read_text())


def print_table(used: Sequence[dict[str, dict[str, float]]]) -> dict[str, list[Row]]:
    """Every repair over these networks; reliance and worst group are given back for the plot."""
    columns = ("reliance", *GROUPS, "worst")
    print(f"\n| repair | {' | '.join(columns)} | worst less nothing | refused |\n|---|{'---|' * (len(columns) + 2)}")
    draws = np.random.default_rng(0).integers(len(used), size=(N_DRAWS, len(used)))

    def summarise(label: str, values: np.ndarray) -> Row:
        low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
        return Row(label, float(values.mean()), float(low), float(high))

    drawn: dict[str, list[Row]] = {"reliance": [], "worst group, less nothing": []}
    for name in used[0]:
        rows = [summarise(name, np.array([scores[name][column] for scores in used])) for column in columns]
        rows.append(summarise(name, np.array([scores[name]["worst"] - scores[NOTHING]["worst"] for scores in used])))
        refused = sum(int(scores[name].get("refused", 0)) for scores in used)
        cells = " | ".join(f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in rows)
        print(f"| {name} | {cells} | {refused} |")
        for group, row in zip(drawn, (rows[0], rows[-1]), strict=True):
            drawn[group].append(row)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/repair"))
    parser.add_argument("--table", action="store_true", help="measure no network")
    options = parser.parse_args()
    with one_thread():
        every = dict(measure_all(options.out, options.seeds, not options.table))
    for name, scores in every.items():
        print(f"{name}: {' '.join(f'{key} {value:.2f}' for key, value in scores[NOTHING].items())}")
    used = [scores for scores in every.values() if scores[NOTHING]["reliance"] >= LEAST_DROP]
    print(f"\n{len(used)} of {len(every)} networks depend on their shortcut")
    groups = print_table(used)
    title = "Repairs of a shortcut: means over networks, 95 % intervals"
    (options.out / "repair.svg").write_text(draw_intervals(title, groups, (-0.4, 1)))
    print(f"\n{sum(scores[NOTHING]['seconds'] for scores in every.values()) / 60:.0f} minutes of one core in all")


if __name__ == "__main__":
    main()
