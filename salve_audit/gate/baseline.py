"""Losses against a baseline: a paired bootstrap over the images that both audits have, corrected over classes.

Accuracy and flip medians are compared image by image from both samples.parquet; seeds of the autoencoder are a second
level of the bootstrap of flip medians. What audit.json holds only as an interval is compared by the intervals of both
(`salve_audit.gate.interval_losses`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import IO, TYPE_CHECKING

from salve_audit.errors import ResultError, UsageError
from salve_audit.gate.audit_file import BROKEN, UNSEALED, AuditFile
from salve_audit.gate.estimates import Decision, Estimate, decide, unjudged
from salve_audit.gate.interval_losses import compare_intervals
from salve_audit.gate.policy import Policy, Setting
from salve_audit.gate.review import Review
from salve_audit.gate.rules import DROP, MISMATCHES
from salve_audit.results import AuditResult, ClassReliance
from salve_audit.results.view import companions_of

if TYPE_CHECKING:
    import numpy as np

N_DRAWS = 1000
SAMPLES = "samples.parquet"
PAIRED = ("accuracy", "alpha_hat")
LEAST_PAIRED = 30


@dataclass(frozen=True)
class Samples:
    """The audit images of one audit.

    Attributes:
        paths: (n,)
        labels: (n,) names of classes.
        correct: (n,)
        flips: (n,) thresholds in α̂; inf: never, nan: not applicable.
    """

    paths: Sequence[str]
    labels: Sequence[str]
    correct: np.ndarray
    flips: np.ndarray


@dataclass(frozen=True)
class Compared:
    """An audit beside its baseline.

    Attributes:
        new, old: both audits.
        new_samples, old_samples: their images; None: samples.parquet is not there.
        name: of the baseline, for messages.
        review: what people have said of dependences; those that are accepted are no loss.
    """

    new: AuditResult
    old: AuditResult
    new_samples: Samples | None
    old_samples: Samples | None
    name: str
    review: Review | None = None


def find_mismatches(new: AuditFile, old: AuditFile) -> dict[str, str]:
    """What the two audits do not share, by the word that ``--allow-mismatch`` takes."""
    ours, theirs = new.result, old.result
    mismatches = {}
    if ours.provenance.data_sha256 != theirs.provenance.data_sha256:
        mismatches["data"] = "the audited data are others"
    if new.schema_version != old.schema_version:
        mismatches["schema"] = f"audit.json is version {new.schema_version} here and {old.schema_version} there"
    if ours.sae.variant != theirs.sae.variant:
        mismatches["autoencoder"] = f"the autoencoder is {ours.sae.variant} here and {theirs.sae.variant} there"
    if ours.data.classes != theirs.data.classes:
        mismatches["classes"] = "the classes are others"
    if old.digest != "sealed":
        words = {UNSEALED: "carries no digest over its numbers", BROKEN: "was changed after it was written"}
        mismatches["digest"] = f"the baseline {words[old.digest]}"
    return mismatches


def read_samples(folder: Path) -> Samples | None:
    """The images of an audit from its samples.parquet; None: there is no such file.

    Raises:
        ResultError: the file is damaged.
    """
    file = folder / SAMPLES
    return parse_samples(file, str(file)) if file.is_file() else None


def samples_of(audit: AuditFile) -> Samples | None:
    """The images of an audit, saved or in memory; None: they are not at hand.

    Raises:
        ResultError: the file is damaged.
    """
    if audit.is_on_disk:
        return read_samples(audit.folder)
    companions = companions_of(audit.result)
    return None if companions is None else parse_samples(io.BytesIO(companions.read(SAMPLES)), SAMPLES)


def parse_samples(source: Path | IO[bytes], name: str) -> Samples:
    """The images in a samples.parquet; `name` is for messages.

    Raises:
        ResultError: the file is damaged.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(source, columns=["path", "label", "correct", "alpha_hat_flip"])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise ResultError(name, f"cannot be read ({str(error).splitlines()[0]})") from error
    paths, labels = (table.column(name).to_pylist() for name in ("path", "label"))
    correct = np.asarray(table.column("correct").to_numpy(zero_copy_only=False), dtype=bool)
    flips = np.asarray(table.column("alpha_hat_flip").to_numpy(zero_copy_only=False), dtype=np.float64)
    return Samples(paths, labels, correct, flips)


