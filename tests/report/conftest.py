"""A synthetic but plausible AuditResult: every edge that a report must survive, without running an audit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from salve_audit.gate.verdict import judge_flips
from salve_audit.results import (
    AlphaSummary,
    AuditResult,
    ClassFragile,
    ClassRecovery,
    ClassReliance,
    ClassSweep,
    Composition,
    CompositionChain,
    CompositionOrder,
    CompositionStep,
    Curve,
    DataInfo,
    DemoTruth,
    Distribution,
    EnhancementCurve,
    FeatureEffect,
    FeatureEffects,
    FeatureGallery,
    FeatureImage,
    FeatureInfo,
    FeatureSweep,
    FlipSummary,
    FragileImage,
    HeatMap,
    InterventionResult,
    MethodSpread,
    MethodSummary,
    ModelInfo,
    NullControl,
    Opposition,
    Picture,
    PlantedClass,
    Provenance,
    RankCorrelation,
    Recovery,
    RecoveryShare,
    SaeFidelity,
    SaeInfo,
    SaePoint,
    SeedCurve,
    SeedSpread,
    Seeing,
    SkippedFile,
    Stability,
    StatusCounts,
    Stress,
    SyntheticImage,
    TopImage,
    TransformInfo,
)
from salve_audit.saliency.heat import overlay, share_in_hottest
from salve_audit.saliency.thumbnails import encode_picture, resize_heat, resize_pixels

HOSTILE = "</script><img src=x onerror=alert(1)>"
LONG = "a class name of exactly sixty characters, counted one by one"
RTL = "سيارة إسعاف بيضاء"
NAMES = ("airplane", "automobile", "bird", "cat", HOSTILE, LONG, RTL, "horse & cart", "ship", "truck")
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
GRID = tuple(float(v) for v in np.r_[0, np.geomspace(0.1, 40, 24)])
LIMIT = 1.5


def _flip(median: float | None, spread: float, share: float) -> FlipSummary:
    if median is None:
        return FlipSummary(None, 18.0, None, share)
    return FlipSummary(median, median / spread, None if share < 0.6 else median * spread, share)


def _curve(median: float, start: float, rng: np.random.Generator, others: float) -> Curve:
    grid = np.array(GRID)
    falling = start / (1 + (grid / median) ** 4)
    kept = others - 0.03 * grid / (grid + 10) + 0.002 * rng.standard_normal(len(grid))
    return Curve(GRID, tuple(map(float, falling)), tuple(map(float, kept.clip(0, 1))), bool(median > 10))


def _distribution(threshold: str, n: int, median: float | None, share: float) -> Distribution:
    levels = np.linspace(0, 1, 21)
    center = median if median is not None else 20.0
    values = [None if level > share else float(center * np.exp(1.6 * (level - 0.5))) for level in levels]
    return Distribution(threshold, n, tuple(values) if n else (None,) * 21)


def _seeds(flip: FlipSummary, start: float, deviation: float) -> SeedSpread:
    """Five seeds; the interval is wider than that over pictures where the seeds disagree."""
    medians = tuple(None if flip.median is None else flip.median * (1 + deviation * i) for i in range(5))
    high = flip.high if flip.high is None or deviation < 0.1 else flip.high * (1 + 4 * deviation)
    mean = tuple(start / (1 + (a / (flip.median or 9.0)) ** 4) for a in GRID)
    curve = SeedCurve(GRID, mean, tuple(deviation * m * (1 - m) for m in mean)) if start else None
    return SeedSpread(5, medians, flip.low, high, curve)


def _reliance(index: int, name: str, rng: np.random.Generator) -> ClassReliance:
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
        accuracy_low=max(0.0, accuracy - 0.03),
        accuracy_high=min(1.0, accuracy + 0.03),
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
        redundancy=None if kind in (2, 4) else 1 + kind % 3,
        redundancy_limit=20,
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


def _feature(one: ClassReliance, names: tuple[str, ...], rng: np.random.Generator) -> FeatureInfo:
    k = len(names)
    code = 0.3 * rng.standard_normal(k)
    code[one.index] = 4.0
    cross = one.index % 10 in (1, 9)
    if cross:
        code[(one.index + 8) % k] = -2.6
    missing = {i for i in range(k) if i % 10 == 4}

    def effect(strength: float, sign: float) -> FeatureEffect:
        change = 0.01 * rng.standard_normal(k)
        change[one.index] = -sign * 0.45 * strength / 2
        change[(one.index + 8) % k] = sign * 0.21 * strength / 2 if cross else 0.0
        return FeatureEffect(strength, tuple(None if i in missing else float(v) for i, v in enumerate(change)))

    partner = names[(one.index + 8) % k]
    return FeatureInfo(
        index=one.dominant_feature,
        norm=1.0,
        coupling_max=0.31,
        classes=(one.name, partner) if cross else (one.name,),
        affected=(one.name, partner) if cross else (one.name,),
        dominant_for=(one.name,),
        cross_class=cross,
        entangled=cross,
        mean_code=tuple(None if i in missing else float(v) for i, v in enumerate(code)),
        effect=FeatureEffects(
            tuple(effect(s, 1.0) for s in (0.5, 1.0, 2.0)), tuple(effect(s, -0.3) for s in (0.5, 1.0, 2.0))
        ),
        sweep=_sweep(one, names) if cross else None,
    )


def _sweep(one: ClassReliance, names: tuple[str, ...]) -> FeatureSweep:
    """The class falls when its feature is suppressed, its partner rises."""
    strengths = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
    partner = names[(one.index + 8) % len(names)]
    shown = []
    for name in dict.fromkeys((one.name, partner, *names[:4])):
        slope = 0.12 if name == one.name else -0.05 if name == partner else 0.0
        values = tuple(0.6 + slope * s if s < 0 else 0.6 + 0.2 * slope * s for s in strengths)
        shown.append(ClassSweep(name, values, tuple(v - 0.04 for v in values), tuple(v + 0.04 for v in values)))
    moves = tuple(Opposition(s, (one.name,), (partner,)) for s in (-4.0, -2.0))
    images = tuple(TopImage(f"val/{i}/<b>{i}.png", one.name, 5.0 - i) for i in range(9))
    return FeatureSweep(strengths, tuple(shown), moves, images)


def _steps(drop: float, n: int = 6) -> tuple[CompositionStep, ...]:
    return tuple(
        CompositionStep(
            i, 0.9 - drop * i, 0.89 - drop * i, 0.91 - drop * i, -drop * i, *_around(-drop * i, i), _left(i)
        )
        for i in range(n)
    )


def _around(change: float, i: int) -> tuple[float, float]:
    return (change - 0.002 * min(i, 1), change + 0.002 * min(i, 1))


def _gap(drop: float) -> tuple[float, float, float]:
    gap = -5 * (drop + 0.012)
    return (gap, gap - 0.002, gap + 0.002)


def _left(i: int) -> float | None:
    return 0.05 if i else None


def _recovery(method: str, names: tuple[str, ...], median: float | None) -> Recovery:
    shares = tuple(
        RecoveryShare(b, s, s - 0.02, s + 0.02)
        for b, s in ((0.05, 0.2), (0.1, 0.1 if median is None else 0.7), (0.2, 0.9))
    )
    low, high = (None, None) if median is None else (0.9 * median, 1.1 * median)
    classes = tuple(ClassRecovery(name, 45, 3, median) for name in names)
    return Recovery(method, len(names), 1, 45 * len(names), 5, 3, median, low, high, shares, classes)


def build_stress_record(classes: tuple[ClassReliance, ...], n_left_out: int = 0) -> Stress:
    """SALVE does harm as its edits add up, row scaling does not; SALVE hides the classes."""
    used = tuple(one for one in classes if one.n_correct)
    names = tuple(one.name for one in used)
    grid = tuple(0.25 * i for i in range(17))
    curves = tuple(
        EnhancementCurve(
            class_name=one.name,
            feature=one.dominant_feature,
            alpha_hat=grid,
            accuracy=tuple(min(1.0, 0.7 + 0.05 * a) for a in grid),
            low=tuple(min(1.0, 0.7 + 0.05 * a) - 0.03 for a in grid),
            high=tuple(min(1.0, 0.73 + 0.05 * a) for a in grid),
            others=tuple(0.88 - 0.01 * a for a in grid),
            others_low=tuple(0.87 - 0.01 * a for a in grid),
            others_high=tuple(0.89 - 0.01 * a for a in grid),
            kept_until=None if i == 2 else 0.8 + 0.1 * i,
            lost_by="" if i == 2 else "others",
        )
        for i, one in enumerate(used)
    )
    drops = {"output-removed": -0.012, "salve": 0.1, "ablation": 0.01, "row-scaling": -0.011}
    chain = names[: min(5, len(names) - 1)]
    orders = {
        m: CompositionOrder(5, 0.2 if m == "ablation" else 1e-16, 0.9 if m == "ablation" else 1.0, 0.0) for m in drops
    }
    return Stress(
        class_names=names,
        n_classes_left_out=n_left_out,
        n_samples=5000,
        n_per_class=50,
        target_accuracy=0.05,
        enhancement=curves,
        composition=tuple(Composition(m, 5, m != "ablation", _steps(drop), *_gap(drop)) for m, drop in drops.items()),
        chains=tuple(
            CompositionChain(m, chain, fragile, _steps(drop), (orders[m],))
            for m, drop in drops.items()
            for fragile in (True, False)
        ),
        recovery=(
            _recovery("unedited", names, 0.48),
            _recovery("salve", names, 0.06),
            _recovery("rome-cov", (), None),
            _recovery("row-scaling", names, 0.17),
            _recovery("null-random", names, 0.059),
        ),
    )


def _picture(rng: np.random.Generator, heat: np.ndarray | None = None) -> Picture:
    pixels = resize_pixels(rng.integers(0, 256, size=(6, 6, 3)).astype(np.uint8), (104, 104))
    return encode_picture(pixels if heat is None else overlay(pixels, resize_heat(heat, (104, 104))))


def _heat(method: str, rng: np.random.Generator) -> HeatMap:
    heat = rng.random((4, 4)) ** 3
    return HeatMap(method, _picture(rng, heat), share_in_hottest(resize_heat(heat, (104, 104))))


def build_seeing_record(classes: tuple[ClassReliance, ...], n_images: int = 6) -> Seeing:
    """Every dominant feature with its pictures; one is lost, one feature is silent, one map is flat."""
    rng = np.random.default_rng(0)
    grad_fam, grad_cam, sharp = (_heat(method, rng) for method in ("grad-fam", "grad-cam", "integrated"))
    flat = dataclasses.replace(grad_fam, in_top_fifth=None)
    galleries, fragile, paths = [], [], []
    for one in classes:
        # strongest on what its own class and the next one show, as the sweeps say
        own = [f"val/{i}/<b>{i}.png" if one.index % 10 in (1, 9) else f"{one.name}/{i}.png" for i in range(n_images)]
        paths += own
        taken = [one.name, classes[(one.index + 1) % len(classes)].name]
        maps = ((grad_fam, sharp), (flat,) if one.index == 2 else (grad_fam, sharp))
        images = tuple(FeatureImage(p, one.name, taken[i == 1], 5.0 - i, maps[i == 2]) for i, p in enumerate(own))
        made = SyntheticImage(_picture(rng), -9.5, 1.9) if one.index == 1 else None
        galleries.append(FeatureGallery(one.dominant_feature, () if one.index == 5 else images, made))
        if one.n_correct:
            flips = [FragileImage(p, 0.2 + i, taken[1], (grad_cam, sharp)) for i, p in enumerate(own[:4])]
            fragile.append(ClassFragile(one.name, one.dominant_feature, () if one.index == 2 else tuple(flips)))
    lost = f"{classes[0].name}/1.png"
    galleries[0] = dataclasses.replace(
        galleries[0],
        images=tuple(dataclasses.replace(i, maps=()) if i.path == lost else i for i in galleries[0].images),
    )
    pictures = {path: _picture(rng) for path in dict.fromkeys(paths) if path != lost}
    unreadable = (SkippedFile(lost, "cannot be read (No such file or directory)"),)
    return Seeing("layer4", (4, 4), tuple(galleries), tuple(fragile), pictures, 3, 2, unreadable, "layer2", (8, 8))


def _interventions(classes: tuple[ClassReliance, ...], rng: np.random.Generator) -> tuple[InterventionResult, ...]:
    rows = []
    for one in classes:
        if not one.n_correct:
            continue
        for position, method in enumerate(METHODS):
            for target in (0.5, 0.05):
                base = 0.905 - (0.01 * position if method != "row-scaling" else -0.002) - 0.02 * (target < 0.1)
                others = float(base + 0.004 * rng.standard_normal())
                reached = method not in ("null-permuted", "null-random") or one.index % 2 == 0
                row = InterventionResult(
                    method=method,
                    class_name=one.name,
                    feature=one.dominant_feature if method == "salve" else None,
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
    """Per method and target: the means over all classes; bounds as wide as a bootstrap of 5,000 pictures gives."""
    found = []
    for method, target in dict.fromkeys((r.method, r.target_accuracy) for r in rows):
        own = {r.class_name: r for r in rows if (r.method, r.target_accuracy) == (method, target)}
        trivial = {r.class_name: r for r in rows if (r.method, r.target_accuracy) == ("row-scaling", target)}
        common = [c for c in own if own[c].reached and trivial[c].reached]
        gap = float(np.mean([own[c].others_accuracy - trivial[c].others_accuracy for c in common])) if common else None
        others = float(np.mean([r.others_accuracy for r in own.values()]))
        found.append(
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
    return tuple(found)


def _sae(satisfied: bool) -> SaeInfo:
    points = []
    for step, l0 in enumerate((180.0, 96.0, 51.0, 27.0, 14.0, 7.2)):
        r2 = 0.992 - 0.004 * step**2
        kept = 1.0 - 0.0011 * step**2
        point = SaePoint(
            "linear-l1",
            256,
            1e-4 * 3**step,
            r2,
            l0,
            2 * step,
            0.91 * kept,
            kept,
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
    for one in classes[:8]:
        cues = ("red patch",) if one.index % 2 else ("disk", "checkerboard", "bar")
        drops = {cue: round(0.96 / len(cues) ** 2, 3) for cue in cues}
        together = {"all together": 0.97} if len(cues) > 1 else {}
        planted.append(
            PlantedClass(one.name, cues, {**together, **drops}, max(drops.values()), one.dominant_feature, 0.94)
        )
    found = (("alpha_hat_flip", -0.19, 0.65), ("redundancy", 0.05, 0.91), ("accuracy", None, None))
    return DemoTruth(tuple(planted), tuple(RankCorrelation(s, rho, p, 8) for s, rho, p in found))


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
    classes = tuple(_reliance(i, name, rng) for i, name in enumerate(names))
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
    transform = TransformInfo((3, 64, 64), (0.49, 0.48, 0.45), (0.25, 0.24, 0.26), "bicubic", 1.0, "checkpoint")
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
        SkippedFile("val/cat/0001 <b>.jpg", "truncated picture"),
        SkippedFile("val/ship/17.png", "not a picture"),
    )
    data = DataInfo("data/cifar10", "folders train/ and val/", 10_000, 5_000, 2, skipped, names)
    features = tuple(_feature(one, names, rng) for one in classes[:60])
    interventions = _interventions(classes[:60], rng)
    return AuditResult(
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
        verdict=judge_flips(classes, limit),
        notes=(
            "Two pictures could not be read; see the provenance.",
            f"The class {HOSTILE} has no audit samples.",
        ),
        demo=_demo(classes) if demo else None,
        stress=build_stress_record(classes[:50], max(0, n_classes - 50)),
        seeing=build_seeing_record(classes[:40], 6 if n_classes <= 40 else 3),
    )


@pytest.fixture(scope="session")
def make_result() -> Callable[..., AuditResult]:
    return build_result


@pytest.fixture(scope="session")
def audit() -> AuditResult:
    """Ten classes with every edge, a failed policy and the demo's truth."""
    return build_result(demo=True)


@pytest.fixture(scope="session")
def unpoliced() -> AuditResult:
    """No policy, an autoencoder that misses its goals, user code trusted."""
    result = build_result(limit=None, satisfied=False)
    return dataclasses.replace(result, provenance=dataclasses.replace(result.provenance, trusted_code=True))
