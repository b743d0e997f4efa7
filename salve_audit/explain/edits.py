"""Which edit is meant, and the head after it."""

from __future__ import annotations

from salve_audit.edit.apply import EditedHead, apply_steps, describe_steps
from salve_audit.edit.evidence import Evidence
from salve_audit.edit.plan import Step, Target, find_target
from salve_audit.errors import UsageError
from salve_audit.explain.request import TOP, ExplainRequest
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.reasons import nearest_names
from salve_audit.saved_audit import SavedAudit


def plan_edits(request: ExplainRequest, audit: SavedAudit, top_feature: int) -> tuple[Target, ...]:
    """What is to be suppressed, then what is to be enhanced; empty: nothing.

    Args:
        request: names it.
        audit: knows it.
        top_feature: what `TOP` stands for.

    Raises:
        UsageError: there is no such feature or class; names the nearest.
    """
    asked = (("--suppress", request.suppress, False), ("--enhance", request.enhance, True))
    return tuple(
        _find(option, name if name != TOP else f"feature={top_feature}", enhance, request.alpha_hat, audit)
        for option, name, enhance in asked
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
    classes, concepts = audit.result.data.classes, [one for one in audit.sae.concepts if one is not None]
    if name.strip().lstrip("-").isdecimal() or (name in concepts and name not in classes):
        return "feature"
    if name in classes:
        return "class"
    folded = {one.lower(): one for one in (*classes, *concepts)}
    near = [folded[one] for one in nearest_names(name.lower(), folded)] or list(classes[:8])
    why = f"the audit has neither a class nor a feature {name!r}"
    raise UsageError(option, why, hint=f"a feature's number, or a name: {', '.join(near)}")


def edit_head(targets: tuple[Target, ...], audit: SavedAudit, head: LinearHead) -> tuple[EditedHead, tuple[str, ...]]:
    """The head before and after, and what was done in words."""
    edited = apply_steps(targets, Evidence(audit, head, None))
    return edited, describe_steps(edited.steps, audit.result.data.classes)