def compare_with_baseline(
    policy: Policy, compared: Compared, seed: int = 0
) -> dict[tuple[str, str], tuple[Estimate, Decision]]:
    """Every loss that the policy limits, decided: by class and measure; for accuracy also of all images together.

    A loss is a violation where its one-sided p-value, corrected by Holm's method over the classes of one measure, is at
    most half of what the confidence leaves, so that one class is judged as its interval is.
    """
    settings = {part.name for part in policy.all_settings if part.kind is DROP and part.limit is not None}
    losses: dict[tuple[str, str], tuple[Estimate, Decision]] = {}
    for name in sorted(settings):
        rows = list(_measure_classes(name, policy, compared, seed))
        losses |= _decide_all(rows, name, (1 - policy.confidence) / 2)
    overall = next((part for part in policy.settings if part.kind is DROP and part.name == "accuracy"), None)
    if overall is not None and overall.limit is not None:
        losses[("", "accuracy")] = _decide_overall(overall, policy, compared)
    return losses


@dataclass(frozen=True)
class _Loss:
    class_name: str
    estimate: Estimate
    limit: float
    p: float  # of a loss of at most the limit, one-sided


def _measure_classes(name: str, policy: Policy, compared: Compared, seed: int) -> Iterator[_Loss]:
    old = {class_info.name: class_info for class_info in compared.old.classes}
    positions = _positions(compared) if name in PAIRED else {}
    for class_info in compared.new.classes:
        own = policy.settings_of(class_info.name)
        setting = next((part for part in own if part.key == f"{DROP.key}.{name}"), None)
        if setting is None or setting.limit is None or class_info.n == 0:
            continue
        before = old.get(class_info.name)
        if before is None or before.n == 0:
            yield _Loss(class_info.name, unjudged("the baseline has no images of this class"), setting.limit, 1.0)
        elif name in PAIRED:
            pairs = positions.get(class_info.name)
            estimate, p = _compare_paired(name, setting, policy, compared, (before, class_info), pairs, seed)
            yield _Loss(class_info.name, estimate, setting.limit, p)
        else:
            pair = (compared.old, before), (compared.new, class_info)
            estimate, p = compare_intervals(name, setting, policy, compared.review, pair)
            yield _Loss(class_info.name, estimate, setting.limit, p)


def _decide_all(rows: Sequence[_Loss], name: str, level: float) -> dict[tuple[str, str], tuple[Estimate, Decision]]:
    corrected = _holm([row.p for row in rows])
    decided = {}
    for row, p in zip(rows, corrected, strict=True):
        decision = decide(row.estimate, row.limit, at_least=False)
        if decision.outcome == "fail" and p > level:
            why = f"beyond the limit, but not beyond what {len(rows)} classes show by luck (p {p:.2g}, Holm)"
            decision = Decision("undecided", why)
        decided[(row.class_name, name)] = (row.estimate, decision)
    return decided


def _holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's method."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, largest = [1.0] * len(values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = largest
    return adjusted


def _positions(compared: Compared) -> dict[str, np.ndarray]:
    """(pairs, 2) rows of the images that both audits have, by class: of the baseline, and of the audit."""
    if compared.new_samples is None or compared.old_samples is None:
        return {}
    import numpy as np

    rows = {path: i for i, path in enumerate(compared.old_samples.paths)}
    pairs: dict[str, list[tuple[int, int]]] = {}
    for i, (path, label) in enumerate(zip(compared.new_samples.paths, compared.new_samples.labels, strict=True)):
        if path in rows and compared.old_samples.labels[rows[path]] == label:
            pairs.setdefault(label, []).append((rows[path], i))
    return {label: np.array(own) for label, own in pairs.items()}


def _compare_paired(
    name: str,
    setting: Setting,
    policy: Policy,
    compared: Compared,
    classes: tuple[ClassReliance, ClassReliance],
    pairs: np.ndarray | None,
    seed: int,
) -> tuple[Estimate, float]:
    if compared.new_samples is None or compared.old_samples is None:
        return unjudged(f"{SAMPLES} of both audits is needed, and is not there"), 1.0
    import numpy as np

    n = 0 if pairs is None else len(pairs)
    if pairs is None or n < LEAST_PAIRED:
        return unjudged(f"{n} images are in both audits, {LEAST_PAIRED} are needed", thin=True, n=n), 1.0
    rng = np.random.default_rng((seed, classes[1].index, PAIRED.index(name)))
    old_rows, new_rows = pairs.T
    if name == "accuracy":
        values = (compared.old_samples.correct[old_rows], compared.new_samples.correct[new_rows])
        point, draws = _draw_accuracy(*values, rng)
    else:
        point, draws = _draw_medians(
            (compared.old_samples.flips[old_rows], compared.new_samples.flips[new_rows]), classes, rng
        )
    if not math.isfinite(point):
        return unjudged("a flip median is not reached in one of the audits", thin=True, n=n), 1.0
    assert setting.limit is not None, "a limit is set"
    return _summarise(point, draws, setting.limit, policy.confidence, n)


