"""A synthetic but plausible AuditResult: every edge that a report must survive, without running an audit."""

from __future__ import annotations

import dataclasses

import numpy as np
from report_classes import LIMIT, NAMES, build_class, build_feature
from report_stages import build_seeing_record, build_stress_record

from salve_audit.gate.policy import Policy, tighten
from salve_audit.gate.policy_file import read_policy
from salve_audit.gate.verdict import judge
from salve_audit.results import (
    AuditResult,
    ClassReliance,
    DataInfo,
    DemoTruth,
    InterventionResult,
    MethodSpread,
    MethodSummary,
    ModelInfo,
    PlantedClass,
    Provenance,
    RankCorrelation,
    SaeFidelity,
    SaeInfo,
    SaePoint,
    SkippedFile,
    Stability,
    TransformSpec,
)
from salve_audit.results.verdict import NO_VERDICT

METHODS = (
    "salve",
    "steering",
    "rome",
    "rome-paper",
    "rome-cov",
    "ablation",
    "leace",
    "inlp",
    "mean-difference",
    "last-layer-retraining",
    "row-scaling",
    "null-permuted",
    "null-random",
)


def _interventions(classes: tuple[ClassReliance, ...], rng: np.random.Generator) -> tuple[InterventionResult, ...]:
    rows = []
    for class_record in classes:
        if not class_record.n_correct:
            continue
        for position, method in enumerate(METHODS):
            for target in (0.5, 0.05):
                base = 0.905 - (0.01 * position if method != "row-scaling" else -0.002) - 0.02 * (target < 0.1)
                others = float(base + 0.004 * rng.standard_normal())
                reached = method not in ("null-permuted", "null-random") or class_record.index % 2 == 0
                row = InterventionResult(
                    method=method,
                    class_name=class_record.name,
                    feature=class_record.dominant_feature if method == "salve" else None,
                    strength=float(rng.uniform(0.2, 5)),
                    target_accuracy=target,
                    reached_accuracy=target if reached else 0.7,
                    reached=reached,
                    others_accuracy=others,
                    others_worst=others - 0.12,
                    kl=0.01 + 0.013 * position,
                    agreement=0.99 - 0.01 * position,
                    weight_change=0.05 * (1 + position),
                    area=0.97 - 0.01 * position,
                    low=others - 0.012,
                    high=others + 0.011,
                    bias_change=0.02 * position,
                )
                rows.append(row)
    return tuple(rows)


def _summaries(rows: tuple[InterventionResult, ...]) -> tuple[MethodSummary, ...]:
    """Per method and target: the means over all classes; bounds as wide as a bootstrap of 5,000 images gives."""
    summaries = []
    for method, target in dict.fromkeys((r.method, r.target_accuracy) for r in rows):
        own = {r.class_name: r for r in rows if (r.method, r.target_accuracy) == (method, target)}
        trivial = {r.class_name: r for r in rows if (r.method, r.target_accuracy) == ("row-scaling", target)}
        common = [c for c in own if own[c].reached and trivial[c].reached]
        gap = float(np.mean([own[c].others_accuracy - trivial[c].others_accuracy for c in common])) if common else None
        others = float(np.mean([r.others_accuracy for r in own.values()]))
        summaries.append(
            MethodSummary(
                method=method,
                target_accuracy=target,
                n_classes=len(own),
                n_reached=sum(r.reached for r in own.values()),
                others_accuracy=others,
                low=others - 0.007,
                high=others + 0.006,
                area=float(np.mean([r.area for r in own.values()])),
                n_common=len(common),
                difference=gap,
                difference_low=None if gap is None else gap - 0.003,
                difference_high=None if gap is None else gap + 0.003,
            )
        )
    return tuple(summaries)


def _sae(satisfied: bool) -> SaeInfo:
    points = []
    for step, l0 in enumerate((180.0, 96.0, 51.0, 27.0, 14.0, 7.2)):
        r2 = 0.992 - 0.004 * step**2
        accuracy = 1.0 - 0.0011 * step**2
        point = SaePoint(
            "linear-l1",
            256,
            1e-4 * 3**step,
            r2,
            l0,
            2 * step,
            0.91 * accuracy,
            accuracy,
            0.002 * step,
            0.4,
            0.88 if step == 3 else None,
            step == 3,
            step == 3,
        )
        points.append(point)
    chosen = points[3]
    points.append(dataclasses.replace(chosen, variant="topk", n_latents=64, l0=5.0, matched_cosine=0.61, chosen=False))
    return SaeInfo(
        variant="linear-l1",
        n_latents=256,
        sparsity=chosen.sparsity,
        r2=chosen.r2 if satisfied else 0.84,
        l0=chosen.l0,
        n_dead=chosen.n_dead,
        accuracy_original=0.91,
        accuracy_reconstructed=chosen.accuracy,
        logit_kl=chosen.logit_kl,
        satisfied=satisfied,
        stability=Stability(5, 0.81, 0.66, 0.93),
        frontier=tuple(points),
        on_audit=SaeFidelity(0.957 if satisfied else 0.83, 0.9, 0.9 * 0.991, 0.0071),
    )


