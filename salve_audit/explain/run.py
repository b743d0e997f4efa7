"""Images explained, from the files to the findings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import LayerError
from salve_audit.explain.decomposition import LogitParts, decompose
from salve_audit.explain.edits import edit_head, plan_edits
from salve_audit.explain.factors import find_factors
from salve_audit.explain.findings import (
    ClassScore,
    Decomposition,
    EditFinding,
    ExplainedRegions,
    Explanation,
    FeaturePart,
    Maps,
)
from salve_audit.explain.flips import find_flip
from salve_audit.explain.maps import MapWishes, draw_maps, find_layers, show_image
from salve_audit.explain.regions import find_regions
from salve_audit.explain.request import ExplainRequest
from salve_audit.explain.subject import ExplainSubject, load_explain_subject, read_image
from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.context import float64_head

SHOWN_CLASSES = 5


def explain_images(request: ExplainRequest) -> tuple[Explanation, ...]:
    """Every image of the request, in order; nothing is written.

    Raises:
        SalveError: the audit, the model or an image cannot be used, or an edit names what is not there.
    """
    subject = load_explain_subject(request)
    plan_edits(request, subject.audit, 0)  # names are checked before the images are
    return tuple(
        explain_prepared(request, subject, read_image(path, subject.classifier), str(path)) for path in request.images
    )


@dataclass(frozen=True)
class _Seen:
    """One image in numbers, float64: activations (d,), codes (m,), head, logits (k,) and the order of the classes."""

    acts: Float[np.ndarray, " d"]
    codes: Float[np.ndarray, " m"]
    head: AffineHead
    names: tuple[str, ...]

    @property
    def logits(self) -> Float[np.ndarray, " k"]:
        return self.head.weight @ self.acts + self.head.bias


def explain_prepared(
    request: ExplainRequest, subject: ExplainSubject, images: Float[Tensor, "1 c h w"], name: str
) -> Explanation:
    """One image that is prepared for the network; `name` is for readers.

    Raises:
        SalveError: an edit names what is not there, or the network cannot be run.
    """
    acts, result = subject.read_acts(images), subject.audit.result
    codes = subject.audit.sae.encode(acts)[0].astype(np.float64)
    state = _Seen(acts[0].astype(np.float64), codes, float64_head(subject.head), result.data.classes)
    scores = score_classes(state.logits, state.names)
    parts = decompose(state.acts, state.codes, subject.audit.sae, state.head, scores[0].index)
    decomposition = _describe(state, parts, subject, scores, request.n_features)
    targets = plan_edits(request, subject.audit, int(parts.features.argmax()))
    edit, edited = None, None
    if targets:
        heads, steps = edit_head(targets, subject.audit, subject.head)
        edited = heads.after
        edit = _compare(scores, score_classes(edited.weight @ state.acts + edited.bias, state.names), steps)
    shown = tuple((part.feature, part.code) for part in decomposition.features)
    classes = dict.fromkeys([scores[0].index] + ([edit.after[0].index] if edit is not None else []))
    maps, why = _map(request, subject, images, MapWishes(shown, tuple(classes), state.names, edited))
    evidence, why_no_regions = _search(subject, images, scores[0].index)
    return Explanation(
        image=name,
        model=result.model.name,
        architecture=result.model.architecture,
        pixels=show_image(subject, images),
        scores=scores[:SHOWN_CLASSES],
        n_classes=len(scores),
        decomposition=decomposition,
        edit=edit,
        maps=maps,
        why_no_maps=why,
        regions=evidence,
        why_no_regions=why_no_regions,
        factors=find_factors(subject, images, scores[0].index, request.insert),
    )


def score_classes(logits: Float[np.ndarray, " k"], names: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """All classes, the largest logit first."""
    odds = np.exp(logits - logits.max())
    shares = odds / odds.sum()
    order = np.argsort(-logits, kind="stable").tolist()
    return tuple(ClassScore(names[index], index, float(logits[index]), float(shares[index])) for index in order)


def _compare(before: tuple[ClassScore, ...], after: tuple[ClassScore, ...], steps: tuple[str, ...]) -> EditFinding:
    """The classes that lead before or after."""
    shown = {score.index for score in (*before[:SHOWN_CLASSES], *after[:SHOWN_CLASSES])}
    by_index = {score.index: score for score in before}
    compared = tuple(score for score in after if score.index in shown)
    return EditFinding(steps, compared, tuple(by_index[score.index] for score in compared), before[0])


def _describe(
    state: _Seen, parts: LogitParts, subject: ExplainSubject, scores: tuple[ClassScore, ...], n_features: int
) -> Decomposition:
    """The predicted class's logit with its features, the largest parts first."""
    sae, records = subject.audit.sae, subject.audit.result.classes
    own, rival = scores[0], scores[1]
    chosen = [
        latent for latent in np.argsort(-np.abs(parts.features), kind="stable")[:n_features] if state.codes[latent] != 0
    ]
    against = decompose(state.acts, state.codes, sae, state.head, rival.index).features
    features = tuple(
        FeaturePart(
            feature=int(latent),
            concept=sae.concepts[latent],
            dominant_for=tuple(each.name for each in records if each.dominant_feature == latent),
            code=float(state.codes[latent]),
            part=float(parts.features[latent]),
            lead=float(parts.features[latent] - against[latent]),
            flip=find_flip(
                state.acts, state.head, np.abs(sae.dictionary[latent].astype(np.float64)), own.index, state.names
            ),
        )
        for latent in chosen
    )
    unlisted = np.delete(parts.features, chosen)
    return Decomposition(
        class_name=own.name,
        runner_up=rival.name,
        logit=parts.logit,
        features=features,
        n_rest=int(np.count_nonzero(np.delete(state.codes, chosen))),
        rest=float(unlisted.sum()),
        decoder_bias=parts.decoder_bias,
        error=parts.error,
        head_bias=parts.head_bias,
    )


def _search(
    subject: ExplainSubject, images: Float[Tensor, "1 c h w"], predicted: int
) -> tuple[ExplainedRegions | None, str]:
    """The evidence regions, or why there are none."""
    try:
        return find_regions(subject, images, predicted), ""
    except LayerError as error:
        return None, error.why


def _map(
    request: ExplainRequest, subject: ExplainSubject, images: Float[Tensor, "1 c h w"], wishes: MapWishes
) -> tuple[Maps | None, str]:
    """The maps, or why there are none; a layer that the user named must have some."""
    try:
        return draw_maps(subject, find_layers(subject, images, request.saliency_layer), images, wishes), ""
    except LayerError as error:
        if request.saliency_layer is not None:
            raise
        return None, error.why
