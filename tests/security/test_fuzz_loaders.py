"""A short run of the fuzzer in benchmarks/fuzz.py: mutated files raise SalveError or nothing, and crashes are seen."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks"
KINDS = ("flip", "set", "cut", "repeat", "insert", "number", "end")
CHANGES = st.tuples(st.sampled_from(KINDS), st.floats(0, 1, exclude_max=True), st.integers(0, 255))


@pytest.fixture(scope="module")
def fuzz() -> Iterator[Any]:
    """The script, which imports its neighbour."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("fuzz")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def seeds(fuzz: Any) -> list:
    return fuzz.make_seeds()


@settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(choice=st.integers(0, 10_000), changes=st.lists(CHANGES, min_size=1, max_size=4))
def test_mutated_files_raise_nothing_else(choice: int, changes: list, fuzz: Any, seeds: list, tmp_path_factory) -> None:
    case = fuzz.Case(seeds[choice % len(seeds)], changes)
    outcome, finding = fuzz.try_input(case, tmp_path_factory.getbasetemp() / "fuzzed")
    assert outcome != "finding", finding


def test_valid_seeds_load(fuzz: Any, seeds: list, tmp_path: Path) -> None:
    """Otherwise the fuzzer would only ever see the first check; programs are refused."""
    valid = [seed for seed in seeds if seed.name != "audit.json"]  # the sample's, whose own test says if it is of today
    outcomes = {seed.name: fuzz.try_input(fuzz.Case(seed, []), tmp_path) for seed in valid}
    assert outcomes == {seed.name: ("refused" if seed.only_refused else "read", None) for seed in valid}


@pytest.mark.parametrize(
    "ending", ["", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "raise SystemExit(3)"]
)
def test_a_crash_of_the_interpreter_is_a_finding(ending: str, fuzz: Any) -> None:
    lines = ["at\t7\tx", "done\tread\t1", "at\t8\ty", *([] if ending else ["done\tread\t1"])]
    tally = fuzz.Tally()
    script = f"print(*{lines!r}, sep=chr(10), flush=True); {ending}"
    assert fuzz.watch([sys.executable, "-c", script], tally, end=1e12) == 8
    assert (tally.findings.total(), tally.n_inputs) == (bool(ending), 2)


def test_a_file_cut_off_while_it_is_read_is_an_error(fuzz: Any, seeds: list, tmp_path: Path) -> None:
    """At every length and at once: nothing is mapped, so that nothing can be killed by SIGBUS."""
    for seed in seeds:
        for share in (0.0, 0.5, 0.9):
            outcome, finding = fuzz.try_input(fuzz.Case(seed, [], (0.001, share)), tmp_path)
            assert outcome != "finding", finding
