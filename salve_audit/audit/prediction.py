"""How long the stages ahead will take: counted work over measured speed, corrected by what earlier audits took.

The network's speed is known from the pass, and that of products from one that is timed. How much work a stage is, is a
rough formula; the ratio of what it took to what was predicted is kept in the cache folder for each stage, so that the
next prediction on the same machine is better than the first.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from salve_audit.activations.device import choose_device
from salve_audit.audit.line import (
    AUTOENCODER,
    DATA_CHECK,
    DEEP_EDITS,
    IMAGE_RELIANCE,
    INTERVENTIONS,
    RELIANCE,
    SALIENCY,
    STRESS,
)
from salve_audit.audit.progress import StageTime
from salve_audit.audit.stage_runner import Stage, StageRunner
from salve_audit.audit.stages import choose_budget
from salve_audit.audit.subject import PASS_STAGE
from salve_audit.config import AuditConfig
from salve_audit.sae.variant_names import AUTO
from salve_audit.whole_files import written_whole

FILE = "times.json"  # in the cache folder: by stage, actual over predicted seconds of the last audits
REMEMBERED = 5
LEAST_PASS_S = 3.0  # a shorter pass is mostly warming up
LEAST_S = 0.5  # shorter stages say nothing about speed
PRODUCT_SIZE = 384  # of the timed matrix product


@dataclass(frozen=True)
class Workload:
    """What the cost of a stage depends on.

    Attributes:
        n_fit, n_audit: images of the two splits.
        d, k: activations and classes.
        per_class: audit images of each class that has any.
        image_s: seconds of one image's forward pass; 0 without a network.
        product_s: seconds of one multiply-add in a large product of float64.
        config: of the audit.
    """

    n_fit: int
    n_audit: int
    d: int
    k: int
    per_class: tuple[int, ...]
    image_s: float
    product_s: float
    config: AuditConfig

    @property
    def head_s(self) -> float:
        """Seconds of the head on all audit images."""
        return float(self.n_audit) * self.d * self.k * self.product_s


def predict_stages(runner: StageRunner, stages: Sequence[Stage[Any]]) -> dict[str, float]:
    """Seconds that each stage that happens will take, 0 where its result is there already."""
    load, ratios = measure_workload(runner), read_ratios(runner.cache.folder)
    return {
        stage.name: 0.0 if runner.is_ready(stage) else FORMULAS[stage.name](load) * _ratio(ratios, stage.name)
        for stage in stages
        if runner.happens(stage)
    }


def measure_workload(runner: StageRunner) -> Workload:
    """The sizes of the audit, and the speeds of its network and of this machine."""
    subject = runner.subject
    head, audit = subject.activations.head, subject.activations.audit
    counts = np.bincount(audit.labels, minlength=head.n_classes)
    return Workload(
        n_fit=len(subject.activations.fit.labels),
        n_audit=len(audit.labels),
        d=head.d,
        k=head.n_classes,
        per_class=tuple(int(count) for count in counts if count),
        image_s=_time_image(runner),
        product_s=_time_product(),
        config=runner.config,
    )


def _time_image(runner: StageRunner) -> float:
    """Seconds per image of the pass, or of a few runs where it was short or its activations came from the cache."""
    classifier, activations = runner.subject.classifier, runner.subject.activations
    if classifier is None:
        return 0.0
    passes = [stage for stage in runner.reporter.times if stage.name == PASS_STAGE and not stage.from_cache]
    if passes and (passes[-1].seconds or 0.0) >= LEAST_PASS_S:
        return (passes[-1].seconds or 0.0) / (len(activations.fit.labels) + len(activations.audit.labels))
    device = choose_device(runner.config.device)
    model, batch = classifier.on(device).model, torch.zeros((4, *classifier.transform.input_size), device=device)
    with torch.no_grad():
        model(batch[:1])
        start = time.perf_counter()
        model(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - start) / len(batch)


def _time_product() -> float:
    """Seconds of one multiply-add."""
    square = np.ones((PRODUCT_SIZE, PRODUCT_SIZE))
    timed = []
    for _ in range(3):
        start = time.perf_counter()
        square @ square
        timed.append(time.perf_counter() - start)
    return min(timed) / PRODUCT_SIZE**3


def _predict_autoencoder(load: Workload) -> float:
    """The search over variants, or one of them; it grows slower than the number of images."""
    share = 1.0 if load.config.sae == AUTO else 0.25
    seeds = (load.config.sae_seeds or 5) / 5
    seconds = share * seeds * SAE_S * (load.n_fit / 1000) ** 0.5 * max((load.d / 512) ** 0.5, 0.5)
    return min(seconds, choose_budget(load.config.sae_budget, choose_device(load.config.device)) or seconds)


def _predict_reliance(load: Workload) -> float:
    controlled = min(len(load.per_class), 50)
    return controlled * (CURVE_PRODUCTS * load.head_s + CONTROL_S * (1 + load.d / 512))


def _predict_interventions(load: Workload) -> float:
    methods = len(load.config.interventions)
    return 0.1 + methods * len(load.per_class) * (EDIT_PRODUCTS * load.head_s + EDIT_S)


def _predict_stress(load: Workload) -> float:
    return 0.1 + min(len(load.per_class), 50) * (STRESS_PRODUCTS * load.head_s + STRESS_S)


def _predict_deep_edits(load: Workload) -> float:
    if load.config.deep_edits == "off" or not load.image_s:
        return 0.0
    seconds = DEEP_RUNS * load.image_s
    return seconds if load.config.deep_edits == "on" else min(seconds, DEEP_AUTO_S)


def _predict_saliency(load: Workload) -> float:
    if not load.config.images or not load.image_s:
        return 0.0
    shown = min(SHOWN_PER_CLASS * len(load.per_class), MOST_SHOWN, load.n_audit)
    return 0.5 + shown * (MAP_RUNS * load.image_s + DRAWING_S)


def _predict_data_check(load: Workload) -> float:
    return LOOKED_AT_S * min(load.n_fit + load.n_audit, LOOKED_AT) if load.image_s else 0.0


def _predict_image_reliance(load: Workload) -> float:
    if load.config.evidence == "off" or not load.image_s:
        return 0.0
    examined = sum(min(count, EXAMINED) for count in load.per_class)
    seconds = examined * (EVIDENCE_RUNS * load.image_s + EXAMINED_S)
    return seconds if load.config.evidence_needed else min(seconds, OVER_BUDGET * load.config.evidence_budget)


# From audits of a ResNet-18 and of a network with 32 activations; `read_ratios` corrects them for a machine.
SAE_S = 20.0
CURVE_PRODUCTS, CONTROL_S = 60.0, 0.2
EDIT_PRODUCTS, EDIT_S = 12.0, 0.015
STRESS_PRODUCTS, STRESS_S = 60.0, 0.4
DEEP_RUNS, DEEP_AUTO_S = 3000.0, 10.0
SHOWN_PER_CLASS, MOST_SHOWN, MAP_RUNS, DRAWING_S = 16, 300, 5.0, 0.1
LOOKED_AT, LOOKED_AT_S = 800, 0.005
EXAMINED, EVIDENCE_RUNS, EXAMINED_S, OVER_BUDGET = 100, 80.0, 0.02, 1.05  # drawing follows the time that was given

FORMULAS: Mapping[str, Callable[[Workload], float]] = {
    AUTOENCODER.name: _predict_autoencoder,
    RELIANCE.name: _predict_reliance,
    INTERVENTIONS.name: _predict_interventions,
    STRESS.name: _predict_stress,
    DEEP_EDITS.name: _predict_deep_edits,
    SALIENCY.name: _predict_saliency,
    DATA_CHECK.name: _predict_data_check,
    IMAGE_RELIANCE.name: _predict_image_reliance,
}


def read_ratios(folder: Path | None) -> dict[str, list[float]]:
    """By stage, actual over predicted seconds of the last audits with this cache; none where it has no such file."""
    if folder is None:
        return {}
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return {str(name): [float(ratio) for ratio in ratios] for name, ratios in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def remember_ratios(folder: Path | None, times: Sequence[StageTime]) -> None:
    """Keep how the stages that were computed compare with what was predicted; without a folder, nothing."""
    ratios = read_ratios(folder)
    for stage in times:
        if stage.from_cache or stage.seconds is None or not stage.predicted or stage.seconds < LEAST_S:
            continue
        uncorrected = stage.predicted / _ratio(ratios, stage.name)
        ratios[stage.name] = [*ratios.get(stage.name, []), stage.seconds / uncorrected][-REMEMBERED:]
    if folder is None or not folder.is_dir():
        return
    with contextlib.suppress(OSError), written_whole(folder / FILE) as part:
        part.write_text(json.dumps(ratios), encoding="utf-8")


def _ratio(ratios: Mapping[str, Sequence[float]], name: str) -> float:
    known = [ratio for ratio in ratios.get(name, ()) if 0 < ratio < float("inf")]
    return statistics.median(known) if known else 1.0
