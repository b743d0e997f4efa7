"""Real images and checkpoints, folders that all workers of a run share, and the JSON Schema held in every test."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from jsonschema import Draft202012Validator

from salve_audit.results.audit import AuditResult
from salve_audit.results.json_schema import build_schema

REPOSITORY = Path(__file__).resolve().parents[1]
SharedFolder = Callable[[str, Callable[[Path], None]], Path]
Disk = Callable[[str, int], Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files go to the workers first, so that short ones fill the end of a run."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> SharedFolder:
    """``shared_folder(name, fill)``: a folder that the first worker to ask fills and all workers read.

    A test that changes something in it copies it first.
    """
    own = tmp_path_factory.getbasetemp()
    root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    root.mkdir(exist_ok=True)

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, complete = root / name, root / f"{name}.complete"
        with FileLock(root / f"{name}.lock"):
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what a worker that failed has left
                folder.mkdir()
                fill(folder)
                complete.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real images and checkpoints; skips where it is missing."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real images and checkpoints (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def cifar10(shared_data: Path, shared_folder: SharedFolder) -> Path:
    """``cifar10/`` with ``{train,val}/<class>/*.jpg`` (1,000 and 500 per class), unpacked once."""

    def unpack(folder: Path) -> None:
        with tarfile.open(shared_data / "cifar10.tar.gz") as archive:
            archive.extractall(folder, filter="data")

    return shared_folder("cifar10", unpack) / "cifar10"


@pytest.fixture(scope="session")
def assert_fits_schema() -> Callable[[str], None]:
    """``assert_fits_schema(text)``: the text of an audit.json is what audit.schema.json promises."""
    validator = Draft202012Validator(build_schema())

    def check(text: str) -> None:
        errors = [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(json.loads(text))]
        assert not errors, errors

    return check


@pytest.fixture(scope="session", autouse=True)
def _every_audit_fits_the_schema(assert_fits_schema: Callable[[str], None]) -> Iterator[None]:
    """Each distinct text that this process writes as an audit.json is validated.

    A run of the command line turns an exception into exit code 2, which a test may expect: misfits are told again at
    the end of the session.
    """
    original, digests, misfits = AuditResult.to_json, set[str](), list[str]()

    def validated(result: AuditResult) -> str:
        text = original(result)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest not in digests:
            digests.add(digest)
            try:
                assert_fits_schema(text)
            except AssertionError as error:
                misfits.append(str(error))
                raise
        return text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AuditResult, "to_json", validated)
        yield
    assert misfits == [], "audits that do not fit audit.schema.json were written"


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """A command run in this process leaves its handler, whose stream is closed after the test."""
    logger = logging.getLogger("salve_audit")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children of this process obey SIGINT, also where the tests were started with it ignored (nohup, some CI)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a handler is reset to the default by exec
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """``disk(name, n_bytes)``: a folder that is a disk of its own."""
    mounted = []

    def make(name: str, n_bytes: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        if sys.platform != "linux" or os.geteuid() != 0:
            pytest.skip("only root mounts disks")
        command = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
