"""Made-up image reliance for a made-up audit: concepts with images, global factors, controls and every outcome."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from report_results import build_result, lenient

from salve_audit.gate.policy import tighten
from salve_audit.gate.verdict import judge
from salve_audit.reliance.survival import wilson
from salve_audit.results import (
    AuditResult,
    ClassReliance,
    Concept,
    ConceptEffect,
    ConceptImage,
    ConceptProperties,
    ConceptRemoval,
    Confusion,
    EvidenceInfo,
    FactorEffect,
    ImageReliance,
    InsertedImage,
    OcclusionCheck,
    Suppression,
    SuppressionTrace,
    Thumbnail,
)

N = 100
SIDE = 64
FACTORS = ("border", "colour", "sharpness", "mean field")


@cache
def _image(seed: int, outline: bool, thing: bool) -> Thumbnail:
    """A gradient with a square in it, outlined or removed; generated, so that it may be shown anywhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    pixels = np.stack([90 + 60 * y, 110 + 50 * x, np.full_like(x, 60 + 20 * rng.random())], 2)
    image = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    left, top = (int(v) for v in rng.integers(6, 40, 2))
    if thing:
        draw.rectangle((left, top, left + 14, top + 14), fill=(230, 60, 40))
    if outline:
        draw.rectangle((left - 2, top - 2, left + 16, top + 16), outline=(255, 255, 255), width=2)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return Thumbnail(SIDE, SIDE, base64.b64encode(buffer.getvalue()).decode("ascii"))


def _images(index: int, name: str, others: Sequence[str], with_images: bool) -> tuple[ConceptImage, ...]:
    if not with_images:
        return ()
    seeds = [(7 * index + i) % 12 for i in range(4)]
    other = others[(index + 1) % len(others)]
    return tuple(
        ConceptImage(
            f"val/{name}/{i}.png", _image(seed, True, True), _image(seed, False, False), i != 3, None,
            _image(seed, False, True), name if i == 3 else other,
            InsertedImage(f"val/{other}/{i}.png", other, _image(seed + 40, False, True), other if i == 1 else name),
        )
        for i, seed in enumerate(seeds)
    )  # fmt: skip


def _measure(info: ClassReliance, reliance: float, concept: Concept, kind: str, chance: float) -> ImageReliance:
    n = min(N, info.n)
    chance = round(chance * n) / n
    low, high = wilson(round(reliance * n), n)
    chance_low, chance_high = wilson(round(chance * n), n)
    check = OcclusionCheck(concept.index, 90, 0.95, 0.9, 0.98, 0.8, reliance, low, high)
    factors = tuple(
        FactorEffect(
            name, share := (reliance if name == kind else 0.02 * i), *wilson(round(share * N), N), 0.01, 0.5 * share,
            name, N, excess=share - 0.01, n_inserted=N, inserted_chance=0.02,
        )
        for i, name in enumerate(FACTORS)
    )  # fmt: skip
    redundancy = 1 if reliance > 0.5 else 3
    n_correct = min(n, info.n_correct)
    return ImageReliance(
        n, n_correct, reliance, low, high, kind, concept.index, redundancy, redundancy, redundancy, 5, chance,
        n < 30, chance_low, chance_high, check if kind == "region" else None, factors,
    )  # fmt: skip


