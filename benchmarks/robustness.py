"""Does the critical threshold at the head mean anything for the input? The paper's open question, answered once.

    pip install --no-deps adv-lib        # attacks of their authors; its logger's visdom is not needed
    python benchmarks/robustness.py MODEL DATA [--arch FILE.py:F] [--images 2000] [--steps 50] [--out FOLDER]

Protocol, fixed before the first run:

* **Images**: of the audit split, the first correctly classified ones of every class, as many of each, 2,000 in all.
* **Threshold**: the flip threshold α̂ of an image, that is, how far its class's dominant feature is suppressed in the
  final layer until the class is no longer the largest; on a grid of 400 strengths up to 60, beyond which it is
  censored: the largest rank. Feature, coupling and autoencoder are those of a default audit without image reliance.
* **Robustness**: the smallest norm of a perturbation in pixels of 0..1 that changes the prediction: ℓ2, the smaller of
  DDN (Rony et al. 2019) and FMN (Pintor et al. 2021); ℓ∞, FMN. On 100 of the images FMN runs with four times the steps:
  the ratio of the norms says how far the attack is from converged.
* **Association**: Spearman's rank correlation within each class, pooled over classes by Fisher's z weighted by n - 3,
  with its 95 % interval; and partial, of ranks, controlling for the margin of the logits, the confidence, the norm of
  the activations and the margin over the norm of its gradient in pixels (the first-order distance).
* **Nulls**: the same with thresholds of the same feature whose coupling is permuted over the activations (20 draws):
  what an arbitrary edit of as many weights gives.
* **Verdict** for each norm: the partial correlation is *absent* where its 90 % interval lies within ±0.1 (two one-sided
  tests at 5 %), *there* where its 95 % interval leaves out zero and it is beyond all nulls, else *not decided*.

Seeded; attacks are kept in the folder, so that a second call goes on; prints what it cost.
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
from scipy import stats
from torch import Tensor, nn

from salve_audit import load_audit, load_sae
from salve_audit.activations.images import LoaderSettings, load_batch
from salve_audit.audit.run import run_audit
from salve_audit.config import AuditConfig
from salve_audit.evidence.factors.record import undo_preparation
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.digest import hash_file
from salve_audit.inputs.labels.matching import match_classes
from salve_audit.inputs.model.checkpoint import load_classifier

GRID = np.concatenate([[0.0], np.geomspace(0.02, 60, 399)])
N_NULLS, EQUIVALENT = 20, 0.1


class Pixels(nn.Module):
    """The network on pixels of 0..1."""

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model, self.mean, self.std = model, mean, std

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x - self.mean) / self.std)


def flip_thresholds(
    acts: np.ndarray, weight: np.ndarray, bias: np.ndarray, coupling: np.ndarray, label: int
) -> np.ndarray:
    """(n,) the first strength of the grid at which `label` is not the largest logit; inf: none."""
    flips = np.full(len(acts), np.inf)
    share = coupling / coupling.max()
    for strength in GRID[::-1]:
        logits = (acts * np.maximum(0, 1 - strength * share)) @ weight.T + bias
        rivals = np.delete(logits, label, axis=1).max(1)
        flips[logits[:, label] <= rivals] = strength
    return flips


def pool(correlations: list[float], sizes: list[int], level: float) -> tuple[float, float, float]:
    """Mean correlation with its interval, by Fisher's z."""
    z, weights = np.arctanh(np.clip(correlations, -0.999, 0.999)), np.array(sizes) - 3.0
    mean, half = float(z @ weights / weights.sum()), stats.norm.ppf(0.5 + level / 2) / np.sqrt(weights.sum())
    return float(np.tanh(mean)), float(np.tanh(mean - half)), float(np.tanh(mean + half))


