"""The connection to a Ray cluster: one that is there, or processes of this machine for the while."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from salve_audit.errors import UsageError
from salve_audit.inputs.reasons import summarise_error


def import_ray() -> Any:
    """The package.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("--engine ray", "Ray is not installed", hint="pip install 'salve-audit[ray]'") from error


def count_places(ray: Any, device: str) -> tuple[int, dict[str, int]]:
    """How many processes the cluster has room for at once on a device, cpu or cuda, and what each of them asks for.

    Raises:
        UsageError: the cluster has no such processor.
    """
    kind = "GPU" if device == "cuda" else "CPU"
    n = int(ray.cluster_resources().get(kind, 0))
    if n < 1:
        raise UsageError("--engine ray", f"the cluster has no {kind}", hint="--device cpu" if kind == "GPU" else None)
    return n, {"num_cpus": 1, "num_gpus": int(kind == "GPU")}


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, on a connection that is there already, to the cluster at `address`, or to one started and stopped here.

    Raises:
        UsageError: Ray is not installed, or there is no such cluster.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        quiet["include_dashboard"] = False
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise UsageError("--ray-address", f"no cluster is found ({summarise_error(error)})") from error
    try:
        yield ray
    finally:
        ray.shutdown()
