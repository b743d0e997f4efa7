"""A pytest plugin: one test per class and rule of a policy.

::

    @pytest.mark.salve_audit(model="model.pt", data="data/", policy="salve-policy.toml")
    def test_no_class_is_fragile(salve_check): ...

With ``audit="salve-report"`` a saved audit is judged. With a model the audit is made while tests are collected, and
kept in pytest's cache until the model, the data or an option changes; of several workers one makes it, and the others
wait. What cannot be trusted fails; violations fail; exempt, skipped and thin checks are skipped; warnings are printed
with the test. ``baseline`` and limits (``max_image_reliance=0.5``) are those of the gate, other arguments of the mark
are options of the audit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 0.2
MARK, ARGUMENT = "salve_audit", "salve_check"
_GATE = ("audit", "policy", "baseline", "allow_mismatch", "fail_under", "fail_under_redundancy", "fail_over_reliance")


@dataclass(frozen=True)
class Check:
    """One check of a verdict, as a test.

    Attributes:
        name: of the test.
        effect: of the check: ``fail`` and ``error`` fail the test.
        outcome: of the rule.
        text: the check in a sentence.
    """

    name: str
    effect: str
    outcome: str
    text: str


def pytest_configure(config: pytest.Config) -> None:
    """Declares the mark."""
    words = f"{MARK}(audit=..., model=..., data=..., policy=...): one test per class and rule of a salve-audit policy"
    config.addinivalue_line("markers", words)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes the tests of a marked function: the audit is made, or read, now."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None:
        return
    checks = _make_checks(mark.args, mark.kwargs, metafunc.config)
    if ARGUMENT not in metafunc.fixturenames:
        metafunc.fixturenames.append(ARGUMENT)
    metafunc.parametrize(ARGUMENT, checks, ids=[check.name for check in checks])


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Fails or skips the test as the verdict says, before its own body runs."""
    callspec = getattr(pyfuncitem, "callspec", None)
    check = None if callspec is None else callspec.params.get(ARGUMENT)
    if not isinstance(check, Check):
        return
    pyfuncitem.user_properties.append((MARK, check.text))
    if check.effect in ("fail", "error"):
        pytest.fail(check.text, pytrace=False)
    if check.effect in ("exempt", "skip") or check.outcome == "thin":
        pytest.skip(check.text)
    if check.effect == "warn":
        pyfuncitem.add_report_section("call", "salve-audit", f"warning: {check.text}")


def _make_checks(arguments: tuple[Any, ...], options: Mapping[str, Any], config: pytest.Config) -> list[Check]:
    from salve_audit.errors import SalveError

    if arguments:
        raise pytest.UsageError(f"{MARK} takes keyword arguments: audit=..., or model=... and data=...")
    try:
        return _judge({name: _from_root(value, config) for name, value in options.items()}, config)
    except SalveError as error:
        raise pytest.UsageError(f"{MARK}: {error}" + (f" ({error.hint})" if error.hint else "")) from error


def _from_root(value: Any, config: pytest.Config) -> Any:
    """Paths are relative to the root of the tests, as those in their configuration."""
    return config.rootpath / value if isinstance(value, Path) else value


def _judge(options: dict[str, Any], config: pytest.Config) -> list[Check]:
    from salve_audit.gate.notebook import judge_for_people
    from salve_audit.gate.output.words import describe, key_of, name_of
    from salve_audit.gate.rules import KINDS

    gate = {name: options.pop(name) for name in (*_GATE, *KINDS) if name in options}
    audit = gate.pop("audit", None)
    for name in ("policy", "baseline"):
        if isinstance(gate.get(name), str):
            gate[name] = config.rootpath / gate[name]
    if audit is None:
        audit = _make_audit(options, gate, config)
    elif options:
        raise pytest.UsageError(f"{MARK}: a saved audit takes no {', '.join(options)}")
    verdict = judge_for_people(config.rootpath / audit, **gate).verdict
    problems = [Check(f"trust-{i}", "error", "error", problem) for i, problem in enumerate(verdict.problems)]
    return problems + [
        Check(f"{name_of(rule)}-{key_of(rule)}", rule.effect, rule.outcome, describe(rule)) for rule in verdict.rules
    ]


def _make_audit(options: Mapping[str, Any], gate: Mapping[str, Any], config: pytest.Config) -> Path:
    """The folder of the audit: the one in the cache, or a new one that gets there whole."""
    from salve_audit.audit.run import run_audit
    from salve_audit.config import AuditConfig

    if "model" not in options:
        raise pytest.UsageError(f"{MARK} needs audit=..., or model=... and data=...")
    placed = {**options, **{name: config.rootpath / options[name] for name in ("model", "data") if options.get(name)}}
    folder = _cache_dir(config) / _key(placed, gate)
    with _turn_of(folder):
        if (folder / "audit.json").is_file():
            return folder
        with _scratch(folder.parent) as place:
            needs = {name: gate[name] for name in ("policy", "baseline") if name in gate}
            run_audit(AuditConfig(out=place / "audit", **{"format": ("html", "json"), **placed, **needs}))
            with contextlib.suppress(OSError):  # another worker was faster, with the same audit
                (place / "audit").rename(folder)
    return folder


@contextlib.contextmanager
def _turn_of(folder: Path) -> Iterator[None]:
    """One worker at a time makes an audit (pytest-xdist): the others wait for it; without locks each makes its own."""
    from salve_audit.activations.lock import can_lock, take_lock

    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder.with_name(f"{folder.name}.lock")
    if (folder / "audit.json").is_file() or not can_lock(folder.parent):
        yield
        return
    while (lock := take_lock(path)) is None:  # it ends with its owner, however that ends
        time.sleep(WAIT_S)
    try:
        yield
    finally:
        lock.release()


def _cache_dir(config: pytest.Config) -> Path:
    if hasattr(config, "cache") and config.cache is not None:
        return config.cache.mkdir("salve-audit")
    return Path(tempfile.gettempdir()) / f"salve-audit-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _key(options: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    """A hash of everything the audit depends on: options, policy, and names, sizes and times of all files."""
    from salve_audit import __version__

    files = [_describe(Path(options[name])) for name in ("model", "data") if options.get(name)]
    files += [_describe(Path(gate[name])) for name in ("policy", "baseline") if isinstance(gate.get(name), Path)]
    text = json.dumps([__version__, {**options, **gate}, files], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _describe(path: Path) -> list[tuple[str, int, int]]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