def add_reliance(result: AuditResult, shares: Sequence[float], *, with_images: bool = True) -> AuditResult:
    """The result with image reliance of these shares, class by class and round again; every third on a factor."""
    classes, concepts = [], []
    worst = sorted(range(len(result.classes)), key=lambda i: -shares[i % len(shares)])[:MOST_DRAWN]
    for i, info in enumerate(result.classes):
        reliance = shares[i % len(shares)]
        kind = FACTORS[(i // 3) % len(FACTORS)] if i % 3 == 2 else "region"
        n = min(N, info.n) or N
        reliance = round(reliance * n) / n
        low, high = wilson(round(reliance * n), n)
        effect = (ConceptEffect(info.name, reliance, low, high),)
        removal = ConceptRemoval("layer1", 30, reliance, low, high, 0.7, effect, 0.02, 0.0, 0.05, 0.05, 2)
        concept = Concept(
            i, "layer1" if kind == "region" else "image", info.name, (3, 5), 0.1, round(0.92 * n), effect, kind, (0.5,),
            _images(i, info.name, result.data.classes, with_images and i in worst), removal if i % 2 == 0 else None,
            properties=ConceptProperties(n, 0.83, 0.21, 0.24, 0.29, 0.1) if kind == "region" else None,
        )  # fmt: skip
        concepts.append(concept)
        measured = _measure(info, reliance, concept, kind, min(reliance, 0.1)) if info.n else None
        classes.append(dataclasses.replace(info, image_reliance=measured))
    evidence = EvidenceInfo("Regions were removed.", "layer1", N, 12345, 0, "", N * len(classes), 0.5)
    return dataclasses.replace(
        result, classes=tuple(classes), concepts=tuple(concepts), evidence=evidence, suppression=_suppression(result)
    )


def _suppression(result: AuditResult) -> Suppression:
    """Half of each class goes to the next one, evenly over strengths."""
    k = len(result.data.classes)
    start = tuple(Confusion(i, i, 40) for i in range(k))
    traces = tuple(
        SuppressionTrace(
            info.name, info.dominant_feature, 4.0, tuple(0.1 * (j + 1) for j in range(30)),
            (info.index,) * 30, (info.index,) * 30, ((info.index + 1) % k,) * 30,
        )
        for info in result.classes[:20]
    )  # fmt: skip
    return Suppression(start, traces)


MOST_DRAWN = 16  # classes, as in salve_audit.evidence.drawing
MIXED = (0.98, 0.03, 0.72, 0.39, 0.5, 0.9, 0.05, 0.61, 0.17, 1.0)


@cache
def build_scenario(name: str) -> AuditResult:
    """An audit for each state that a report has to survive."""
    if name == "arrays":  # no image was ever there
        arrays = build_result(8, plain_names=True, limit=None)
        why = EvidenceInfo("", why_absent="activations were audited, not images")
        model = dataclasses.replace(arrays.model, transform=None)
        return dataclasses.replace(arrays, evidence=why, seeing=None, model=model)
    n_classes = {"two": 2, "hundred": 100, "thousand": 1000}.get(name, 10)
    base = build_result(n_classes, plain_names=name not in ("mixed", "long"), limit=None)
    shares = {"calm": (0.02, 0.05, 0.0), "fragile": (0.99, 0.9, 0.85, 0.97), "open": (0.5, 0.45, 0.55)}.get(name, MIXED)
    if name == "long":
        base = _rename(base)
    result = add_reliance(base, shares, with_images=name != "no-images")
    if name in ("failing", "mixed"):
        limits = {"fail_under": 1.5, "fail_under_redundancy": 2, "fail_over_reliance": 0.5}
        result = judged(result, **limits)
    return result


def judged(result: AuditResult, **limits: float) -> AuditResult:
    """The result under a policy of these limits that judges what can be judged."""
    return dataclasses.replace(result, verdict=judge(result, tighten(lenient(None), limits)))


def _rename(result: AuditResult) -> AuditResult:
    """Names of 300 characters with one beginning and one end, and what scripts and controls there are."""
    from salve_audit.results.relabel import relabel_classes

    odd = ["‮gnp.exe", "زرافة", "长颈鹿", "जिराफ़", "🦒 giraffe", "a\x00b\x1b[31m", "=SUM(A1)", "tall\u200bgiraffe"]
    long = ["x" * 150 + chr(ord("a") + i) + "y" * 149 for i in range(len(result.classes) - len(odd))]
    names = [info.name for info in result.classes]
    return relabel_classes(result, dict(zip(names, [*odd, *long], strict=True)))
