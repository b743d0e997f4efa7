"""Concepts as sets of latents of a dictionary of a spatial layer's positions, and what removing them does.

Read in this order: `positions` (a bounded sample of a layer), `dictionary` (trained on it), `groups` and `by_pieces`
(sets of latents as concepts), `tail` (the network's rest), `suppression` and `redundancy` (what is lost without them).
"""

from salve_audit.reliance.depth.latents.by_pieces import (
    LossTerms,
    PieceSearch,
    choose_by_loss,
    choose_by_presence,
    cover_positions,
)
from salve_audit.reliance.depth.latents.dictionary import DictionarySettings, PositionDictionary, fit_dictionaries
from salve_audit.reliance.depth.latents.groups import (
    LatentGroup,
    as_removals,
    coarse_level,
    cut_by_independence,
    group_by_effect,
    group_by_place,
    living,
    random_groups,
    single_latents,
)
from salve_audit.reliance.depth.latents.positions import PictureSource, PositionSample, sample_positions
from salve_audit.reliance.depth.latents.redundancy import (
    LayerRedundancy,
    Together,
    attribute_removals,
    count_concepts,
)
from salve_audit.reliance.depth.latents.suppression import (
    ClassDrop,
    Effect,
    StrengthSearch,
    find_strengths,
    median_strength,
    remove_each,
    spread,
    summarise_effect,
)
from salve_audit.reliance.depth.latents.tail import LayerTail

__all__ = [
    "ClassDrop",
    "DictionarySettings",
    "Effect",
    "LatentGroup",
    "LayerRedundancy",
    "LayerTail",
    "LossTerms",
    "PictureSource",
    "PieceSearch",
    "PositionDictionary",
    "PositionSample",
    "StrengthSearch",
    "Together",
    "as_removals",
    "attribute_removals",
    "choose_by_loss",
    "choose_by_presence",
    "coarse_level",
    "count_concepts",
    "cover_positions",
    "cut_by_independence",
    "find_strengths",
    "fit_dictionaries",
    "group_by_effect",
    "group_by_place",
    "living",
    "median_strength",
    "random_groups",
    "remove_each",
    "sample_positions",
    "single_latents",
    "spread",
    "summarise_effect",
]