def partial(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Correlation of ranks of x and y, of what those of `given` (n, c) leave of them."""
    ranks = np.stack([stats.rankdata(column) for column in (x, y, *given.T)], 1)
    ranks = (ranks - ranks.mean(0)) / (ranks.std(0) + 1e-12)
    rest = ranks[:, :2] - ranks[:, 2:] @ np.linalg.lstsq(ranks[:, 2:], ranks[:, :2], rcond=None)[0]
    return float(np.corrcoef(rest.T)[0, 1])


def attack_all(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    path: Path,
    run: Callable[[nn.Module, Tensor, Tensor], Tensor],
    order: float,
) -> np.ndarray:
    """(n,) norms of the perturbations that change the prediction; inf: none was found. Kept in `path` as they come."""
    norms = np.load(path) if path.is_file() else np.full(len(images), np.nan)
    for start in range(0, len(images), 100):
        rows = slice(start, start + 100)
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


def first_order(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins, confidences, and margins over the norm of their gradient."""
    parts = []
    for start in range(0, len(images), 100):
        x, y = images[start : start + 100].clone().requires_grad_(True), labels[start : start + 100]
        logits = model(x)
        rest = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        margin = logits.gather(1, y[:, None])[:, 0] - rest
        (gradient,) = torch.autograd.grad(margin.sum(), x)
        confidence = logits.softmax(1).gather(1, y[:, None])[:, 0]
        parts.append(torch.stack([margin, confidence, margin / gradient.flatten(1).norm(dim=1)], 1).detach().numpy())
    margins, confidences, distances = np.concatenate(parts).T
    return margins, confidences, distances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--arch")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    options = parser.parse_args()
    began = time.process_time()
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))  # of the attacks' logger, which is not used
    attacks = importlib.import_module("adv_lib.attacks")  # of an extra package

    said = f"{hash_file(options.model)} {options.data.resolve()} {options.arch} {options.images} {options.steps}"
    options.out /= hashlib.sha256(said.encode()).hexdigest()[:16]  # attacks are kept for these very settings
    options.out.mkdir(parents=True, exist_ok=True)
    folder = options.out / "audit"
    if not (folder / "audit.json").is_file():
        off = {"evidence": "off", "deep_edits": "off", "format": ("json",)}
        run_audit(AuditConfig(model=options.model, data=options.data, arch=options.arch, out=folder, **off))  # type: ignore[arg-type]
    result, dictionary = load_audit(folder), load_sae(folder).dictionary
    classifier = load_classifier(options.model, options.arch)
    data = match_classes(
        load_images(options.data, seed=0, limit=None), classifier.n_outputs, classifier.class_names, None
    )
    head, spec = classifier.reader.fold(classifier.model), classifier.transform
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    model = Pixels(classifier.model.eval(), mean, std)
    for parameter in model.parameters():
        parameter.requires_grad_(False)

    labels = np.array(data.audit.labels)
    each, chosen = options.images // len(result.classes), []
    pixels = []
    for record in result.classes:
        rows = np.flatnonzero(labels == record.index)
        loaded = load_batch(data.reader, [data.audit.paths[i] for i in rows], spec, LoaderSettings(64, 0)).images
        images = undo_preparation(loaded, spec).clamp(0, 1)
        with torch.no_grad():
            right = torch.cat([model(part).argmax(1) for part in torch.split(images, 100)]) == record.index
        pixels.append(images[right][:each])
        chosen += [record.index] * len(pixels[-1])
    images, target = torch.cat(pixels), torch.tensor(chosen)
    print(f"{len(images)} images of {len(result.classes)} classes")

    with torch.no_grad():
        acts = []
        hook = classifier.model.get_submodule(classifier.reader.modules[0]).register_forward_pre_hook(
            lambda _, given: acts.append(given[0].flatten(1))
        )
        for part in torch.split(images, 100):
            model(part)
        hook.remove()
    values = torch.cat(acts).double().numpy()
    weight, bias = np.asarray(head.weight, np.float64), np.asarray(head.bias, np.float64)
    margin, confidence, distance = first_order(model, images, target)
    given = np.stack([margin, confidence, np.linalg.norm(values, axis=1), distance], 1)
    rng = np.random.default_rng(0)
    own, nulls = np.empty(len(images)), np.empty((N_NULLS, len(images)))
    for record in result.classes:
        rows = np.flatnonzero(target.numpy() == record.index)
        coupling = np.abs(np.asarray(dictionary[record.dominant_feature], np.float64))
        own[rows] = flip_thresholds(values[rows], weight, bias, coupling, record.index)
        for null in nulls:
            null[rows] = flip_thresholds(values[rows], weight, bias, rng.permutation(coupling), record.index)

    def fmn(order: float, steps: int, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = attacks.fmn(model, x, y, order, steps=steps)
        return found

    def ddn(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = attacks.ddn(model, x, y, steps=options.steps, levels=None)
        return found

    def attack(name: str, order: float, run: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> np.ndarray:
        return attack_all(model, images, target, options.out / f"{name}.npy", run, order)

    euclidean = np.minimum(attack("ddn", 2, ddn), attack("fmn-l2", 2, functools.partial(fmn, 2, options.steps)))
    largest = attack("fmn-linf", math.inf, functools.partial(fmn, math.inf, options.steps))
    some = torch.from_numpy(rng.permutation(len(images))[:100])
    for name, order, found in (("l2", 2.0, euclidean), ("linf", math.inf, largest)):
        path, longer_run = options.out / f"check-{name}.npy", functools.partial(fmn, order, 4 * options.steps)
        longer = attack_all(model, images[some], target[some], path, longer_run, order)
        ratio = np.median(longer / found[some.numpy()])
        print(f"{name}: median {np.median(found):.4f}; with four times the steps {ratio:.3f} of it")
        report(name, found, own, nulls, given, target.numpy())
    print(f"{time.process_time() - began:.0f} s of CPU in this call")


def report(
    name: str, found: np.ndarray, own: np.ndarray, nulls: np.ndarray, given: np.ndarray, target: np.ndarray
) -> None:
    """Print both correlations with their nulls, and the verdict."""

    def over_classes(thresholds: np.ndarray, level: float, *, is_partial: bool) -> tuple[float, float, float]:
        correlations, sizes = [], []
        for label in np.unique(target):
            rows = (target == label) & np.isfinite(found)
            x, y = np.where(np.isfinite(thresholds), thresholds, 2 * GRID[-1])[rows], found[rows]
            if np.ptp(x) == 0:
                continue
            correlations.append(partial(x, y, given[rows]) if is_partial else float(stats.spearmanr(x, y)[0]))
            sizes.append(int(rows.sum()) - (given.shape[1] if is_partial else 0))
        return pool(correlations, sizes, level)

    for is_partial in (False, True):
        value, low, high = over_classes(own, 0.95, is_partial=is_partial)
        beside = [over_classes(null, 0.95, is_partial=is_partial)[0] for null in nulls]
        words = "partial" if is_partial else "Spearman"
        print(
            f"{name} {words}: {value:.3f} [{low:.3f}, {high:.3f}]; "
            f"permuted couplings {min(beside):.3f} to {max(beside):.3f}"
        )
    _, tight_low, tight_high = over_classes(own, 0.90, is_partial=True)
    absent = tight_low > -EQUIVALENT and tight_high < EQUIVALENT
    there = (low > 0 or high < 0) and (value > max(beside) or value < min(beside))
    print(f"{name}: beyond the margin the association is {'absent' if absent else 'there' if there else 'not decided'}")


if __name__ == "__main__":
    main()
