"""The planned edit of an explanation, and the head after it."""

from __future__ import annotations

from salve_audit.audit.saved import SavedAudit
from salve_audit.edit.apply import EditedHead, apply_steps, describe_steps
from salve_audit.edit.evidence import EditEvidence
from salve_audit.edit.plan import Step, Target, find_target
from salve_audit.errors import UsageError
from salve_audit.explain.request import TOP, ExplainRequest
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.reasons import nearest_names


def plan_edits(request: ExplainRequest, audit: SavedAudit, top_feature: int) -> tuple[Target, ...]:
    """The steps to suppress, then those to enhance; empty where no edit is wanted.

    Args:
        request: names it.
        audit: knows it.
        top_feature: what `TOP` stands for.

    Raises:
        UsageError: there is no such feature or class; names the nearest.
    """
    wanted = (("--suppress", request.suppress, False), ("--enhance", request.enhance, True))
    return tuple(
        _find(option, name if name != TOP else f"feature={top_feature}", enhance, request.alpha_hat, audit)
        for option, name, enhance in wanted
        if name is not None
    )


def _find(option: str, name: str, enhance: bool, alpha_hat: float, audit: SavedAudit) -> Target:
    kind, equals, rest = name.partition("=")
    kind = kind.strip().lower() if equals else ""
    if kind not in ("class", "feature"):
        kind, rest = _guess(option, name, audit), name
    chosen = rest.strip()
    step = Step(
        class_name=chosen if kind == "class" else None,
        feature=chosen if kind == "feature" else None,
        strength=alpha_hat,
        enhance=enhance,
    )
    return find_target(step, audit.result, audit.sae.concepts)


def _guess(option: str, name: str, audit: SavedAudit) -> str:
    """A number is a feature's, a word a class's or a concept's."""
    classes, concepts = audit.result.data.classes, [concept for concept in audit.sae.concepts if concept is not None]
    if name.strip().lstrip("-").isdecimal() or (name in concepts and name not in classes):
        return "feature"
    if name in classes:
        return "class"
    folded = {name_found.lower(): name_found for name_found in (*classes, *concepts)}
    near = [folded[folded_name] for folded_name in nearest_names(name.lower(), folded)] or list(classes[:8])
    why = f"the audit has neither a class nor a feature {name!r}"
    raise UsageError(option, why, hint=f"a feature's number, or a name: {', '.join(near)}")


def edit_head(targets: tuple[Target, ...], audit: SavedAudit, head: LinearHead) -> tuple[EditedHead, tuple[str, ...]]:
    """The head before and after, and what was done in words."""
    edited = apply_steps(targets, EditEvidence(audit, head, None))
    return edited, describe_steps(edited.steps, audit.result.data.classes)
