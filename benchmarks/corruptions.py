"""Do thresholds at the head, or image reliance, say which images are misclassified first when they are corrupted?

    python benchmarks/corruptions.py MODEL DATA [--arch FILE.py:F] [--images 2000] [--limit N] [--out FOLDER]

Protocol, fixed before the first run:

* **Images**: of the audit split, the first correctly classified ones of every class, as many of each.
* **Corruptions** of pixels in 0..1 at the network's size, each in six levels: Gaussian noise (one pattern per image,
  standard deviation .02 to .4), Gaussian blur (standard deviation .4 to 4 pixels of a side of 64), contrast (deviations
  from the image's mean times .7 to .05), JPEG (quality 60 to 4).
* **Outcome**: how many levels an image survives, 0 to 6: the first level that changes the prediction ends it. The mean
  over the four corruptions is the primary outcome; the four by themselves come after it.
* **Predictors**: the flip threshold α̂ of the image (as in robustness.py: on a grid, censored ones the largest rank;
  feature and autoencoder of an audit without image reliance; --limit: images per class and split of it), and its image
  reliance: the share of its margin that is lost when its strongest evidence region is removed (found as audits find
  them, without look-alikes and squares).
* **Association**: Spearman within each class, pooled by Fisher's z weighted by n - 3; and partial, of ranks,
  controlling for the margin of the logits, the confidence, and the norm of the activations. 95 % intervals; 98.75 % for
  the four single corruptions.
* **Nulls**: of α̂, thresholds of the same feature with its coupling permuted over the activations (20 draws); of
  reliance, the region of another image of the class removed, at that image's place (5 draws).
* **Verdict**: the partial correlation is *absent* where its 90 % interval lies within ±0.1 (two one-sided tests at
  5 %), *there* where its interval leaves out zero and it is beyond all nulls, else *not decided*.
* **Classes**: Spearman over the classes of the network of the class's median α̂, and of the share of its images that
  flip without their strongest region, with the class's mean outcome. corruption_kinds.py pools more networks.

Seeded; what is measured is kept in the folder, so that a second call goes on; prints what it cost and
writes corruptions.svg there.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from association import associate, judge, pool
from corrupted import LEVELS, count_survived
from interval_plot import Row, draw_intervals
from right_images import BATCH, Sample, choose_sample, measure_thresholds
from scipy import stats

from salve_audit import load_audit, load_sae
from salve_audit.audit.run import run_audit
from salve_audit.config import AuditConfig
from salve_audit.demo.training import one_thread
from salve_audit.evidence.probe import hard_margin, watch_network
from salve_audit.evidence.regions import fill_regions, to_pixels
from salve_audit.evidence.search import SearchSettings, find_evidence
from salve_audit.inputs.digest import hash_file
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.spatial.blocks import first_block
from salve_audit.spatial.layers import find_spatial_layers

N_MOVED = 5


def keep(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """An array from its file, or computed and kept there."""
    if not path.is_file():
        started, values = time.process_time(), compute()
        np.save(path, values)
        print(f"{path.stem}: {time.process_time() - started:.0f} s", flush=True)
    return np.load(path)


def measure_reliance(classifier: Classifier, sample: Sample) -> np.ndarray:
    """(1 + 5, n) share of the margin lost without an image's strongest region, and without other images' regions."""
    spec, labels, rng = classifier.transform, sample.labels, np.random.default_rng(0)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    images = (sample.pixels - mean) / std
    layer = first_block(classifier.model, find_spatial_layers(classifier, images[:4]))
    with watch_network(classifier, layer) as probe, torch.enable_grad():
        evidence = find_evidence(probe, images, labels, SearchSettings())
        strongest = evidence.alone.nan_to_num(torch.inf).argmin(1)
        rows = torch.arange(len(images))
        left = [evidence.alone[rows, strongest]]  # nan: no region, nothing is lost
        regions = evidence.regions[rows, strongest][:, None].float()
        for _ in range(N_MOVED):
            order = np.arange(len(images))
            for label in np.unique(labels):
                own = rng.permutation(np.flatnonzero(labels.numpy() == label))
                order[own] = np.roll(own, 1)
            moved, margins = regions[torch.from_numpy(order)], []
            for part in torch.split(rows, BATCH):
                without = fill_regions(images[part], to_pixels(moved[part], (images.shape[2], images.shape[3])))
                with torch.no_grad():
                    margins.append(hard_margin(probe(without).logits, labels[part]))
            left.append(torch.cat(margins))
    lost = 1 - torch.stack(left) / evidence.clean
    return lost.nan_to_num(0.0).clamp(-2, 2).numpy()


def print_table(
    predictors: Mapping[str, np.ndarray], outcomes: Mapping[str, np.ndarray], given: np.ndarray, labels: np.ndarray
) -> dict[str, list[Row]]:
    """Every predictor, (1 + nulls, n), with every outcome; the partial correlations are given back for the plot."""
    drawn: dict[str, list[Row]] = {}
    print("\n| predictor | outcome | Spearman | nulls | partial | nulls | verdict |\n|---|---|---|---|---|---|---|")
    for (predictor, x), (outcome, y) in itertools.product(predictors.items(), outcomes.items()):
        level, cells = 0.95 if outcome == "all" else 1 - 0.05 / len(LEVELS), []
        for control in (None, given):
            value, low, high = associate(x[0], y, control, labels, level)
            nulls = [associate(null, y, control, labels, level)[0] for null in x[1:]]
            cells.append(f"{value:.3f} [{low:.3f}, {high:.3f}] | {min(nulls):.3f} .. {max(nulls):.3f}")
        _, *tight = associate(x[0], y, given, labels, 0.9)
        verdict = judge(value, (low, high), (tight[0], tight[1]), nulls)
        print(f"| {predictor} | {outcome} | {cells[0]} | {cells[1]} | {verdict} |")
        drawn.setdefault(predictor, []).append(Row(outcome, value, low, high, (min(nulls), max(nulls))))
    return drawn


def print_classes(thresholds: np.ndarray, reliance: np.ndarray, survived: np.ndarray, labels: np.ndarray) -> None:
    """What the classes' medians say of the classes' outcomes."""
    classes = np.unique(labels)
    mean = [survived[labels == label].mean() for label in classes]
    for name, by_class in (
        ("median α̂", [np.median(thresholds[labels == label]) for label in classes]),
        ("share that flips without the region", [(reliance[labels == label] >= 1).mean() for label in classes]),
    ):
        value, low, high = pool([float(stats.spearmanr(by_class, mean)[0])], [len(classes)], 0.95)
        print(f"over {len(classes)} classes, {name} with levels survived: {value:.2f} [{low:.2f}, {high:.2f}]")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--arch")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/corruptions"))
    return parser.parse_args()


def configure(options: argparse.Namespace, out: Path) -> AuditConfig:
    return AuditConfig(
        model=options.model,
        data=options.data,
        arch=options.arch,
        limit=options.limit,
        out=out,
        format=("json",),
        evidence="off",
        deep_edits="off",
        images=False,
        interventions=("salve",),
    )


def main() -> None:
    options, began = read_options(), time.process_time()
    said = f"{hash_file(options.model)} {options.data.resolve()} {options.arch} {options.images} {options.limit}"
    out = options.out / hashlib.sha256(said.encode()).hexdigest()[:16]
    out.mkdir(parents=True, exist_ok=True)
    with one_thread():
        if not (out / "audit" / "audit.json").is_file():
            run_audit(configure(options, out / "audit"))
        result, dictionary = load_audit(out / "audit"), load_sae(out / "audit").dictionary
        print(f"audit: {time.process_time() - began:.0f} s", flush=True)
        classifier = load_classifier(options.model, options.arch)
        classes = [record.index for record in result.classes]
        sample = choose_sample(classifier, options.data, classes, options.images // len(classes))
        print(f"{len(sample.labels)} images of {len(classes)} classes", flush=True)
        each = {name: keep(out / f"{name}.npy", functools.partial(count_survived, sample, name)) for name in LEVELS}
        thresholds, given = measure_thresholds(classifier, sample, result, dictionary, np.random.default_rng(0))
        reliance = keep(out / "reliance.npy", functools.partial(measure_reliance, classifier, sample))
    labels, outcomes = sample.labels.numpy(), {"all": np.mean(list(each.values()), axis=0), **each}
    for name, values in each.items():
        print(f"{name}: levels survived, by class {[round(float(values[labels == k].mean()), 1) for k in classes]}")
    drawn = print_table({"α̂": thresholds, "image reliance": reliance}, outcomes, given, labels)
    title = "Corruptions survived: rank correlation beyond margin, confidence, norm; grey: nulls"
    (out / "corruptions.svg").write_text(draw_intervals(title, drawn, (-0.3, 0.3)))
    print_classes(thresholds[0], reliance[0], outcomes["all"], labels)
    print(f"{time.process_time() - began:.0f} s of CPU in this call")


if __name__ == "__main__":
    main()
