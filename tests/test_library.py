"""The public surface, and the audit as a library."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import salve_audit
from salve_audit import AuditConfig, AuditResult, load_audit
from salve_audit.errors import ResultError, SalveError, UsageError
from salve_audit.results import parse_audit
from salve_audit.results.digest import is_sealed

SAMPLE = Path(__file__).resolve().parents[1] / "sample_reports" / "demo" / "audit.json"


def test_the_public_names_are_pinned() -> None:
    assert salve_audit.__all__ == [
        "AuditConfig",
        "AuditResult",
        "SalveError",
        "SparseAutoencoder",
        "Thresholds",
        "__version__",
        "apply_edit",
        "audit_model",
        "compare",
        "explain",
        "gate",
        "heat_map",
        "judge",
        "load_audit",
        "load_sae",
        "run_audit",
        "thresholds",
    ]
    assert all(getattr(salve_audit, name) is not None for name in salve_audit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        salve_audit.nothing  # noqa: B018


def test_a_saved_audit_is_read_back_and_written_alike() -> None:
    result = load_audit(SAMPLE)
    assert isinstance(result, AuditResult)
    written = json.loads(result.to_json())
    assert is_sealed(result.to_json(), written)
    assert result.to_json() == json.dumps(written, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert_holds(written, json.loads(SAMPLE.read_text()))
    assert parse_audit(result.to_json()) == result


def assert_holds(new: Any, old: Any, path: str = "") -> None:
    """Everything that the sample says is written again; the sample may be older than some fields."""
    if isinstance(old, dict):
        for key, value in old.items():
            if key != "digest":
                assert_holds(new[key], value, f"{path}.{key}")
    elif isinstance(old, list):
        assert len(new) == len(old), path
        for i, (ours, theirs) in enumerate(zip(new, old, strict=True)):
            assert_holds(ours, theirs, f"{path}[{i}]")
    else:
        assert new == old, path


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
        ({"seed": 10**20}, "seed: 100000000000000000000 is above"),
        ({"n_latents": 10**8}, "n_latents: 100000000 is above 1048576"),
        ({"sae_budget": float("nan")}, "sae_budget: expected a finite number, got nan"),
        ({"sae_budget": float("inf")}, "sae_budget: expected a finite number, got inf"),
        ({"cache_limit": float("nan")}, "cache_limit: expected a finite number, got nan"),
        ({"limits": 5}, "limits: is no option"),
        ({"fail_under": float("inf")}, "fail_under: inf is not a positive number"),
    ],
)
def test_a_configuration_is_validated_once_and_names_the_key(change: dict, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        AuditConfig(model="m", data="d", **change)
    assert str(raised.value).startswith(message)
    assert isinstance(raised.value, SalveError)
    assert raised.value.exit_code == 2


def test_numbers_of_numpy_are_numbers_and_a_model_is_needed() -> None:
    config = AuditConfig(model="m", data="d", limit=np.int64(5), sae_budget=np.float32(2), images=np.bool_(False))
    assert [type(value) for value in (config.limit, config.sae_budget, config.images)] == [int, float, bool]
    with pytest.raises(UsageError, match="limit: expected int, got float"):
        AuditConfig(model="m", limit=np.float64(5))
    with pytest.raises(UsageError, match="model: is missing"):
        AuditConfig(data="d")  # type: ignore[call-arg]
    with pytest.raises(UsageError) as raised:
        AuditConfig("m", limits=5)  # type: ignore[call-arg]
    assert "limit" in str(raised.value.hint)


def damaged(change: Callable[[dict], object]) -> str:
    value = json.loads(SAMPLE.read_text())
    change(value)
    return json.dumps(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: v["classes"][1]["curve"]["accuracy"].pop(),
            "expected 41 values, got 40 in 'classes[1].curve.accuracy'",
        ),
        (lambda v: v["features"][0]["mean_code"].pop(), "expected 8 values, got 7 in 'features[0].mean_code'"),
        (lambda v: v.update(created="yesterday"), "expected an ISO 8601 date, got 'yesterday' in 'created'"),
        (lambda v: v["classes"][0].update(accuracy=7), "expected a share in 0..1, got 7 in 'classes[0].accuracy'"),
        (lambda v: v["classes"][0].update(index=8), "expected an output in 0..7, got 8 in 'classes[0].index'"),
        (lambda v: v["model"].pop("head"), "missing key 'model.head'"),
    ],
)
def test_a_damaged_audit_is_refused_with_the_path(change: Callable[[dict], object], message: str) -> None:
    with pytest.raises(ResultError) as raised:
        parse_audit(damaged(change))
    assert str(raised.value) == f"audit.json: {message}"
