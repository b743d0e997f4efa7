"""Synthetic results for the reports, built once per session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from report_results import build_result

from salve_audit.results import AuditResult


@pytest.fixture(scope="session")
def make_result() -> Callable[..., AuditResult]:
    return build_result


@pytest.fixture(scope="session")
def audit() -> AuditResult:
    """Ten classes with every edge, a failed policy and the demo's truth."""
    return build_result(demo=True)


@pytest.fixture(scope="session")
def unpoliced() -> AuditResult:
    """No policy, an autoencoder that misses its goals, user code trusted."""
    result = build_result(limit=None, satisfied=False)
    return dataclasses.replace(result, provenance=dataclasses.replace(result.provenance, trusted_code=True))
