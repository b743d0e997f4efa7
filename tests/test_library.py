"""The public surface, and the audit as a library."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import salve_audit
from salve_audit import AuditConfig, AuditResult, load_audit
from salve_audit.errors import SalveError, UsageError

SAMPLE = Path(__file__).resolve().parents[1] / "sample_reports" / "demo" / "audit.json"


def test_the_public_names_are_pinned() -> None:
    assert salve_audit.__all__ == [
        "AuditConfig",
        "AuditResult",
        "SalveError",
        "Thresholds",
        "__version__",
        "load_audit",
        "run_audit",
        "thresholds",
    ]
    assert all(getattr(salve_audit, name) is not None for name in salve_audit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        salve_audit.nothing  # noqa: B018


def test_a_saved_audit_is_read_back_and_written_alike() -> None:
    result = load_audit(SAMPLE)
    assert isinstance(result, AuditResult)
    assert result.to_json() == SAMPLE.read_text()


def test_results_are_values() -> None:
    result = load_audit(SAMPLE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "tpu"}, "device: 'tpu' is not one of auto, cpu, cuda"),
        ({"format": ()}, "format: name at least one of html, pdf, json"),
        ({"interventions": ("magic",)}, "interventions: 'magic' is not one of"),
        ({"batch_size": 0}, "batch_size: 0 is below 1"),
        ({"fail_under": float("inf")}, "fail_under: inf is not a positive number"),
    ],
)
def test_a_configuration_is_validated_once_and_names_the_key(change: dict, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        AuditConfig(model="m", data="d", **change)
    assert str(raised.value).startswith(message)
    assert isinstance(raised.value, SalveError)
    assert raised.value.exit_code == 2