def _demo(classes: tuple[ClassReliance, ...]) -> DemoTruth:
    planted = []
    for class_record in classes[:8]:
        cues = ("red patch",) if class_record.index % 2 else ("disk", "checkerboard", "bar")
        drops = {cue: round(0.96 / len(cues) ** 2, 3) for cue in cues}
        together = {"all together": 0.97} if len(cues) > 1 else {}
        planted.append(
            PlantedClass(
                class_record.name, cues, {**together, **drops}, max(drops.values()), class_record.dominant_feature, 0.94
            )
        )
    correlations = (("alpha_hat_flip", -0.19, 0.65), ("feature_redundancy", 0.05, 0.91), ("accuracy", None, None))
    return DemoTruth(tuple(planted), tuple(RankCorrelation(s, rho, p, 8) for s, rho, p in correlations))


def build_result(
    n_classes: int = 10,
    *,
    seed: int = 0,
    limit: float | None = LIMIT,
    demo: bool = False,
    satisfied: bool = True,
    plain_names: bool = False,
) -> AuditResult:
    """A result with `n_classes` classes; the first ten names hold a hostile, a long and a right-to-left one."""
    rng = np.random.default_rng(seed)
    names = tuple(NAMES[i] if i < 10 and not plain_names else f"class {i:04d}" for i in range(n_classes))
    classes = tuple(build_class(i, name, rng) for i, name in enumerate(names))
    config = {
        "seed": seed,
        "sae": "linear-l1",
        "limit": None,
        "interventions": list(METHODS),
        "fail_under": limit,
    }
    versions = {
        "python": "3.11.7",
        "torch": "2.10.0",
        "timm": "1.0.22",
        "numpy": "2.3.1",
        "salve-audit": "0.1.0",
    }
    transform = TransformSpec((3, 64, 64), (0.49, 0.48, 0.45), (0.25, 0.24, 0.26), "bicubic", 1.0, "checkpoint")
    model = ModelInfo(
        "resnet18_cifar10_64.pt",
        "resnet18",
        "timm checkpoint",
        "fc",
        2.1e-7,
        512,
        n_classes,
        11_181_642,
        transform,
    )
    skipped = (
        SkippedFile("val/cat/0001 <b>.jpg", "truncated image"),
        SkippedFile("val/ship/17.png", "not an image"),
    )
    n_audit = sum(class_record.n for class_record in classes)
    data = DataInfo("data/cifar10", "folders train/ and val/", 10_000, n_audit, 2, skipped, names)
    features = tuple(build_feature(class_record, names, rng) for class_record in classes[:60])
    interventions = _interventions(classes[:60], rng)
    result = AuditResult(
        tool_version="0.1.0",
        created="2026-07-04T12:34:56Z",
        seed=seed,
        provenance=Provenance("a" * 64, "b" * 64, "c" * 64, config, versions, "cpu", False),
        model=model,
        data=data,
        sae=_sae(satisfied),
        classes=classes,
        features=features,
        interventions=interventions,
        intervention_summary=_summaries(interventions),
        intervention_spread=tuple(
            MethodSpread("rome", c.name, t, 10, 0.82, 0.86, 0.89) for c in classes[:4] for t in (0.5, 0.05)
        ),
        verdict=NO_VERDICT,
        notes=(
            "Two images could not be read; see the provenance.",
            f"The class {names[min(4, n_classes - 1)]} has no audit samples.",
        ),
        demo=_demo(classes) if demo else None,
        stress=build_stress_record(classes[:50], max(0, n_classes - 50)),
        seeing=build_seeing_record(classes[:40], 6 if n_classes <= 40 else 3),
    )
    return dataclasses.replace(result, verdict=judge(result, lenient(limit)))


def lenient(limit: float | None) -> Policy:
    """A policy that judges what can be judged: classes without images and weak autoencoders are let through."""
    table = {"allow_missing": ["*"], "min_judged": 1, "require_autoencoder": False}
    policy = read_policy(table, "")  # so that the audit holds it, and the gate judges it again
    return tighten(policy, {} if limit is None else {"fail_under": limit})
