"""Do classes' image reliance and α̂ say which classes corruptions hurt, and does its kind say which corruption?

    python benchmarks/evidence/make_worlds.py NAME ... --work DIR     # networks with known truth, once
    python benchmarks/corruption_kinds.py FOLDER [...] --out runs/kinds

Protocol, fixed before the first run:

* **Networks**: those of make_worlds.py at 32 to 64 pixels, audited with image reliance on 100 images of a class (one
  autoencoder, as in gate.py). Corruptions and levels are those of corruptions.py.
* **Outcome** of a class and corruption: levels survived (0 to 6), mean over its correct audit images. *Excess*: how
  much fewer than the mean of the network's classes, in standard deviations over the classes of the network, so that
  neither a network's nor a corruption's strength counts. A class's *worst* corruption is that of the largest excess.
* **Classes** (primary: mean excess over the four corruptions): Spearman within networks with image reliance, and with
  the median α̂; pooled by Fisher's z weighted by n - 3; partial, given accuracy and median margin. p by 2,000
  permutations of the classes within networks. "Absent" needs the 90 % interval within ±0.1, as in corruptions.py.
* **Kind said**: of the audit's finding where it is beyond chance, else "none"; "region" and "fixed place" are one, a
  thing. **True kind**: the family of the cue of the largest true drop, where that is .2 or more, else "none".
* **Does it say which corruption?** Primary: the share of the excess (classes by four corruptions, each class's mean
  subtracted) that lies between kinds. Then: how often a class's worst corruption is the most common one of its kind in
  the *other* networks; and how often it is the expected one: sharpness and noise, blur; colour and mean field,
  contrast; compression, JPEG. Each against 2,000 permutations of kinds within networks (one-sided), for both kinds:
  what the true kind cannot say, no measure of it can.

Seeded; what is measured is kept in the folder, so that a second call goes on; prints what it cost.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corrupted import LEVELS, choose_sample, count_survived
from gate import audit_config
from robustness import EQUIVALENT, partial, pool
from scipy import stats

from salve_audit import load_audit
from salve_audit.audit.run import run_audit
from salve_audit.demo.training import one_thread
from salve_audit.evidence.probe import hard_margin
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.results import ImageReliance

N_IMAGES, N_DRAWS, LEAST_DROP, NONE, THING = 100, 2000, 0.2, "none", "thing"
JOINED = {"region": THING, "fixed place": THING}
EXPECTED = {"sharpness": "blur", "noise": "blur", "colour": "contrast", "mean field": "contrast", "compression": "jpeg"}


@dataclasses.dataclass(frozen=True)
class Network:
    """Measurements of a network's classes, (k,) each, and levels survived (k, 4)."""

    name: str
    classes: list[str]
    said: list[str]
    true: list[str]
    reliance: np.ndarray
    alpha: np.ndarray
    accuracy: np.ndarray
    margin: np.ndarray
    survived: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        """(k, 4) levels fewer than the other classes survive, in standard deviations over classes."""
        centred = self.survived.mean(0) - self.survived
        return np.asarray(centred / np.maximum(centred.std(0), 1e-9))


def measure(folder: Path, out: Path) -> Network:
    """A network's measurements, from its file where it is there."""
    path = out / f"{folder.name}.json"
    if not path.is_file():
        started = time.process_time()
        if not (out / folder.name / "audit.json").is_file():
            run_audit(audit_config(folder / "network.pth", folder / "data", N_IMAGES, out / folder.name))
        path.write_text(json.dumps(_measure(folder, out / folder.name)))
        print(f"{folder.name}: {time.process_time() - started:.0f} s", flush=True)
    content = json.loads(path.read_text())
    arrays = ("reliance", "alpha", "accuracy", "margin", "survived")
    return Network(**{**content, **{name: np.array(content[name], float) for name in arrays}})


def _measure(folder: Path, audit: Path) -> dict[str, Any]:
    truth, result = json.loads((folder / "truth.json").read_text())["classes"], load_audit(audit)
    classifier = load_classifier(folder / "network.pth", None)
    measured = [(each, each.image_reliance) for each in result.classes if each.image_reliance is not None]
    records = [each for each, _ in measured]
    sample = choose_sample(classifier, folder / "data", [each.index for each in records], N_IMAGES)
    with torch.no_grad():
        margins = hard_margin(sample.model(sample.pixels), sample.labels).numpy()
    labels, levels = sample.labels.numpy(), [count_survived(sample, name) for name in LEVELS]
    flips = [each.alpha_hat.flip.median for each in records]
    return {
        "name": folder.name,
        "classes": [each.name for each in records],
        "said": [_kind_said(reliance) for _, reliance in measured],
        "true": [_true_kind(truth[each.name]["cues"]) for each in records],
        "reliance": [reliance.reliance for _, reliance in measured],
        "alpha": [1e9 if flip is None else flip for flip in flips],  # not reached: the largest rank
        "accuracy": [each.accuracy for each in records],
        "margin": [float(np.median(margins[labels == each.index])) for each in records],
        "survived": [[float(values[labels == each.index].mean()) for values in levels] for each in records],
    }


def _kind_said(said: ImageReliance) -> str:
    beyond = said.kind is not None and said.low > 0 and not said.is_by_chance
    return JOINED.get(str(said.kind), str(said.kind)) if beyond else NONE


def _true_kind(cues: dict[str, Any]) -> str:
    strongest = max(cues.values(), key=lambda cue: cue["class_drop"], default=None)
    if strongest is None or strongest["class_drop"] < LEAST_DROP:
        return NONE
    return JOINED.get(strongest["families"][0], strongest["families"][0])


