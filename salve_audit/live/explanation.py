"""Images explained, with a module in memory or with a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from salve_audit.errors import UsageError
from salve_audit.explain.findings import Explanation
from salve_audit.explain.request import MOST_IMAGES, ExplainRequest
from salve_audit.explain.run import explain_images, explain_prepared
from salve_audit.explain.subject import ExplainSubject
from salve_audit.live.reopened import check_images, reopen
from salve_audit.results import AuditResult
from salve_audit.results.companions import FolderCompanions
from salve_audit.results.view import companions_of


def explain(
    model: Any,
    images: Any,
    result: AuditResult | str | Path,
    *,
    names: Sequence[str] | None = None,
    suppress: str | int | None = None,
    enhance: str | int | None = None,
    alpha_hat: float = 1.0,
    n_features: int = 10,
    layer: str | None = None,
    check: bool = True,
    **options: Any,
) -> tuple[Explanation, ...]:
    """What the model says of each image, which features say it, where they look, and what an edit would change.

    Args:
        model: the module that was audited, which is left as it is; or the path of the checkpoint.
        images: (n, c, h, w) or one (c, h, w), as the module takes them; or paths of image files, for a checkpoint.
        result: the audit, or the folder of one.
        names: of the images; None: numbers.
        suppress, enhance: a feature by number, or a class for its dominant feature; what the prediction is then.
        alpha_hat: strength of that edit.
        n_features: of those listed, the ones with the largest part of the logit.
        layer: module that heat maps are made of; None: the last spatial one.
        check: refuse a module whose weights are not those that were audited.
        options: of `ExplainRequest`, for a checkpoint: ``arch``, ``head``, ``weights``, ``trust_model``, ``device``.

    Raises:
        SalveError: audit, model or images cannot be used, or an edit names what is not there.

    >>> import salve_audit
    >>> (first,) = salve_audit.explain(model, val[0][:1], "salve-report")
    >>> first.predicted.name, first.decomposition.runner_up in names
    ('castle', True)
    """
    wishes = ExplainRequest(
        model=Path("model"),
        images=(Path("image"),),
        audit=Path("audit"),
        suppress=None if suppress is None else str(suppress),
        enhance=None if enhance is None else str(enhance),
        alpha_hat=alpha_hat,
        n_features=n_features,
        saliency_layer=layer,
    )
    if isinstance(model, (str, Path)):
        return explain_images(_of_files(wishes, model, images, result, options))
    if options:
        raise UsageError(next(iter(options)), "is an option for checkpoints, not for modules")
    given = check_images(images).detach().float().cpu()
    if len(given) > MOST_IMAGES:
        raise UsageError("images", f"{len(given)} images, expected 1 to {MOST_IMAGES}")
    if names is not None and len(names) != len(given):
        raise UsageError("names", f"{len(names)} names for {len(given)} images")
    with reopen(model, result, given, check=check) as opened:
        classifier, device = opened.classifier, opened.network.device
        on_device = classifier.on(device).model
        subject = ExplainSubject(opened.audit, classifier, on_device, opened.head, device, opened.layers)
        return tuple(
            explain_prepared(wishes, subject, image[None], str(names[row]) if names is not None else f"image {row}")
            for row, image in enumerate(given)
        )


def _of_files(
    wishes: ExplainRequest, model: str | Path, images: Any, result: AuditResult | str | Path, options: dict[str, Any]
) -> ExplainRequest:
    known = {"arch", "head", "weights", "trust_model", "device"}
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise UsageError(unknown, "is no option", hint=f"options: {', '.join(sorted(known))}")
    paths = [images] if isinstance(images, (str, Path)) else list(images)
    if not all(isinstance(path, (str, Path)) for path in paths):
        raise UsageError("images", "are paths of image files where the model is a path")
    companions = companions_of(result) if isinstance(result, AuditResult) else None
    if isinstance(result, AuditResult) and not isinstance(companions, FolderCompanions):
        raise UsageError("result", "has to be saved to go with a checkpoint", hint="result.save(FOLDER), and name that")
    audit = companions.audit if isinstance(companions, FolderCompanions) else Path(str(result))
    return dataclasses.replace(wishes, model=Path(model), images=tuple(map(Path, paths)), audit=audit, **options)
