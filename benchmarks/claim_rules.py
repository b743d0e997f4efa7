"""What each claim of the paper comes to in a finished audit, by the rules in `claims.py`'s docstring."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from claim_networks import Subject
from safetensors.numpy import load_file
from scipy import stats

from salve_audit import load_audit, load_sae
from salve_audit.gate.estimates import wilson
from salve_audit.results import AuditResult, ClassReliance, InterventionResult

REPRODUCED, PARTLY, NOT = "reproduced", "partly", "not"
MOST, HALF = 0.9, 0.5
LEAST_CORRECT, LEAST_ACCURACY = 30, 0.5
NEAR_ZERO = 0.05
N_DRAWS = 2000


@dataclass(frozen=True)
class Audited:
    """A network's audit, and the classes that count."""

    subject: Subject
    folder: Path
    result: AuditResult
    classes: tuple[ClassReliance, ...]


@dataclass(frozen=True)
class Cell:
    """A verdict with its figure; "" where the claim is about a comparison with another network."""

    verdict: str
    figure: str

    def __str__(self) -> str:
        return f"**{self.verdict}**: {self.figure}" if self.verdict else self.figure


def read(subject: Subject, folder: Path) -> Audited:
    """A finished audit."""
    result = load_audit(folder)
    counted = [each for each in result.classes if each.n_correct >= LEAST_CORRECT and each.accuracy >= LEAST_ACCURACY]
    return Audited(subject, folder, result, tuple(counted))


def grade(share: float, most: float = MOST) -> str:
    return REPRODUCED if share >= most else PARTLY if share >= HALF else NOT


def _by_class(kept: Sequence[bool], beside: str = "") -> Cell:
    low, high = wilson(sum(kept), len(kept))
    figure = f"{sum(kept)} of {len(kept)} classes [{low:.0%}, {high:.0%}]"
    return Cell(grade(sum(kept) / len(kept)), figure + (f"; {beside}" if beside else ""))


