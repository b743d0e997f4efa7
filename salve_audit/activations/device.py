"""The device that the backbone runs on, and the number of decoding processes."""

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


def choose_workers(n_workers: int | None, device: torch.device) -> int:
    """The number of decoding processes, at most one per core; by default one per core for a GPU, at most 8.

    For a network that runs on the CPU it is half the cores less one: the network keeps all of them busy. The streams
    of the backbone pass need none there, see `streams`.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_workers is None:
        n_workers = min(n_cores if device.type == "cuda" else max(n_cores // 2 - 1, 0), MOST_WORKERS)
    return min(n_workers, n_cores)
