"""Synthetic but plausible classes and features of an AuditResult, with hostile, long and right-to-left names."""

from __future__ import annotations

import numpy as np

from salve_audit.gate.estimates import wilson
from salve_audit.results import (
    AlphaSummary,
    ClassReliance,
    ClassSweep,
    Curve,
    Distribution,
    FeatureEffect,
    FeatureEffects,
    FeatureInfo,
    FeatureSweep,
    FlipSummary,
    NullControl,
    Opposition,
    SeedCurve,
    SeedSpread,
    StatusCounts,
    TopImage,
)

HOSTILE = "</script><img src=x onerror=alert(1)>"
LONG = "a class name of exactly sixty characters, counted one by one"
RTL = "سيارة إسعاف بيضاء"
NAMES = ("airplane", "automobile", "bird", "cat", HOSTILE, LONG, RTL, "horse & cart", "ship", "truck")
GRID = tuple(float(v) for v in np.r_[0, np.geomspace(0.1, 40, 24)])
LIMIT = 1.5


def _flip(median: float | None, spread: float, share: float) -> FlipSummary:
    if median is None:
        return FlipSummary(None, 18.0, None, share)
    return FlipSummary(median, median / spread, None if share < 0.6 else median * spread, share)


def _curve(median: float, start: float, rng: np.random.Generator, others: float) -> Curve:
    grid = np.array(GRID)
    falling = start / (1 + (grid / median) ** 4)
    others_accuracy = others - 0.03 * grid / (grid + 10) + 0.002 * rng.standard_normal(len(grid))
    return Curve(GRID, tuple(map(float, falling)), tuple(map(float, others_accuracy.clip(0, 1))), bool(median > 10))


def _distribution(threshold: str, n: int, median: float | None, share: float) -> Distribution:
    levels = np.linspace(0, 1, 21)
    center = median if median is not None else 20.0
    values = [None if level > share else float(center * np.exp(1.6 * (level - 0.5))) for level in levels]
    return Distribution(threshold, n, tuple(values) if n else (None,) * 21)


def _seeds(flip: FlipSummary, start: float, deviation: float) -> SeedSpread:
    """Five seeds; the interval is wider than that over images where the seeds disagree."""
    medians = tuple(None if flip.median is None else flip.median * (1 + deviation * i) for i in range(5))
    high = flip.high if flip.high is None or deviation < 0.1 else flip.high * (1 + 4 * deviation)
    mean = tuple(start / (1 + (a / (flip.median or 9.0)) ** 4) for a in GRID)
    curve = SeedCurve(GRID, mean, tuple(deviation * m * (1 - m) for m in mean)) if start else None
    return SeedSpread(5, medians, flip.low, high, curve)


def build_class(index: int, name: str, rng: np.random.Generator) -> ClassReliance:
    kind = index % 10  # 2: half never flips, 3: thin, 4: no samples, 8: fails the policy, 9: near the limit
    n = {3: 11, 4: 0}.get(kind, 500)
    correct = {4: 0, 6: 205}.get(kind, round(n * float(rng.uniform(0.6, 0.97))))
    median = {2: None, 4: None, 8: 0.62, 9: 1.48}.get(kind, float(rng.uniform(1.9, 14)))
    share = {2: 0.31, 4: 0.0}.get(kind, 0.58 if kind == 5 else 0.97)
    flip = _flip(median, 2.4 if kind == 3 else 1.15, share)
    if kind == 4:
        flip = FlipSummary(None, None, None, 0.0)
    accuracy = correct / n if n else 0.0
    scale = 1 / float(rng.uniform(0.2, 0.5))
    empirical = None if kind in (2, 4) else (0.0 if kind == 6 else (median or 1.0) * 0.93)
    hat = AlphaSummary(
        None if kind == 4 else (median or 9.0) * 0.7,
        None if kind in (2, 4) else (median or 9.0) * 1.3,
        flip,
        empirical,
    )
    raw = _scaled(hat, scale)
    flags = {2: ("erased",), 3: ("thin",), 4: ("thin",), 5: ("non-monotone",), 6: ("wrong from the start",)}
    extra = {7: ("unstable", "not beyond null")}
    return ClassReliance(
        name=name,
        index=index,
        n=n,
        n_correct=correct,
        accuracy=accuracy,
        accuracy_low=wilson(correct, n)[0],
        accuracy_high=wilson(correct, n)[1],
        thin=kind in (3, 4),
        dominant_feature=3 * index + 1,
        stable=None if kind == 0 else kind != 7,
        seeds=None if kind == 0 else _seeds(flip, accuracy, 0.4 if kind == 7 else 0.02),
        top_features=tuple(3 * index + j for j in (1, 0, 2, 5)),
        top_attribution=tuple(3 * index + j for j in (1, 2, 0, 5)),
        alpha=raw,
        alpha_hat=hat,
        status=StatusCounts(0, 0, 0, 0)
        if kind == 4
        else StatusCounts(n - 20, 5, 3, 12)
        if n > 20
        else StatusCounts(n, 0, 0, 0),
        analytical_below_numerical=None if kind == 4 else 0.93,
        clamped_share=None if kind == 4 else 0.125,
        enhance=FlipSummary(None, None, None, 0.0) if kind == 4 else FlipSummary(3.21, 3.0, 3.5, 0.9),
        edit_size_at_flip=None if median is None else 0.0731 * median,
        feature_redundancy=None if kind in (2, 4) else 1 + kind % 3,
        feature_redundancy_limit=20,
        null_p=None if kind == 4 else (0.41 if kind == 7 else 0.0099),
        null=NullControl(correct, median, 21.3, 0.0099, 27.4, 0.41 if kind == 7 else 0.0099, 100, 38),
        differs_from=("airplane", "cat") if kind == 8 else (),
        curve=Curve((), (), (), False) if kind == 4 else _curve(median or 90.0, accuracy, rng, 0.9),
        distributions=tuple(
            _distribution(t, correct, median and median * f, share)
            for t, f in (("analytical", 0.7), ("numerical", 1.3), ("flip", 1.0))
        ),
        flags=flags.get(kind, extra.get(kind, ())),
    )