def bootstrap(n: int, statistic: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """95 % interval of a statistic of drawn rows of n."""
    rng = np.random.default_rng(0)
    drawn = np.array([statistic(rng.integers(0, n, n)) for _ in range(N_DRAWS)])
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def judge_sparseness(each: Audited, _: Sequence[Audited]) -> Cell:
    """1: how many latents carry a class's mean codes."""
    held = load_file(each.folder / "activations.safetensors")
    acts, labels, indices = held["fit_acts"], held["fit_labels"], np.unique(held["fit_labels"])
    codes = load_sae(each.folder).encode(acts)
    wanted = np.isin(indices, [one.index for one in each.classes])

    def participation(values: np.ndarray) -> np.ndarray:
        power = values**2
        return (power.sum(1) ** 2 / (power**2).sum(1))[wanted]

    means = np.stack([acts[labels == i].mean(0) for i in indices]).astype(np.float64)
    of_codes = participation(np.stack([codes[labels == i].mean(0) for i in indices]).astype(np.float64))
    of_acts = participation(means - means.mean(0))
    beside = f"median {np.median(of_codes):.1f} latents, {np.median(of_acts):.0f} of the activations themselves"
    return _by_class([bool(count <= 3) for count in of_codes], beside)


def _matched(each: Audited) -> dict[str, InterventionResult]:
    return {
        item.class_name: item
        for item in each.result.interventions
        if item.method == "salve" and item.target_accuracy == NEAR_ZERO
    }


def judge_near_zero(each: Audited, _: Sequence[Audited]) -> Cell:
    """2: the class's own accuracy."""
    matched = _matched(each)
    reached = [matched[info.name] for info in each.classes if info.name in matched]
    worst = max(item.reached_accuracy for item in reached)
    return _by_class([item.reached_accuracy <= NEAR_ZERO for item in reached], f"worst {worst:.0%}")


def judge_off_target(each: Audited, _: Sequence[Audited]) -> Cell:
    """3: the others' mean accuracy at the same strength."""
    matched, kept, changes = _matched(each), [], []
    for info in each.classes:
        if info.name not in matched:
            continue
        item = matched[info.name]
        unedited = float(np.mean([other.accuracy for other in each.result.classes if other.name != info.name]))
        change = item.others_accuracy - unedited
        kept.append(item.reached and change >= -0.05)
        changes.append(change)
    mean = 100 * float(np.mean(changes))
    low, high = bootstrap(len(changes), lambda rows: 100 * float(np.mean(np.array(changes)[rows])))
    return _by_class(kept, f"mean change {mean:+.1f} [{low:+.1f}, {high:+.1f}] points, worst {100 * min(changes):+.0f}")


def judge_enhancement(each: Audited, _: Sequence[Audited]) -> Cell | None:
    """4: accuracies at α̂ = 1."""
    if each.result.stress is None:
        return None
    names, kept, changes = {info.name for info in each.classes}, [], []
    for curve in each.result.stress.enhancement:
        if curve.class_name in names:
            at = curve.alpha_hat.index(1.0)
            own, others = curve.accuracy[at] - curve.accuracy[0], curve.others[at] - curve.others[0]
            kept.append(min(own, others) >= -0.02)
            changes.append((100 * own, 100 * others))
    own, others = np.mean(changes, 0)
    return _by_class(kept, f"mean change {own:+.1f} own, {others:+.1f} others")


def judge_opposition(each: Audited, _: Sequence[Audited]) -> Cell:
    """5: features that lower one class and raise another."""
    shared = [feature for feature in each.result.features if feature.cross_class]
    swept = [feature for feature in shared if feature.sweep is not None]
    opposed = [feature for feature in swept if feature.entangled]
    if not swept:
        return Cell(PARTLY if shared else NOT, f"{len(shared)} shared features, none swept")
    low, high = wilson(len(opposed), len(swept))
    figure = f"{len(opposed)} of {len(swept)} swept features [{low:.0%}, {high:.0%}]"
    return Cell(REPRODUCED if opposed else PARTLY, figure)


def judge_rivals(each: Audited, _: Sequence[Audited]) -> Cell:
    """6: ROME and steering against SALVE."""
    alike, figures = 0, []
    for item in each.result.intervention_summary:
        if item.method in ("rome", "steering") and item.target_accuracy == NEAR_ZERO:
            share = item.n_reached / item.n_classes
            if item.to_salve is None or item.to_salve_low is None or item.to_salve_high is None:
                figures.append(f"{item.method} reaches {item.n_reached} of {item.n_classes}")
                continue
            alike += share >= MOST and item.to_salve_low >= -0.05 and item.to_salve_high <= 0.05
            low, high = 100 * item.to_salve_low, 100 * item.to_salve_high
            reached = f" ({item.n_reached} of {item.n_classes} reached)" if share < 1 else ""
            figures.append(f"{item.method} {100 * item.to_salve:+.1f} [{low:+.1f}, {high:+.1f}]{reached}")
    return Cell((NOT, PARTLY, REPRODUCED)[alike], "; ".join(figures))


def judge_bound(each: Audited, _: Sequence[Audited]) -> Cell:
    """7: how often the analytical threshold is a lower bound."""
    shares = [info.analytical_below_numerical for info in each.classes if info.analytical_below_numerical is not None]
    if not shares:
        return Cell(NOT, "defined for no class")
    low, high = bootstrap(len(shares), lambda rows: float(np.mean(np.array(shares)[rows])))
    return Cell(grade(mean := float(np.mean(shares)), 0.95), f"{mean:.1%} of images [{low:.1%}, {high:.1%}]")


def judge_empirical(each: Audited, _: Sequence[Audited]) -> Cell:
    """8: the numerical threshold beside the empirical one."""
    ratios = []
    for info in each.classes:
        numerical, empirical = info.alpha_hat.numerical, info.alpha_hat.empirical
        ratios.append(math.inf if not numerical or not empirical else numerical / empirical)
    missing = sum(math.isinf(ratio) for ratio in ratios)
    middle = float(np.median(ratios))
    beside = f"median ratio {middle:.2f}" if math.isfinite(middle) else "median ratio not reached"
    beside += f", {missing} without" if missing else ""
    return _by_class([1 / 1.5 <= ratio <= 1.5 for ratio in ratios], beside)


def _gaps(each: Audited) -> np.ndarray:
    """Numerical over analytical, the median of each class; inf where half of its images never cross."""
    table = pd.read_parquet(each.folder / "samples.parquet")
    crossed = table["alpha_numerical"].where(table["status"] == "crossed", np.inf)
    table = table.assign(gap=crossed / table["alpha_analytical"])[table["alpha_analytical"].notna()]
    medians = table.groupby("label")["gap"].median()
    return np.array([medians[info.name] for info in each.classes if info.name in medians.index])


def judge_gap(each: Audited, audited: Sequence[Audited]) -> Cell:
    """9: the gap between numerical and analytical thresholds."""
    return _compare(each, audited, _gaps, "{:.2f}")


def judge_clamped(each: Audited, audited: Sequence[Audited]) -> Cell:
    """10: the share of terms that are clamped at the flips."""

    def shares(one: Audited) -> np.ndarray:
        return np.array([info.clamped_share for info in one.classes if info.clamped_share is not None])

    return _compare(each, audited, shares, "{:.1%}")


def _compare(each: Audited, audited: Sequence[Audited], measure: Callable[[Audited], np.ndarray], shown: str) -> Cell:
    """The median over classes; for the ViT, the probability that a class has more than one of each CNN."""
    own = measure(each)
    middle = float(np.median(own)) if len(own) else math.nan
    figure = "median " + (shown.format(middle) if math.isfinite(middle) else "not reached")
    rivals = [other for other in audited if other.subject.family == "cnn"]
    if each.subject.family != "vit" or not rivals:
        return Cell("", figure)
    above, beyond = [], []
    for other in rivals:
        share, low, high = superiority(own, measure(other))
        above.append(share > HALF)
        beyond.append(low > HALF)
        figure += f"; P(above {other.subject.title}) {share:.2f} [{low:.2f}, {high:.2f}]"
    return Cell(REPRODUCED if all(beyond) else PARTLY if all(above) or any(beyond) else NOT, figure)


def superiority(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """The probability that a value of the first is larger than one of the second, ties half; interval by bootstrap."""
    larger = (first[:, None] > second[None]) + 0.5 * (first[:, None] == second[None])
    rng = np.random.default_rng(0)
    drawn = [
        larger[rng.integers(0, len(first), len(first))][:, rng.integers(0, len(second), len(second))].mean()
        for _ in range(N_DRAWS)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(larger.mean()), float(low), float(high)


def judge_seeds(each: Audited, _: Sequence[Audited]) -> Cell | None:
    """11: dictionaries and curves over seeds of the autoencoder."""
    stability = each.result.sae.stability
    curves = [info.seeds.curve for info in each.classes if info.seeds is not None and info.seeds.curve is not None]
    if stability is None or not curves:
        return None
    agreeing = [float(np.mean(curve.deviation)) <= 0.05 for curve in curves]
    low, high = wilson(sum(agreeing), len(agreeing))
    differs, agree = stability.share_matched <= MOST, sum(agreeing) >= MOST * len(agreeing)
    figure = (
        f"{stability.share_matched:.0%} of latents matched (mean cosine {stability.matched_cosine:.2f}); curves agree "
        f"in {sum(agreeing)} of {len(agreeing)} classes [{low:.0%}, {high:.0%}]"
    )
    return Cell((NOT, PARTLY, REPRODUCED)[differs + agree], figure)


def judge_batches(small: Sequence[Audited], large: Sequence[Audited]) -> Cell:
    """12: log10 α̂ of networks trained with small batches less that with large ones."""

    def medians(group: Sequence[Audited]) -> np.ndarray:
        """(networks, classes), NaN where the median is not reached."""
        values = [[info.alpha_hat.flip.median or math.nan for info in each.result.classes] for each in group]
        return np.log10(np.array(values))

    table, other = medians(small), medians(large)
    own, rival = np.nanmedian(table, 1), np.nanmedian(other, 1)
    difference = float(own.mean() - rival.mean())
    low, high = stats.ttest_ind(own, rival, equal_var=False).confidence_interval(0.95)
    signs = np.sign(np.nanmean(table, 0) - np.nanmean(other, 0))
    same = float(np.mean(signs == np.sign(difference)))
    accuracies = [
        np.mean([each.result.counts[1] / each.result.counts[0] for each in group]) for group in (small, large)
    ]
    figure = (
        f"{difference:+.2f} [{low:+.2f}, {high:+.2f}] decades of α̂, same sign in {same:.0%} of {table.shape[1]} "
        f"classes; accuracy {accuracies[0]:.1%} and {accuracies[1]:.1%}"
    )
    return Cell(REPRODUCED if low > 0 or high < 0 else PARTLY if same >= MOST else NOT, figure)
