"""One world and one whole audit of it, for all tests of live models."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_world import NAMES, World, make_world

import salve_audit
from salve_audit import AuditResult


@pytest.fixture(scope="session")
def world() -> World:
    """The trained model with its images; tests leave the model as it is."""
    return make_world()


@pytest.fixture(scope="session")
def audited(world: World) -> AuditResult:
    """A whole audit of the world, image reliance and images included."""
    settings = {"sae": "linear-l1", "sae_seeds": 2, "use_cache": False}
    return salve_audit.audit_model(world.model, world.train, world.val, classes=NAMES, **settings)


@pytest.fixture(scope="session")
def saved(audited: AuditResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the audit leaves, without a report."""
    return audited.save(tmp_path_factory.mktemp("saved") / "salve-report", format="json")
