"""Pictures explained, from the files to the findings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import LayerError
from salve_audit.explain.decomposition import LogitParts, decompose
from salve_audit.explain.edits import edit_head, plan_edits
from salve_audit.explain.findings import (
    ClassScore,
    Decomposition,
    EditFinding,
    Explanation,
    FeaturePart,
    Maps,
    Pieces,
)
from salve_audit.explain.flips import find_flip
from salve_audit.explain.maps import MapWishes, draw_maps, find_layers, show_picture
from salve_audit.explain.pieces import find_pieces
from salve_audit.explain.request import ExplainRequest
from salve_audit.explain.subject import Subject, load_subject, read_image
from salve_audit.interventions import AffineHead, float64_head

SHOWN_CLASSES = 5


def explain_images(request: ExplainRequest) -> tuple[Explanation, ...]:
    """Every picture of the request, in order; nothing is written.

    Raises:
        SalveError: the audit, the model or a picture cannot be used, or an edit names what is not there.
    """
    subject = load_subject(request)
    plan_edits(request, subject.audit, 0)  # names are checked before the pictures are
    return tuple(_explain(request, subject, read_image(path, subject.classifier), str(path)) for path in request.images)


@dataclass(frozen=True)
class _Seen:
    """One picture in numbers, float64: activations (d,), codes (m,), head, logits (k,) and the order of the classes."""

    acts: Float[np.ndarray, " d"]
    codes: Float[np.ndarray, " m"]
    head: AffineHead
    names: tuple[str, ...]

    @property
    def logits(self) -> Float[np.ndarray, " k"]:
        return self.head.weight @ self.acts + self.head.bias


def _explain(request: ExplainRequest, subject: Subject, images: Float[Tensor, "1 c h w"], name: str) -> Explanation:
    acts, result = subject.read_acts(images), subject.audit.result
    codes = subject.audit.sae.encode(acts)[0].astype(np.float64)
    seen = _Seen(acts[0].astype(np.float64), codes, float64_head(subject.head), result.data.classes)
    scores = score_classes(seen.logits, seen.names)
    parts = decompose(seen.acts, seen.codes, subject.audit.sae, seen.head, scores[0].index)
    decomposition = _describe(seen, parts, subject, scores, request.n_features)
    targets = plan_edits(request, subject.audit, int(parts.features.argmax()))
    edit, edited = None, None
    if targets:
        heads, steps = edit_head(targets, subject.audit, subject.head)
        edited = heads.after
        edit = _compare(scores, score_classes(edited.weight @ seen.acts + edited.bias, seen.names), steps)
    shown = tuple((one.feature, one.code) for one in decomposition.features)
    classes = dict.fromkeys([scores[0].index] + ([edit.after[0].index] if edit is not None else []))
    maps, why = _map(request, subject, images, MapWishes(shown, tuple(classes), seen.names, edited))
    pieces, why_no_pieces = _search(subject, images, scores[0].index)
    return Explanation(
        image=name,
        model=result.model.name,
        architecture=result.model.architecture,
        pixels=show_picture(subject, images),
        scores=scores[:SHOWN_CLASSES],
        n_classes=len(scores),
        decomposition=decomposition,
        edit=edit,
        maps=maps,
        why_no_maps=why,
        pieces=pieces,
        why_no_pieces=why_no_pieces,
    )


def score_classes(logits: Float[np.ndarray, " k"], names: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """All classes, the largest logit first."""
    odds = np.exp(logits - logits.max())
    shares = odds / odds.sum()
    order = np.argsort(-logits, kind="stable").tolist()
    return tuple(ClassScore(names[one], one, float(logits[one]), float(shares[one])) for one in order)


def _compare(before: tuple[ClassScore, ...], after: tuple[ClassScore, ...], steps: tuple[str, ...]) -> EditFinding:
    """The classes that lead before or after."""
    shown = {one.index for one in (*before[:SHOWN_CLASSES], *after[:SHOWN_CLASSES])}
    by_index = {one.index: one for one in before}
    kept = tuple(one for one in after if one.index in shown)
    return EditFinding(steps, kept, tuple(by_index[one.index] for one in kept), before[0])


def _describe(
    seen: _Seen, parts: LogitParts, subject: Subject, scores: tuple[ClassScore, ...], n_features: int
) -> Decomposition:
    """The predicted class's logit with its features, the largest parts first."""
    sae, records = subject.audit.sae, subject.audit.result.classes
    own, rival = scores[0], scores[1]
    chosen = [one for one in np.argsort(-np.abs(parts.features), kind="stable")[:n_features] if seen.codes[one] != 0]
    against = decompose(seen.acts, seen.codes, sae, seen.head, rival.index).features
    features = tuple(
        FeaturePart(
            feature=int(one),
            concept=sae.concepts[one],
            dominant_for=tuple(each.name for each in records if each.dominant_feature == one),
            code=float(seen.codes[one]),
            part=float(parts.features[one]),
            lead=float(parts.features[one] - against[one]),
            flip=find_flip(seen.acts, seen.head, np.abs(sae.dictionary[one].astype(np.float64)), own.index, seen.names),
        )
        for one in chosen
    )
    others = np.delete(parts.features, chosen)
    return Decomposition(
        class_name=own.name,
        runner_up=rival.name,
        logit=parts.logit,
        features=features,
        n_rest=int(np.count_nonzero(np.delete(seen.codes, chosen))),
        rest=float(others.sum()),
        decoder_bias=parts.decoder_bias,
        error=parts.error,
        head_bias=parts.head_bias,
    )


def _search(subject: Subject, images: Float[Tensor, "1 c h w"], predicted: int) -> tuple[Pieces | None, str]:
    """The pieces of evidence, or why there are none."""
    try:
        return find_pieces(subject, images, predicted), ""
    except LayerError as error:
        return None, error.why


def _map(
    request: ExplainRequest, subject: Subject, images: Float[Tensor, "1 c h w"], wishes: MapWishes
) -> tuple[Maps | None, str]:
    """The maps, or why there are none; a layer that the user named must have some."""
    try:
        return draw_maps(subject, find_layers(subject, images, request.saliency_layer), images, wishes), ""
    except LayerError as error:
        if request.saliency_layer is not None:
            raise
        return None, error.why
