"""The backbone pass on a Ray cluster of two machines, started here: one that is lost costs its batches only."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from activation_entries import same

from salve_audit.activations import ray_engine
from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.activations.ray_engine import RayEngine, Worker

STORE_BYTES = 100 * 10**6  # of each machine

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two machines of one processor each; this process is connected to the first."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'salve-audit[ray]'")
    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    started = importlib.import_module("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={**node, "include_dashboard": False}
    )
    started.add_node(**node)
    ray.init(address=started.address, log_to_driver=False)
    yield started
    ray.shutdown()
    started.shutdown()


def test_a_lost_machine_costs_its_batches_only(cluster, classifier, imageset, tmp_path, monkeypatch, caplog) -> None:
    import ray

    other, marks = next(iter(cluster.worker_nodes)), tmp_path / "marks"
    marks.mkdir()
    doomed = marks / other.node_id

    class Marking(Worker):
        def run(self, start: int, paths: Any, with_images: bool) -> Any:
            here, is_first = marks / ray.get_runtime_context().get_node_id(), not doomed.exists()
            here.touch()
            if is_first or here == doomed:  # gives the other machine time to begin, and keeps it from ending
                time.sleep(1 if is_first else 600)
            return super().run(start, paths, with_images)

    def lose_one(done: int, n: int) -> None:
        if doomed.exists() and other in cluster.worker_nodes:
            cluster.remove_node(other, allow_graceful=False)

    monkeypatch.setattr(ray_engine, "Worker", Marking)
    settings = ExtractSettings(
        batch_size=3, workers=0, cache_dir=tmp_path / "ray", engine=RayEngine(), advance=lose_one
    )
    here = dataclasses.replace(settings, engine=None, advance=None, cache_dir=tmp_path / "here")
    spread, local = extract(classifier, imageset, settings), extract(classifier, imageset, here)
    assert len([*marks.iterdir()]) == 2
    assert other not in cluster.worker_nodes
    assert "a worker of the cluster was lost" in caplog.text
    assert same(local, spread)
    assert read_entry_bytes(tmp_path / "ray", spread.key) == read_entry_bytes(tmp_path / "here", local.key)


def read_entry_bytes(cache: Path, key: str) -> list[bytes]:
    return [(cache / key / name).read_bytes() for name in ("acts.npy", "meta.json")]
