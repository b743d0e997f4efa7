"""Concepts as groups of latents that need no pieces, as rivals in `depth.py`: how well they rank classes.

Every way of grouping is tried on dictionaries of the first block; a class's reliance is the largest drop of any group.
`depth_latents_pieces.py` measures latents that are chosen by pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from depth_cases import Case, Found

from salve_audit.inputs.classifier import Classifier, TransformSpec
from salve_audit.inputs.heads import find_head
from salve_audit.reliance.depth.latents import (
    DictionarySettings,
    LayerTail,
    PictureSource,
    PositionDictionary,
    as_removals,
    attribute_removals,
    coarse_level,
    count_concepts,
    cut_by_independence,
    fit_dictionaries,
    group_by_effect,
    group_by_place,
    living,
    remove_each,
    sample_positions,
    single_latents,
)
from salve_audit.reliance.depth.latents.groups import Latents
from salve_audit.spatial import CutNetwork, SpatialLayer
from salve_audit.spatial.layers import trace_layers

STAGES: Mapping[str, Sequence[str]] = {  # what stage i of a `StagedNetwork` is given
    "resnet": ("", "maxpool", "layer1", "layer2", "layer3"),
    "vit": ("", "norm_pre", "blocks.0", "blocks.1", "blocks.2"),
    "convnext": ("", "stem", "stages.0", "stages.1", "stages.2"),
}


@dataclass(frozen=True)
class Setup:
    """A network cut at a layer, with a dictionary of it.

    Attributes:
        tail: its rest.
        dictionary: of its positions.
        grid: height and width of the layer.
        n_passes: so far, outside of the tail.
    """

    tail: LayerTail
    dictionary: PositionDictionary
    grid: tuple[int, int]
    n_passes: int


def cut_case(case: Case, stage: int) -> CutNetwork:
    name = STAGES[case.net.arch][stage]
    classifier = as_classifier(case)
    layer: SpatialLayer = trace_layers(classifier, case.images).find(name, case.unit, ())
    return CutNetwork(classifier.model, layer, classifier.reader, case.unit)


def as_classifier(case: Case) -> Classifier:
    size = tuple(case.images.shape[1:])
    reader = find_head(case.net.model, size)
    spec = TransformSpec(size, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "benchmark")
    path = Path(case.unit)
    return Classifier(case.net.model, "", "", path, "", reader.name, spec, None, False, (), head_reader=reader)


def set_up(case: Case, stage: int, settings: DictionarySettings) -> Setup:
    cut = cut_case(case, stage)
    source = PictureSource(case.labels, lambda rows: case.images[torch.from_numpy(rows)])
    sample = sample_positions(cut, source, np.random.default_rng(settings.seed))
    (dictionary,) = fit_dictionaries(sample, replace(settings, n_seeds=1))
    layout = cut.layer.layout
    return Setup(LayerTail(cut, source, batch_size=240), dictionary, (layout.height, layout.width), len(source))


def codes_of(setup: Setup, rows: np.ndarray) -> torch.Tensor:
    """(n, gh, gw, m)."""
    with torch.no_grad():
        found = torch.cat([setup.dictionary.encode(batch.positions) for batch in setup.tail.reach(rows)])
    return found.unflatten(1, setup.grid)


def measure_groups(
    case: Case, kind: str, settings: DictionarySettings, stage: int = 2, *, selective: bool = False
) -> Found:
    """The group that hurts the class most; selective: its drop less the mean drop of the other classes."""
    setup = set_up(case, stage, settings)
    groups = find_groups(case, setup, kind)
    own = isinstance(groups, dict)
    listed = [groups[k] for k in sorted(groups)] if own else [groups] * case.n_classes
    reliance, sample = np.zeros(case.n_classes), np.zeros(len(case.labels))
    every = np.arange(len(case.labels))
    removals = None if own else remove_each(setup.tail, as_removals(setup.dictionary, groups), every)
    for k in range(case.n_classes):
        rows = np.flatnonzero(case.labels == k)
        if removals is None:
            clean, changed = remove_each(setup.tail, as_removals(setup.dictionary, listed[k]), rows)
        else:
            clean, changed = removals[0][rows], removals[1][:, rows]
        drops = ((changed <= 0) & (clean > 0)).mean(1)
        if selective and removals is not None:
            lost = (removals[1] <= 0) & (removals[0] > 0)
            drops = drops - lost[:, case.labels != k].mean(1)
        best = int(drops.argmax())
        reliance[k], sample[rows] = drops[best], -changed[best]
    return Found(reliance, sample, setup.n_passes + setup.tail.n_passes)


def find_groups(case: Case, setup: Setup, kind: str) -> list[Latents] | dict[int, list[Latents]]:
    """Groups for all classes, or, by class, for each."""
    dictionary, every = setup.dictionary, np.arange(len(case.labels))
    singles = single_latents(dictionary)
    if kind == "single":
        return list(singles)
    if kind == "coarse":
        return list(coarse_level(dictionary, 1))
    codes = codes_of(setup, every)
    if kind == "coarse and finer":
        return list(coarse_level(dictionary, 1, codes))
    if kind == "by place":
        return list(living(group_by_place(codes), dictionary))
    if kind == "cut by independence":
        groups = living(group_by_place(codes, 0.3), dictionary)
        classes = range(case.n_classes)
        return {k: list(cut_by_independence(groups, codes[torch.from_numpy(case.labels == k)])) for k in classes}
    assert kind == "by effect"
    clean, changed = remove_each(setup.tail, as_removals(dictionary, singles), every)
    alive = [one for (one,) in singles]
    change = np.zeros((dictionary.n_latents, len(every)))
    change[alive] = (clean - changed) * case.right
    return list(living(group_by_effect(change), dictionary))


def measure_redundancy(case: Case, settings: DictionarySettings, stage: int = 2) -> Found:
    """Fewer latents until the class is lost: more rests on one."""
    setup = set_up(case, stage, settings)
    removals = as_removals(setup.dictionary, single_latents(setup.dictionary))
    reliance, sample = np.zeros(case.n_classes), np.zeros(len(case.labels))
    for k in range(case.n_classes):
        rows = np.flatnonzero(case.labels == k)
        found = count_concepts(setup.tail, removals, k, rows, np.random.default_rng(0))
        reliance[k] = -(len(found.order) + 1 if found.count is None else found.count)
        sample[rows] = attribute_removals(setup.tail, removals, rows).max(0)
    return Found(reliance, sample, setup.n_passes + setup.tail.n_passes)


SMALL = DictionarySettings(n_latents=20, n_active=2)
MIDDLE = DictionarySettings(n_latents=64, n_active=4)
NESTED = DictionarySettings("matryoshka", 128, 4)
MEASURES: Mapping[str, Callable[[Case], Found]] = {
    **{
        f"latents {s.n_latents}/{s.n_active}, {kind}": partial(measure_groups, kind=kind, settings=s)
        for s in (SMALL, MIDDLE)
        for kind in ("single", "by place", "by effect", "cut by independence")
    },
    "latents 20/2, single, others spared": partial(measure_groups, kind="single", settings=SMALL, selective=True),
    "latents 64/4, by place, others spared": partial(measure_groups, kind="by place", settings=MIDDLE, selective=True),
    "latents matryoshka, coarse": partial(measure_groups, kind="coarse", settings=NESTED),
    "latents matryoshka, coarse and finer": partial(measure_groups, kind="coarse and finer", settings=NESTED),
    "latents 64/4, redundancy": partial(measure_redundancy, settings=MIDDLE),
}
