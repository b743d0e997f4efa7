"""Synthetic stress tests and galleries of an AuditResult, with curves that end and heat maps that are flat."""

from __future__ import annotations

import dataclasses

import numpy as np

from salve_audit.results import (
    ClassFragile,
    ClassRecovery,
    ClassReliance,
    Composition,
    CompositionChain,
    CompositionOrder,
    CompositionStep,
    EnhancementCurve,
    FeatureGallery,
    FeatureImage,
    FragileImage,
    HeatMap,
    Recovery,
    RecoveryShare,
    Seeing,
    SkippedFile,
    Stress,
    SyntheticImage,
    Thumbnail,
)
from salve_audit.saliency.heat import overlay, share_in_hottest
from salve_audit.saliency.thumbnails import encode_image, resize_heat, resize_pixels


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
    used = tuple(class_record for class_record in classes if class_record.n_correct)
    names = tuple(class_record.name for class_record in used)
    grid = tuple(0.25 * i for i in range(17))
    curves = tuple(
        EnhancementCurve(
            class_name=class_record.name,
            feature=class_record.dominant_feature,
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
        for i, class_record in enumerate(used)
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


def _image(rng: np.random.Generator, heat: np.ndarray | None = None) -> Thumbnail:
    pixels = resize_pixels(rng.integers(0, 256, size=(6, 6, 3)).astype(np.uint8), (104, 104))
    return encode_image(pixels if heat is None else overlay(pixels, resize_heat(heat, (104, 104))))


def _heat(method: str, rng: np.random.Generator) -> HeatMap:
    heat = rng.random((4, 4)) ** 3
    return HeatMap(method, _image(rng, heat), share_in_hottest(resize_heat(heat, (104, 104))))


def build_seeing_record(classes: tuple[ClassReliance, ...], n_images: int = 6) -> Seeing:
    """Every dominant feature with its images; one is lost, one feature is silent, one map is flat."""
    rng = np.random.default_rng(0)
    grad_fam, grad_cam, sharp = (_heat(method, rng) for method in ("grad-fam", "grad-cam", "integrated"))
    flat = dataclasses.replace(grad_fam, in_top_fifth=None)
    galleries, fragile, paths = [], [], []
    for class_record in classes:
        # strongest on what its own class and the next one show, as the sweeps say
        own = [
            f"val/{i}/<b>{i}.png" if class_record.index % 10 in (1, 9) else f"{class_record.name}/{i}.png"
            for i in range(n_images)
        ]
        paths += own
        taken = [class_record.name, classes[(class_record.index + 1) % len(classes)].name]
        maps = ((grad_fam, sharp), (flat,) if class_record.index == 2 else (grad_fam, sharp))
        images = tuple(
            FeatureImage(p, class_record.name, taken[i == 1], 5.0 - i, maps[i == 2]) for i, p in enumerate(own)
        )
        made = SyntheticImage(_image(rng), -9.5, 1.9) if class_record.index == 1 else None
        galleries.append(FeatureGallery(class_record.dominant_feature, () if class_record.index == 5 else images, made))
        if class_record.n_correct:
            flips = [FragileImage(p, 0.2 + i, taken[1], (grad_cam, sharp)) for i, p in enumerate(own[:4])]
            fragile.append(
                ClassFragile(
                    class_record.name, class_record.dominant_feature, () if class_record.index == 2 else tuple(flips)
                )
            )
    lost = f"{classes[0].name}/1.png"
    galleries[0] = dataclasses.replace(
        galleries[0],
        images=tuple(dataclasses.replace(i, maps=()) if i.path == lost else i for i in galleries[0].images),
    )
    prepared = {path: _image(rng) for path in dict.fromkeys(paths) if path != lost}
    unreadable = (SkippedFile(lost, "cannot be read (No such file or directory)"),)
    return Seeing("layer4", (4, 4), tuple(galleries), tuple(fragile), prepared, 3, 2, unreadable, "layer2", (8, 8))
