"""A saved audit as the gate reads it: the parts that rules judge, whether its digest holds, whether it is stale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salve_audit.errors import ResultError, UsageError
from salve_audit.inputs.digest import hash_file
from salve_audit.interventions.registry import SALVE
from salve_audit.results import AuditResult
from salve_audit.results.audit import find_audit, read_audit_text
from salve_audit.results.companions import FolderCompanions
from salve_audit.results.consistency import check_consistency
from salve_audit.results.digest import DIGEST, is_sealed
from salve_audit.results.schema import from_dict
from salve_audit.results.stale import read_stale
from salve_audit.results.upgrade import upgrade
from salve_audit.results.view import companions_of

SEALED, UNSEALED, BROKEN = "sealed", "unsealed", "broken"
CHANGED = "was changed after it was written: its digest is not that of its numbers"
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx")
_EMPTY: Mapping[str, Any] = {  # parts that no rule reads, and that are large
    "features": [],
    "intervention_spread": [],
    "intervention_summary": [],
    "stress": None,
    "deep_edits": None,
    "seeing": None,
    "data_check": None,
    "demo": None,
}
_NO_CURVE = {"alpha_hat": [], "accuracy": [], "others": [], "non_monotone": False}


@dataclass(frozen=True)
class AuditFile:
    """A saved audit.

    Attributes:
        path: of audit.json, as the user gave it.
        result: without the parts that no rule reads.
        digest: ``sealed``, ``unsealed`` (none is there) or ``broken``.
        schema_version: as written.
        stale: why the results are those of an earlier run; None: they are not.
        is_on_disk: False for a result in memory, beside which there are no other files.
    """

    path: Path
    result: AuditResult
    digest: str
    schema_version: int
    stale: str | None
    is_on_disk: bool = True

    @property
    def folder(self) -> Path:
        """Where the other files of the audit lie."""
        return self.path.parent


def open_audit(audit: AuditResult | str | Path) -> AuditFile:
    """An audit as the gate reads it: a result in memory, or a saved one, read again with its digest and its mark.

    Raises:
        ResultError: there is no such file, or it does not fit the schema.
        UsageError: neither a result nor a path.
    """
    if isinstance(audit, (str, Path)):
        return read_audit_file(Path(audit))
    if not isinstance(audit, AuditResult):
        raise UsageError("audit", f"expected a result or a path, got {type(audit).__name__}")
    companions = companions_of(audit)
    return read_audit_file(companions.audit) if isinstance(companions, FolderCompanions) else wrap_result(audit)


def wrap_result(result: AuditResult) -> AuditFile:
    """A result in memory, as if it had just been written."""
    return AuditFile(Path("audit.json"), result, SEALED, result.schema_version, None, is_on_disk=False)


def read_audit_file(path: Path) -> AuditFile:
    """The saved audit in `path`, an audit.json or its folder.

    Raises:
        ResultError: there is no such file, or what rules read of it does not fit the schema.
    """
    file = find_audit(path)
    text = read_audit_text(file)
    try:
        plain = json.loads(text)
        value = _lighten(upgrade(plain))
        result = from_dict(AuditResult, value)
        check_consistency(value)
    except json.JSONDecodeError as error:
        raise ResultError(str(file), f"not JSON ({error})") from error
    except ResultError as error:
        raise ResultError(str(file), str(error), hint="was it written by another version of salve-audit?") from error
    digest = UNSEALED if plain.get(DIGEST) is None else SEALED if is_sealed(text, plain) else BROKEN
    return AuditFile(file, result, digest, plain["schema_version"], read_stale(file.parent))


def _lighten(value: dict[str, Any]) -> dict[str, Any]:
    """The plain value without what no rule reads; malformed parts stay for the typed reading to name."""
    light = {**value, **{key: part for key, part in _EMPTY.items() if key in value}}
    if isinstance(value.get("interventions"), list):
        light["interventions"] = [edit for edit in value["interventions"] if _is_salve(edit)]
    if isinstance(value.get("classes"), list):
        light["classes"] = [_lighten_class(record) for record in value["classes"]]
    return light


def _lighten_class(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    light = {**record, "curve": _NO_CURVE, "differs_from": [], "top_features": [], "top_attribution": []}
    if isinstance(record.get("seeds"), dict):
        light["seeds"] = {**record["seeds"], "curve": None}
    if isinstance(record.get("distributions"), list):
        light["distributions"] = [
            part for part in record["distributions"] if not isinstance(part, dict) or part.get("threshold") == "flip"
        ]
    return {key: part for key, part in light.items() if key in record}


def _is_salve(edit: Any) -> bool:
    return not isinstance(edit, dict) or edit.get("method") == SALVE.key


def check_model(file: AuditFile, model: Path) -> str | None:
    """Why the audit is not one of this model file, or folder of weights; None: it is.

    Raises:
        UsageError: there is no such file.
    """
    audited = file.result.provenance.model_sha256
    if model.is_dir():
        files = sorted(part for part in model.iterdir() if part.suffix in WEIGHTS and part.is_file())
    else:
        files = [model]
    try:
        digests = [hash_file(part) for part in files]
    except OSError as error:
        raise UsageError(str(model), error.strerror or "cannot be read") from error
    if not digests:
        raise UsageError(str(model), "holds no weights")
    joined = hashlib.sha256("".join(digests).encode()).hexdigest()
    if audited in (*digests, joined):
        return None
    return f"the audit is of another model: its sha256 is {audited}, that of {model} is {digests[0]}"
