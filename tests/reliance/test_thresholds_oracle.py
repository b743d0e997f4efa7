"""The 120 worked cases: every field to 1e-9 relative."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salve_audit import thresholds

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracle" / "alpha_cases.json"


def number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def load_cases() -> list[dict[str, Any]]:
    return json.loads(ORACLE.read_text()) if ORACLE.exists() else []


@pytest.mark.skipif(not ORACLE.exists(), reason="needs ../shared/oracle/alpha_cases.json")
def test_every_case_agrees() -> None:
    cases = load_cases()
    assert len(cases) == 120
    for case in cases:
        result = thresholds(case["H"], case["W"], case["b"], case["c"], case["target"])
        for field in ("analytical", "numerical", "flip"):
            expected = np.array([number(v) for v in case[field]])
            np.testing.assert_allclose(getattr(result, field), expected, rtol=1e-9, err_msg=field)
        assert result.status.tolist() == case["status"]
        np.testing.assert_allclose(result.empirical, number(case["empirical"]), rtol=1e-9)
