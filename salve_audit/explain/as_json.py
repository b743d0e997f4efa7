"""Findings as JSON, for a script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from salve_audit.explain.findings import ClassScore, Decomposition, Explanation, FeaturePart, Maps, Pieces


def render_json(found: Sequence[Explanation]) -> str:
    """A list with one entry per picture: sorted keys, finite numbers; maps as numbers only."""
    entries = [_entry(one) for one in found]
    return json.dumps(entries, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(found: Explanation) -> dict[str, Any]:
    one, edit = found.decomposition, found.edit
    return {
        "image": found.image,
        "model": {"name": found.model, "architecture": found.architecture},
        "predicted": found.predicted.name,
        "classes": [_class(each) for each in found.scores],
        "logit": {
            "class": one.class_name,
            "runner_up": one.runner_up,
            "value": one.logit,
            "features": [_feature(one, each) for each in one.features],
            "other_features": {"n": one.n_rest, "part": one.rest},
            "decoder_bias": one.decoder_bias,
            "autoencoder_error": one.error,
            "head_bias": one.head_bias,
        },
        "edit": None
        if edit is None
        else {
            "steps": list(edit.steps),
            "predicted": edit.after[0].name,
            "flipped": edit.flipped,
            "classes": [_class(each) for each in edit.after],
        },
        "maps": None if found.maps is None else _maps(found.maps),
        "why_no_maps": found.why_no_maps,
        "pieces": None if found.pieces is None else _pieces(found.pieces),
        "why_no_pieces": found.why_no_pieces,
    }


def _class(one: ClassScore) -> dict[str, Any]:
    return {"name": one.name, "index": one.index, "logit": one.logit, "probability": one.probability}


def _feature(one: Decomposition, each: FeaturePart) -> dict[str, Any]:
    return {
        "feature": each.feature,
        "concept": each.concept,
        "dominant_for": list(each.dominant_for),
        "code": each.code,
        "part": each.part,
        "share": one.share(each.part),
        "lead": each.lead,
        "flip": {"alpha_hat": each.flip.alpha_hat, "to": each.flip.to},
    }


def _pieces(pieces: Pieces) -> dict[str, Any]:
    found = [
        {
            "concept": one.concept,
            "area": one.area,
            "without": {"predicted": one.predicted, "probability": one.probability, "own": one.own_probability},
        }
        for one in pieces.found
    ]
    return {"found": found, "redundancy": pieces.redundancy}


def _maps(maps: Maps) -> dict[str, Any]:
    shown = [*maps.features, *maps.before, *maps.after]
    return {
        "layer": maps.layer,
        "grid": list(maps.grid),
        "sharp_layer": maps.sharp_layer,
        "shown": [
            {"method": one.method, "of": one.of, "in_top_fifth": [one.paper.in_top_fifth, one.sharp.in_top_fifth]}
            for one in shown
        ],
    }
