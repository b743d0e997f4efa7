"""Findings as JSON, for a script."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from salve_audit.explain.findings import (
    ClassScore,
    Decomposition,
    ExplainedFactors,
    ExplainedRegions,
    Explanation,
    FeaturePart,
    Maps,
)


def render_json(explanations: Sequence[Explanation]) -> str:
    """A list with one entry per image: sorted keys, finite numbers; maps as numbers only."""
    entries = [_entry(explanation) for explanation in explanations]
    return json.dumps(entries, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(explanation: Explanation) -> dict[str, Any]:
    decomposition, edit = explanation.decomposition, explanation.edit
    return {
        "image": explanation.image,
        "model": {"name": explanation.model, "architecture": explanation.architecture},
        "predicted": explanation.predicted.name,
        "classes": [_class(each) for each in explanation.scores],
        "logit": {
            "class": decomposition.class_name,
            "runner_up": decomposition.runner_up,
            "value": decomposition.logit,
            "features": [_feature(decomposition, each) for each in decomposition.features],
            "other_features": {"n": decomposition.n_rest, "part": decomposition.rest},
            "decoder_bias": decomposition.decoder_bias,
            "autoencoder_error": decomposition.error,
            "head_bias": decomposition.head_bias,
        },
        "edit": None
        if edit is None
        else {
            "steps": list(edit.steps),
            "predicted": edit.after[0].name,
            "flipped": edit.flipped,
            "classes": [_class(each) for each in edit.after],
        },
        "maps": None if explanation.maps is None else _maps(explanation.maps),
        "why_no_maps": explanation.why_no_maps,
        "regions": None if explanation.regions is None else _regions(explanation.regions),
        "why_no_regions": explanation.why_no_regions,
        "factors": None if explanation.factors is None else _factors(explanation.factors),
    }


def _class(score: ClassScore) -> dict[str, Any]:
    return {"name": score.name, "index": score.index, "logit": score.logit, "probability": score.probability}


def _feature(decomposition: Decomposition, each: FeaturePart) -> dict[str, Any]:
    return {
        "feature": each.feature,
        "concept": each.concept,
        "dominant_for": list(each.dominant_for),
        "code": each.code,
        "part": each.part,
        "share": decomposition.share(each.part),
        "lead": each.lead,
        "flip": {"alpha_hat": each.flip.alpha_hat, "to": each.flip.to},
    }


def _regions(evidence: ExplainedRegions) -> dict[str, Any]:
    regions = [
        {
            "concept": region.concept,
            "area": region.area,
            "without": {
                "predicted": region.predicted,
                "probability": region.probability,
                "own": region.own_probability,
            },
        }
        for region in evidence.regions
    ]
    return {"found": regions, "redundancy": evidence.redundancy}


def _factors(factors: ExplainedFactors) -> dict[str, Any]:
    removed, inserted = ([dataclasses.asdict(each) for each in part] for part in (factors.removed, factors.inserted))
    return {"removed": removed, "inserted": inserted, "into": factors.into, "complete": factors.is_complete}


def _maps(maps: Maps) -> dict[str, Any]:
    shown = [*maps.features, *maps.before, *maps.after]
    return {
        "layer": maps.layer,
        "grid": list(maps.grid),
        "sharp_layer": maps.sharp_layer,
        "shown": [
            {
                "method": shown_map.method,
                "of": shown_map.of,
                "in_top_fifth": [shown_map.paper.in_top_fifth, shown_map.sharp.in_top_fifth],
            }
            for shown_map in shown
        ],
    }
