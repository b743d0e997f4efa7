"""The record of its edit that an edited checkpoint carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from salve_audit import __version__
from salve_audit.audit.saved import SavedAudit
from salve_audit.edit.apply import AppliedStep

RECORD_KEY = "salve_audit_edit"  # in safetensors' metadata, and beside the weights in a dictionary
RECORD_SUFFIX = ".edit.json"  # of the file beside a bare state_dict
FORMAT = "salve-audit edit 1"


def make_record(
    audit: SavedAudit, steps: Sequence[AppliedStep], tensors: Mapping[str, Any], verified: bool, earlier: Any
) -> dict[str, Any]:
    """Plain values that say what was done.

    Args:
        audit: by which the features are known.
        steps: in order, with their strengths.
        tensors: further entries: the names of those changed, and the hashes of all before and after.
        verified: the file appears only if the model in it does what was predicted.
        earlier: the record of an edit before this one, or None.
    """
    provenance, classes = audit.result.provenance, audit.result.data.classes
    record = {
        "format": FORMAT,
        "tool_version": __version__,
        "edits": [_describe(step, classes) for step in steps],
        "model_sha256": provenance.model_sha256,
        "sae_sha256": provenance.sae_sha256,
        "data_sha256": provenance.data_sha256,
        "verified": verified,
        **tensors,
    }
    return record if earlier is None else {**record, "earlier": earlier}


def _describe(step: AppliedStep, classes: tuple[str, ...]) -> dict[str, Any]:
    target = step.target
    concept = {} if target.concept is None else {"concept": target.concept}
    return {
        **concept,
        "method": target.step.method,
        "class": None if target.class_index is None else classes[target.class_index],
        "feature": target.feature,
        "enhance": target.step.enhance,
        "strength": step.strength,
        "to_accuracy": target.step.to_accuracy,
    }


def as_text(record: Mapping[str, Any]) -> str:
    """JSON with sorted keys."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False)


def hash_tensors(state: Mapping[str, Tensor]) -> str:
    """sha256 over names (sorted), types, shapes and bytes of all tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()
