"""Does the critical threshold at the head mean anything for the input? The paper's open question, answered once.

    pip install 'salve-audit[robustness]'    # or pip install --no-deps adv-lib: it does without visdom here
    python benchmarks/robustness.py MODEL DATA [--arch FILE.py:F] [--images 2000] [--steps 50] [--out FOLDER]

Protocol, fixed before the first run:

* **Images**: of the audit split, the first correctly classified ones of every class, as many of each, 2,000 in all.
* **Threshold**: the flip threshold α̂ of an image, that is, how far its class's dominant feature is suppressed in the
  final layer until the class is no longer the largest; on a grid of 400 strengths up to 60, beyond which it is
  censored: the largest rank. Feature, coupling and autoencoder are those of a default audit without image reliance.
* **Robustness**: the smallest norm of a perturbation in pixels of 0..1 that changes the prediction: ℓ2, the smaller of
  DDN (Rony et al. 2019) and FMN (Pintor et al. 2021); ℓ∞, FMN. On 100 of the images FMN runs with four times the steps,
  and FAB (Croce & Hein 2020), of another construction, with half of them: the ratios of the norms say how far the
  attack is from converged, the rank correlation whether another attack would order the images otherwise. (FAB was added
  after ResNet-20 had been measured without it, before any other network was.)
* **Association**: Spearman's rank correlation within each class, pooled over classes by Fisher's z weighted by n - 3,
  with its 95 % interval; and partial, of ranks, controlling for the margin of the logits, the confidence, the norm of
  the activations and the margin over the norm of its gradient in pixels (the first-order distance).
* **Nulls**: the same with thresholds of the same feature whose coupling is permuted over the activations (20 draws):
  what an arbitrary edit of as many weights gives.
* **Verdict** for each norm: the partial correlation is *absent* where its 90 % interval lies within ±0.1 (two one-sided
  tests at 5 %), *there* where its 95 % interval leaves out zero and it is beyond all nulls, else *not decided*.

Seeded; attacks are kept in the folder, so that a second call goes on; prints what it cost and
writes robustness.svg there.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import math
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from association import associate, judge
from interval_plot import Row, draw_intervals
from right_images import BATCH, Sample, choose_sample, measure_thresholds
from scipy.stats import spearmanr
from torch import Tensor, nn

from salve_audit import load_audit, load_sae
from salve_audit.audit.run import run_audit
from salve_audit.config import AuditConfig
from salve_audit.evidence.probe import hard_margin
from salve_audit.inputs.digest import hash_file
from salve_audit.inputs.model.checkpoint import load_classifier

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


def attack_all(sample: Sample, path: Path, run: Attack, order: float) -> np.ndarray:
    """(n,) norms of the perturbations that change the prediction; inf: none was found. Kept in `path` as they come."""
    model, images, labels = sample.model, sample.pixels, sample.labels
    norms = np.load(path) if path.is_file() else np.full(len(images), np.nan)
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        if not np.isnan(norms[rows]).any():
            continue
        torch.manual_seed(start)
        moved = run(model, images[rows], labels[rows])
        size = torch.linalg.vector_norm((moved - images[rows]).flatten(1), ord=order, dim=1)
        with torch.no_grad():
            fooled = model(moved).argmax(1) != labels[rows]
        norms[rows] = torch.where(fooled, size, torch.inf).numpy()
        np.save(path, norms)
    return norms


def first_order(sample: Sample) -> np.ndarray:
    """(n,) margins over the norm of their gradient."""
    parts = []
    for x, y in zip(torch.split(sample.pixels, BATCH), torch.split(sample.labels, BATCH), strict=True):
        x = x.clone().requires_grad_(True)
        margin = hard_margin(sample.model(x), y)
        (gradient,) = torch.autograd.grad(margin.sum(), x)
        parts.append((margin / gradient.flatten(1).norm(dim=1)).detach().numpy())
    return np.concatenate(parts)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--arch")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    return parser.parse_args()


def main() -> None:
    options, began = read_options(), time.process_time()
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))  # of the attacks' logger, which is not used
    attacks = importlib.import_module("adv_lib.attacks")  # of an extra package

    said = f"{hash_file(options.model)} {options.data.resolve()} {options.arch} {options.images} {options.steps}"
    options.out /= hashlib.sha256(said.encode()).hexdigest()[:16]  # attacks are kept for these very settings
    options.out.mkdir(parents=True, exist_ok=True)
    folder = options.out / "audit"
    if not (folder / "audit.json").is_file():
        off = {"evidence": "off", "deep_edits": "off", "format": ("json",)}
        run_audit(AuditConfig(model=options.model, data=options.data, arch=options.arch, out=folder, **off))  # type: ignore[arg-type]
    result, dictionary, rng = load_audit(folder), load_sae(folder).dictionary, np.random.default_rng(0)
    classifier, classes = load_classifier(options.model, options.arch), [record.index for record in result.classes]
    sample = choose_sample(classifier, options.data, classes, options.images // len(classes))
    print(f"{len(sample.labels)} images of {len(classes)} classes")
    thresholds, given = measure_thresholds(classifier, sample, result, dictionary, rng)
    given = np.column_stack([given, first_order(sample)])

    def fmn(order: float, steps: int, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = attacks.fmn(model, x, y, order, steps=steps)
        return found

    def ddn(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = attacks.ddn(model, x, y, steps=options.steps, levels=None)
        return found

    def fab(order: float, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = attacks.fab(model, x, y, order, n_iter=options.steps // 2)
        return found

    def attack(name: str, order: float, run: Attack) -> np.ndarray:
        return attack_all(sample, options.out / f"{name}.npy", run, order)

    euclidean = np.minimum(attack("ddn", 2, ddn), attack("fmn-l2", 2, functools.partial(fmn, 2, options.steps)))
    largest = attack("fmn-linf", math.inf, functools.partial(fmn, math.inf, options.steps))
    some = torch.from_numpy(rng.permutation(len(sample.labels))[:100])
    few = Sample(sample.model, sample.pixels[some], sample.labels[some])
    groups = {}
    for name, order, found in (("l2", 2.0, euclidean), ("linf", math.inf, largest)):
        print(f"{name}: median {np.median(found):.4f}")
        again = {
            "four times the steps": ("check", functools.partial(fmn, order, 4 * options.steps)),
            "FAB": ("fab", functools.partial(fab, order)),
        }
        for words, (prefix, run) in again.items():
            other, ours = attack_all(few, options.out / f"{prefix}-{name}.npy", run, order), found[some.numpy()]
            ranks = spearmanr(other, ours).statistic
            smaller = np.mean(other < 0.95 * ours)
            print(f"  {words}: {np.median(other / ours):.3f} of it, {smaller:.0%} smaller by 5 %, Spearman {ranks:.3f}")
        groups[name] = report(name, found, thresholds, given, sample.labels.numpy())
    title = "Flip threshold and smallest perturbation: rank correlation, grey: permuted couplings"
    (options.out / "robustness.svg").write_text(draw_intervals(title, groups, (-0.2, 1)))
    print(f"{time.process_time() - began:.0f} s of CPU in this call")


def report(name: str, found: np.ndarray, thresholds: np.ndarray, given: np.ndarray, labels: np.ndarray) -> list[Row]:
    """Print both correlations of (1 + nulls, n) thresholds with the norms that were found, and the verdict."""
    rows, drawn = np.isfinite(found), []

    def over_classes(values: np.ndarray, control: np.ndarray | None, level: float) -> tuple[float, float, float]:
        return associate(values[rows], found[rows], None if control is None else control[rows], labels[rows], level)

    for words, control in (("Spearman", None), ("partial", given)):
        value, low, high = over_classes(thresholds[0], control, 0.95)
        beside = [over_classes(null, control, 0.95)[0] for null in thresholds[1:]]
        print(
            f"{name} {words}: {value:.3f} [{low:.3f}, {high:.3f}]; "
            f"permuted couplings {min(beside):.3f} to {max(beside):.3f}"
        )
        drawn.append(Row(words, value, low, high, (min(beside), max(beside))))
    _, *tight = over_classes(thresholds[0], given, 0.90)
    said = judge(value, (low, high), (tight[0], tight[1]), beside)
    print(f"{name}: beyond the margin the association is {said}")
    return drawn


if __name__ == "__main__":
    main()
