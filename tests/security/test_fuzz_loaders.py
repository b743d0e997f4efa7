"""A short run of the fuzzers in benchmarks/fuzz.py: mutated files raise SalveError or nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FILE = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


def load_fuzzers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("salve_audit_fuzz", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fuzz = load_fuzzers()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list:
    return fuzz.make_seeds(tmp_path_factory.mktemp("seeds"))


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(choice=st.integers(0, 10_000), changes=st.lists(fuzz.CHANGES, min_size=1, max_size=4))
def test_mutated_files_raise_nothing_else(choice: int, changes: list, seeds: list, tmp_path_factory) -> None:
    seed = seeds[choice % len(seeds)]
    found = fuzz.try_input(seed, fuzz.mutate(seed.content, changes), tmp_path_factory.getbasetemp() / "fuzzed")
    assert found is None, found


def test_valid_seeds_load(seeds: list, tmp_path: Path) -> None:
    """Otherwise the fuzzers would only ever see the first check."""
    for seed in seeds:
        (tmp_path / seed.name).write_bytes(seed.content)
        seed.load(tmp_path / seed.name)
