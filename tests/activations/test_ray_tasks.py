"""Stages on a Ray cluster of this machine: the bytes of an audit by one process, whatever happens to tasks."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from object_store import serving_objects, upload

from salve_audit.activations.ray_actors import RayActors
from salve_audit.activations.ray_cluster import count_places
from salve_audit.activations.ray_tasks import RayTasks
from salve_audit.cli.app import run
from salve_audit.errors import DataError, UsageError
from salve_audit.evidence import fast_network
from salve_audit.evidence.elsewhere import map_elsewhere
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae

MODELS = Path(__file__).resolve().parents[1] / "models"
STORE_BYTES = 200 * 10**6

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own


@pytest.fixture(scope="module")
def bucket() -> Iterator[str | None]:
    """An object store, if there is one; it is there before the cluster, whose processes are told of it."""
    if any(importlib.util.find_spec(name) is None for name in ("s3fs", "moto")):
        yield None
        return
    with serving_objects() as url:
        yield url


@pytest.fixture(scope="module")
def cluster(bucket: str | None) -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'salve-audit[ray]'")
    ray.init(num_cpus=2, num_gpus=1, object_store_memory=STORE_BYTES, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_tasks_come_back_in_order_whatever_happens_to_them(cluster: Any, tmp_path: Path) -> None:
    mark = tmp_path / "killed"

    def double(shared: int, own: int) -> int:
        if own == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if own == 100:
            raise DataError("here", "cannot be used", hint="try again")
        return shared * own

    assert RayTasks()(double, 2, [lambda n=n: n for n in range(12)]) == [2 * n for n in range(12)]
    assert mark.exists()
    with pytest.raises(DataError, match="here: cannot be used") as caught:
        RayTasks()(double, 2, [lambda: 100])
    assert caught.value.hint == "try again"


def test_what_runs_on_a_gpu_asks_for_one(cluster: Any, classifier: Any) -> None:
    """The cluster counts a GPU that this machine need not have."""

    class Where:
        def __init__(self, *_: object) -> None:
            self.gpus = cluster.get_gpu_ids()

        def run(self) -> list[int]:
            return self.gpus

    def find(shared: None, own: None) -> list[int]:
        return cluster.get_gpu_ids()

    for device, gpus in (("cuda", [0]), ("cpu", [])):
        assert RayTasks()(find, None, [lambda: None] * 3, device) == [gpus] * 3
        with RayActors()(Where, (classifier,), device) as pool:
            assert list(pool.run([()] * 3)) == [gpus] * 3
    without = SimpleNamespace(cluster_resources=lambda: {"CPU": 4.0})
    with pytest.raises(UsageError, match="the cluster has no GPU"):
        count_places(without, "cuda")


def test_an_audit_on_a_cluster_has_the_bytes_of_one_here(
    cluster: Any, bucket: str | None, images: Path, classifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = str(images)
    if bucket is not None:  # workers read the images themselves
        there = f"{bucket}/images"
        upload(images, there)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    quick = ["--sae", "linear-l1", "--n-latents", "8", "--sae-seeds", "1", "--interventions", "salve"]
    unhurried = ["--sae-budget", "100000", "--evidence-budget", "100000"]  # the clock decides nothing
    command = ["--arch", f"{MODELS / 'tiny.py'}:tiny", "--deep-edits", "off", *unhurried]
    sent, batches = [], []
    call = RayTasks.__call__

    def count(tasks: RayTasks, work: Any, shared: Any, loads: Any, device: str = "cpu") -> Any:
        results = call(tasks, work, shared, loads, device)
        sent.append((work.__name__, len(results)))
        return results

    def count_batches(pool: Any, work: Any, items: Any, kept: Any) -> Any:
        results = map_elsewhere(pool, work, items, kept)
        batches.append(len(results))
        return results

    monkeypatch.setattr(RayTasks, "__call__", count)
    monkeypatch.setattr(fast_network, "map_elsewhere", count_batches)
    for engine, data in (("local", str(images)), ("ray", there)):
        where = ["--out", str(tmp_path / engine), "--cache", str(tmp_path / f"{engine} cache"), "--engine", engine]
        assert run([str(classifier.path), data, *command, *quick, "--format", "json", *where]) == 0
    for name in ("audit.json", "samples.parquet", "sae.safetensors", "concepts.safetensors"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes(), name
    assert sum(batches) > 10
    assert sent == [("_find_thresholds", 3), ("_control_own", 3)]


def test_seeds_are_trained_on_a_cluster(cluster: Any) -> None:
    rng = np.random.default_rng(0)
    acts, labels = rng.normal(size=(240, 12)).astype(np.float32), np.arange(240) % 3
    head = LinearHead(rng.normal(size=(3, 12)).astype(np.float32), np.zeros(3, np.float32), "fc")
    settings = SaeSettings(variant="linear-l1", n_latents=8, n_seeds=2, sparsity=0.1)

    def here(work: Any, shared: Any, loads: Any, device: str) -> list[Any]:
        return [work(shared, load()) for load in loads]

    one, other = (
        train_sae(acts, labels, head, dataclasses.replace(settings, tasks=tasks)) for tasks in (here, RayTasks())
    )
    assert one.info == other.info
    for sae, twin in zip(one.seeds, other.seeds, strict=True):
        assert np.array_equal(sae.dictionary, twin.dictionary)