def _summarise(point: float, draws: np.ndarray, limit: float, confidence: float, n: int) -> tuple[Estimate, float]:
    import numpy as np

    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], method="closest_observation")
    p = (1 + int((draws <= limit).sum())) / (1 + len(draws))
    spread = float(np.std(draws[np.isfinite(draws)]))
    if p * (1 + len(draws)) < 2 and spread > 0:  # beyond what the draws resolve, the tail is taken for a normal one
        p = min(p, 1 - NormalDist().cdf((point - limit) / spread))
    return Estimate(point, min(float(low), point), max(float(high), point), n), p


def _draw_accuracy(old: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """The loss of accuracy, and its bootstrap: what counts of n pairs is how many got worse and how many better."""
    n = len(old)
    worse, better = int((old & ~new).sum()), int((~old & new).sum())
    smoothed = [worse + 0.5, better + 0.5, n - worse - better + 0.5]  # a count of 0 in the sample is not 0 for certain
    counts = rng.multinomial(n, [part / sum(smoothed) for part in smoothed], size=N_DRAWS)
    return (worse - better) / n, (counts[:, 0] - counts[:, 1]) / n


def _draw_medians(
    flips: tuple[np.ndarray, np.ndarray], classes: tuple[ClassReliance, ClassReliance], rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """The share of the flip median that is lost, and its bootstrap over images and then seeds.

    Only images with a threshold in both audits take part. All censoring lies beyond the last threshold, so the
    Kaplan-Meier median of a sample is its order statistic of rank ⌈n/2⌉.
    """
    import numpy as np

    both = ~np.isnan(flips[0]) & ~np.isnan(flips[1])
    values = np.stack([part[both] for part in flips])
    n = values.shape[1]
    rank = (n + 1) // 2 - 1
    old, new = np.partition(values, rank, axis=1)[:, rank] if n else (math.nan, math.nan)
    if not (np.isfinite(old) and np.isfinite(new) and old > 0):
        return math.nan, np.empty(0)
    picks = rng.integers(n, size=(N_DRAWS, n))
    drawn = [np.partition(part[picks], rank, axis=1)[:, rank] for part in values]
    shifts = [_draw_seeds(class_info, rng) for class_info in classes]
    with np.errstate(invalid="ignore"):
        lost = 1 - drawn[1] * shifts[1] / (drawn[0] * shifts[0])
    return float(1 - new / old), np.nan_to_num(lost, nan=0.0, neginf=-np.inf, posinf=np.inf)


def _draw_seeds(class_info: ClassReliance, rng: np.random.Generator) -> np.ndarray:
    """Factors by which another seed of the autoencoder changes the flip median; 1 where one was trained."""
    import numpy as np

    medians = () if class_info.seeds is None else class_info.seeds.medians
    reached = [median for median in medians if median]
    if len(reached) < 2 or not medians[0]:
        return np.ones(N_DRAWS)
    return rng.choice(np.array(reached), size=N_DRAWS) / medians[0]


def _decide_overall(setting: Setting, policy: Policy, compared: Compared) -> tuple[Estimate, Decision]:
    """The loss of accuracy over all images that both audits have."""
    assert setting.limit is not None, "a limit is set"
    positions = _positions(compared)
    if compared.new_samples is None or compared.old_samples is None or not positions:
        estimate = unjudged(f"no image is in both audits, or {SAMPLES} is not there")
        return estimate, decide(estimate, setting.limit, at_least=False)
    import numpy as np

    old_rows, new_rows = np.concatenate(list(positions.values())).T
    values = compared.old_samples.correct[old_rows], compared.new_samples.correct[new_rows]
    point, draws = _draw_accuracy(*values, np.random.default_rng(0))
    estimate, _ = _summarise(point, draws, setting.limit, policy.confidence, len(old_rows))
    return estimate, decide(estimate, setting.limit, at_least=False)


def check_mismatches(mismatches: Mapping[str, str], allowed: Sequence[str]) -> tuple[str, ...]:
    """The mismatches that are not allowed, as reasons.

    Raises:
        UsageError: an unknown word is allowed.
    """
    for word in allowed:
        if word not in MISMATCHES:
            raise UsageError("--allow-mismatch", f"{word!r} is not one of {', '.join(MISMATCHES)}")
    hint = "--allow-mismatch"
    return tuple(
        f"the baseline is not comparable: {why} ({hint} {word} compares nevertheless)"
        for word, why in mismatches.items()
        if word not in allowed
    )