def pool_classes(
    networks: Sequence[Network], measure: str, level: float, order: Sequence[np.ndarray] = ()
) -> list[tuple[float, float, float]]:
    """Spearman of a measure with the mean excess over networks, and partial, each with its interval."""
    plain, given_plain, sizes = [], [], []
    for i, network in enumerate(networks):
        x, y = getattr(network, measure), network.excess.mean(1)
        x = x[order[i]] if len(order) else x
        if np.ptp(x) > 0:
            plain.append(float(stats.spearmanr(x, y)[0]))
            given_plain.append(partial(x, y, np.stack([network.accuracy, network.margin], 1)))
            sizes.append(len(x))
    return [pool(plain, sizes, level), pool(given_plain, [n - 2 for n in sizes], level)]


def print_classes(networks: Sequence[Network], rng: np.random.Generator) -> None:
    print("\n| of a class | Spearman with excess | p | partial | p | verdict |\n|---|---|---|---|---|---|")
    orders = [[rng.permutation(len(network.classes)) for network in networks] for _ in range(N_DRAWS)]
    for measure in ("reliance", "alpha"):
        both, cells = pool_classes(networks, measure, 0.95), []
        null = np.array([[part[0] for part in pool_classes(networks, measure, 0.95, order)] for order in orders])
        for (value, low, high), beside in zip(both, null.T, strict=True):
            p = (1 + (np.abs(beside) >= abs(value)).sum()) / (1 + N_DRAWS)
            cells.append(f"{value:.2f} [{low:.2f}, {high:.2f}] | {p:.3f}")
        _, low, high = pool_classes(networks, measure, 0.9)[1]
        absent = low > -EQUIVALENT and high < EQUIVALENT
        there = p < 0.05 and (both[1][1] > 0 or both[1][2] < 0)
        verdict = "absent" if absent else "there" if there else "not decided"
        print(f"| {measure} | {cells[0]} | {cells[1]} | {verdict} |")


def score_kinds(excess: Sequence[np.ndarray], kinds: Sequence[np.ndarray]) -> np.ndarray:
    """(3,) share between kinds; worst named by the other networks; worst as expected."""
    every = np.concatenate([rows - rows.mean(1, keepdims=True) for rows in excess])
    labels = np.concatenate(kinds)
    between = sum((labels == kind).sum() * np.square(every[labels == kind].mean(0)).sum() for kind in set(labels))
    worst = [rows.argmax(1) for rows in excess]
    named = []
    for i, own in enumerate(kinds):
        others = [(kind, w) for j, each in enumerate(kinds) if j != i for kind, w in zip(each, worst[j], strict=True)]
        overall = Counter(w for _, w in others).most_common(1)[0][0]
        for kind, truth in zip(own, worst[i], strict=True):
            same = Counter(w for other, w in others if other == kind)
            named.append(truth == (same.most_common(1)[0][0] if same else overall))
    names = list(LEVELS)
    pairs = zip(labels, np.concatenate(worst), strict=True)
    expected = [names[w] == EXPECTED[kind] for kind, w in pairs if kind in EXPECTED]
    return np.array([between / np.square(every).sum(), np.mean(named), np.mean(expected) if expected else np.nan])


def print_kinds(networks: Sequence[Network], rng: np.random.Generator) -> None:
    excess = [network.excess for network in networks]
    print("\n| kind | what | value | by chance, middle and 95 % | p |\n|---|---|---|---|---|")
    for which in ("said", "true"):
        kinds = [np.array(getattr(network, which)) for network in networks]
        value = score_kinds(excess, kinds)
        null = np.array([score_kinds(excess, [rng.permutation(each) for each in kinds]) for _ in range(N_DRAWS)])
        for name, own, beside in zip(
            ("share between kinds", "worst as in other networks", "worst as expected"), value, null.T, strict=True
        ):
            middle, high = np.nanpercentile(beside, [50, 95])
            p = (1 + (beside >= own).sum()) / (1 + N_DRAWS)
            print(f"| {which} | {name} | {own:.3f} | {middle:.3f}, {high:.3f} | {p:.3f} |")
    names = list(LEVELS)
    print(f"\n| kind | classes | {' | '.join(names)} | worst: {', '.join(names)} |\n|---|---|{'---|' * 5}")
    every = np.concatenate([rows - rows.mean(1, keepdims=True) for rows in excess])
    worst = np.concatenate([rows.argmax(1) for rows in excess])
    for which in ("said", "true"):
        labels = np.array([kind for network in networks for kind in getattr(network, which)])
        for kind, n in Counter(labels).most_common():
            own = every[labels == kind]
            cells = [f"{column.mean():+.2f} ± {1.96 * column.std() / np.sqrt(n):.2f}" for column in own.T]
            counts = ", ".join(str(int((worst[labels == kind] == i).sum())) for i in range(len(names)))
            print(f"| {which}: {kind} | {n} | {' | '.join(cells)} | {counts} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("runs/kinds"))
    options, began = parser.parse_args(), time.process_time()
    options.out.mkdir(parents=True, exist_ok=True)
    with one_thread():
        networks = [measure(folder, options.out) for folder in options.folders]
    print(f"{len(networks)} networks, {sum(len(network.classes) for network in networks)} classes")
    rng = np.random.default_rng(0)
    print_classes(networks, rng)
    print_kinds(networks, rng)
    print(f"{time.process_time() - began:.0f} s of CPU in this call")


if __name__ == "__main__":
    main()
