"""A permanent edit of a module in memory: a new module, the given one as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from salve_audit.activations.images import LoaderSettings
from salve_audit.edit.apply import apply_steps
from salve_audit.edit.concept import apply_concept_steps
from salve_audit.edit.deep import apply_deep_steps
from salve_audit.edit.evidence import EditEvidence
from salve_audit.edit.plan import CONCEPT, Target, find_target, make_step
from salve_audit.edit.subject import EditSubject
from salve_audit.edit.tensors import unfold
from salve_audit.errors import CheckpointError, UsageError
from salve_audit.interventions.registry import DEEP_METHODS
from salve_audit.live.module import copy_module
from salve_audit.live.reopened import Reopened, reopen
from salve_audit.results import AuditResult

BATCH = 32


def apply_edit(
    model: nn.Module,
    result: AuditResult | str | Path,
    class_name: str | None = None,
    *,
    feature: int | str | None = None,
    alpha_hat: float | None = None,
    strength: float | None = None,
    to_accuracy: float | None = None,
    method: str | None = None,
    enhance: bool = False,
    concept: int | str | None = None,
    check: bool = True,
) -> nn.Module:
    """A new module with a permanent edit; the given one is left bit for bit as it is.

    The new module has the type, device, number format, mode and ``requires_grad`` flags of the given one; of one that
    is wrapped (DistributedDataParallel, torch.compile) it is the network inside. Nothing is run to verify the edit:
    audit the new module, or evaluate it.

    Args:
        model: the module that was audited.
        result: its audit, or the folder of one.
        class_name: whose dominant feature is suppressed.
        feature: number of another feature.
        alpha_hat: strength of SALVE; 1 takes the feature's strongest coordinate to 0.
        strength: of another method, in its own unit.
        to_accuracy: in place of a strength, the class's accuracy to come down to, in 0..1; needs the audit's
            activations, which a result has that was just made.
        method: one of ``salve-audit edit --method``; None: ``salve``.
        enhance: raise what would be suppressed.
        concept: number of a concept of the image, or a class for its strongest one, in place of all the above but a
            strength.
        check: refuse a module whose weights are not those that were audited.

    Raises:
        UsageError: no such class, feature or concept, or the parts do not make one edit.
        SalveError: the audit is of another model, or the edit cannot be written into this one.

    >>> import torch, salve_audit
    >>> edited = salve_audit.apply_edit(model, "salve-report", "castle", alpha_hat=0.8)
    >>> torch.equal(edited.fc.weight, model.fc.weight), torch.equal(edited.conv.weight, model.conv.weight)
    (False, True)
    """
    numbers = {"alpha-hat": alpha_hat, "strength": strength, "to-accuracy": to_accuracy}
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise UsageError(name.replace("-", "_"), f"expected a number, got {type(value).__name__}")
    step = make_step(
        class_name,
        None if feature is None else str(feature),
        {name: float(value) for name, value in numbers.items() if value is not None},
        method,
        enhance,
        None if concept is None else str(concept),
    )
    with reopen(model, result, check=check) as opened:
        values = _compute(opened, find_target(step, opened.audit.result, opened.audit.sae.concepts))
        return _write(opened, values)


def _compute(opened: Reopened, target: Target) -> Mapping[str, np.ndarray]:
    """New values of parameters, float64, by their names in the part that is run."""
    evidence = EditEvidence(opened.audit, opened.head, opened.splits)
    method = target.step.method
    if method not in (CONCEPT, *DEEP_METHODS):
        return unfold(opened.classifier, apply_steps([target], evidence), opened.label)
    subject = EditSubject(opened.classifier, evidence, None, (), opened.label, opened.layers)
    apply_them = apply_concept_steps if method == CONCEPT else apply_deep_steps
    return apply_them([target], subject, LoaderSettings(BATCH, 0)).values


def _write(opened: Reopened, values: Mapping[str, np.ndarray]) -> nn.Module:
    edited = copy_module(opened.module, opened.audit.result.model.name)
    part = edited.get_submodule(opened.network.part)
    for name, value in values.items():
        module_name, _, own = name.rpartition(".")
        _set(part.get_submodule(module_name), own, value, f"{opened.audit.result.model.name}: {name}")
    return edited


@torch.no_grad()
def _set(module: nn.Module, name: str, value: np.ndarray, path: str) -> None:
    """Sets a parameter, or, where it is computed from others (weight_norm), these so that it comes out."""
    before = getattr(module, name)
    new = torch.from_numpy(np.ascontiguousarray(value)).to(before.device, before.dtype)
    if not torch.isfinite(new).all():
        raise UsageError("strength", f"takes {path} out of the range of {before.dtype}")
    if name in dict(module.named_parameters(recurse=False)):
        before.copy_(new)
        return
    if is_parametrized(module, name):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            setattr(module, name, new)
        if torch.allclose(getattr(module, name), new, rtol=1e-4, atol=1e-6):
            return
    hint = "remove the parametrisation (torch.nn.utils.parametrize), then edit"
    raise CheckpointError(path, "is computed, and cannot be set", hint)