def _scaled(hat: AlphaSummary, scale: float) -> AlphaSummary:
    def times(value: float | None) -> float | None:
        return None if value is None else value * scale

    flip = FlipSummary(times(hat.flip.median), times(hat.flip.low), times(hat.flip.high), hat.flip.share)
    return AlphaSummary(times(hat.analytical), times(hat.numerical), flip, times(hat.empirical))


def build_feature(class_record: ClassReliance, names: tuple[str, ...], rng: np.random.Generator) -> FeatureInfo:
    k = len(names)
    code = 0.3 * rng.standard_normal(k)
    code[class_record.index] = 4.0
    cross = class_record.index % 10 in (1, 9)
    if cross:
        code[(class_record.index + 8) % k] = -2.6
    missing = {i for i in range(k) if i % 10 == 4}

    def effect(strength: float, sign: float) -> FeatureEffect:
        change = 0.01 * rng.standard_normal(k)
        change[class_record.index] = -sign * 0.45 * strength / 2
        change[(class_record.index + 8) % k] = sign * 0.21 * strength / 2 if cross else 0.0
        return FeatureEffect(strength, tuple(None if i in missing else float(v) for i, v in enumerate(change)))

    partner = names[(class_record.index + 8) % k]
    return FeatureInfo(
        index=class_record.dominant_feature,
        norm=1.0,
        coupling_max=0.31,
        classes=(class_record.name, partner) if cross else (class_record.name,),
        affected=(class_record.name, partner) if cross else (class_record.name,),
        dominant_for=(class_record.name,),
        cross_class=cross,
        entangled=cross,
        mean_code=tuple(None if i in missing else float(v) for i, v in enumerate(code)),
        effect=FeatureEffects(
            tuple(effect(s, 1.0) for s in (0.5, 1.0, 2.0)), tuple(effect(s, -0.3) for s in (0.5, 1.0, 2.0))
        ),
        sweep=_sweep(class_record, names) if cross else None,
    )


def _sweep(class_record: ClassReliance, names: tuple[str, ...]) -> FeatureSweep:
    """The class falls when its feature is suppressed, its partner rises."""
    strengths = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
    partner = names[(class_record.index + 8) % len(names)]
    shown = []
    for name in dict.fromkeys((class_record.name, partner, *names[:4])):
        slope = 0.12 if name == class_record.name else -0.05 if name == partner else 0.0
        values = tuple(0.6 + slope * s if s < 0 else 0.6 + 0.2 * slope * s for s in strengths)
        shown.append(ClassSweep(name, values, tuple(v - 0.04 for v in values), tuple(v + 0.04 for v in values)))
    moves = tuple(Opposition(s, (class_record.name,), (partner,)) for s in (-4.0, -2.0))
    images = tuple(TopImage(f"val/{i}/<b>{i}.png", class_record.name, 5.0 - i) for i in range(9))
    return FeatureSweep(strengths, tuple(shown), moves, images)
