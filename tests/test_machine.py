"""Memory that limits leave: ulimit -v, cgroups of both versions, and the words in which its end is told."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from salve_audit.machine import UNLIMITED, is_out_of_memory, within_cgroups

GB = 10**9


@pytest.mark.skipif(sys.platform != "linux", reason="limits are asked for in Linux's way")
def test_ulimit_v_counts() -> None:
    code = (
        "import resource; from salve_audit.machine import find_limit;"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); limit = find_limit(); print(limit.what, limit.left)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ulimit -v ")
    assert 0 < int(done.stdout.split()[-1]) < 2**30


def write_group(folder: Path, prefix: str, limit: str, use: int, free: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("max", "current") if prefix == "" else ("limit_in_bytes", "usage_in_bytes")
    for name, text in zip((*names, "stat"), (limit, str(use), f"anon 7\n{free}\n"), strict=True):
        (folder / f"memory.{name}").write_text(text)


@pytest.mark.parametrize(
    ("prefix", "listed", "free"),
    [
        ("", "0::/slurm/job_7/step_0", f"inactive_file {GB}"),
        ("memory", "4:freezer:/\n5:cpuacct,memory:/slurm/job_7/step_0", f"total_inactive_file {GB}"),
    ],
)
def test_the_narrowest_group_counts(prefix: str, listed: str, free: str, tmp_path: Path) -> None:
    root, listing = tmp_path / "cgroup", tmp_path / "listing"
    listing.write_text(listed)
    write_group(root / prefix, prefix, "max" if prefix == "" else str(2**63 - 4096), 30 * GB, free)
    write_group(root / prefix / "slurm" / "job_7" / "step_0", prefix, str(64 * GB), 5 * GB, free)
    assert within_cgroups(root, listing) == 60 * GB
    write_group(root / prefix / "slurm" / "job_7", prefix, str(16 * GB), 5 * GB, free)
    assert within_cgroups(root, listing) == 12 * GB
    write_group(root / prefix, prefix, str(3 * GB), 5 * GB, free)
    assert within_cgroups(root, listing) == 0
    assert within_cgroups(tmp_path / "none", listing) == UNLIMITED


class OutOfMemoryError(RuntimeError):  # as torch's own of a GPU
    pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError("Unable to allocate 3 GiB for an array"), True),
        (OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("can't start new thread"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), True),
        (RuntimeError("shape mismatch"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (None, False),
    ],
)
def test_what_says_that_memory_is_short(error: BaseException | None, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from salve_audit.cli.app import run
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits are set in Linux's way")
def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    limit = 5 * 10**8  # less than torch's libraries map
    rng = np.random.default_rng(0)
    arrays = {"acts": rng.normal(size=(60, 8)).astype(np.float32), "labels": np.arange(60) % 2}
    np.savez(tmp_path / "arrays.npz", weight=rng.normal(size=(2, 8)).astype(np.float32), **arrays)
    words = [str(limit), str(tmp_path / "arrays.npz"), "--out", str(tmp_path / "out"), "--no-cache"]
    done = subprocess.run([sys.executable, "-c", LIMITED, *words], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith("error: memory: not enough for this model and these settings (ulimit -v leaves ")
    assert hint.startswith("hint: allow it more")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
