"""Where the backbone runs, in which precision and with how many decoding processes."""

from __future__ import annotations

import os

import torch

from salve_audit.errors import UsageError

MOST_WORKERS = 8


def choose_device(name: str) -> torch.device:
    """The device for ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.

    Raises:
        UsageError: CUDA is asked for, but there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("device", "cuda was asked for, but torch finds no CUDA device", hint="--device cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def choose_precision(name: str) -> str:
    """``fp32`` or ``bf16``; ``auto`` is fp32 everywhere, so that machines agree on the numbers."""
    assert name in ("auto", "fp32", "bf16"), f"unknown precision {name!r}"
    return "bf16" if name == "bf16" else "fp32"


def choose_workers(asked: int | None) -> int:
    """Decoding processes: as asked, else one per core up to 8; never more than there are cores."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS if asked is None else asked, n_cores)
