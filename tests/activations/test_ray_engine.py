"""The backbone pass on a Ray cluster of this machine: the same entry as by one process, whatever happens to workers."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from activation_entries import same

from salve_audit.activations import ray_cluster, ray_engine
from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.activations.ray_engine import RayEngine, Worker
from salve_audit.config import AuditConfig
from salve_audit.errors import CheckpointError, UsageError

N_WORKERS = 2
STORE_BYTES = 200 * 10**6


def test_without_ray_the_engine_says_what_to_install(classifier, imageset, tmp_path, monkeypatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(ray_cluster.importlib, "import_module", missing)
    settings = ExtractSettings(batch_size=7, workers=0, cache_dir=tmp_path / "cache", engine=RayEngine())
    with pytest.raises(UsageError, match=r"--engine ray: Ray is not installed"):
        extract(classifier, imageset, settings)
    with pytest.raises(UsageError, match="ray_address: is named, but the engine is local"):
        AuditConfig("m", "d", ray_address="auto")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'salve-audit[ray]'")
    ray.init(num_cpus=N_WORKERS, object_store_memory=STORE_BYTES, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def settings(tmp_path: Path) -> ExtractSettings:
    return ExtractSettings(batch_size=3, workers=0, cache_dir=tmp_path / "ray", engine=RayEngine())


pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.mark.slow
def test_a_cluster_gives_the_same_entry(cluster, classifier, imageset, images, settings, tmp_path) -> None:
    (images / "val/cow/07.png").write_bytes(b"damaged")
    here = dataclasses.replace(settings, engine=None, cache_dir=tmp_path / "here")
    local, spread = extract(classifier, imageset, here), extract(classifier, imageset, settings)
    assert same(local, spread)
    assert (spread.key, spread.skipped, spread.head_error) == (local.key, local.skipped, local.head_error)
    for name in ("acts.npy", "meta.json"):
        assert (settings.cache_dir / local.key / name).read_bytes() == (here.cache_dir / local.key / name).read_bytes()


@pytest.mark.slow
def test_a_killed_worker_costs_its_batches_only(cluster, classifier, imageset, settings, tmp_path, monkeypatch) -> None:
    marks = tmp_path / "killed"

    class Dying(Worker):
        def run(self, start: int, paths: Any, with_images: bool) -> Any:
            if start == 12 and not marks.exists():
                marks.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().run(start, paths, with_images)

    monkeypatch.setattr(ray_engine, "Worker", Dying)
    here = dataclasses.replace(settings, engine=None, cache_dir=tmp_path / "here")
    spread = extract(classifier, imageset, settings)
    assert marks.exists()
    assert same(extract(classifier, imageset, here), spread)


@pytest.mark.slow
def test_errors_of_workers_are_those_of_a_pass(cluster, classifier, imageset, settings) -> None:
    class Failing(type(classifier.model)):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            raise RuntimeError("mat1 and mat2 do not fit")

    classifier.model.__class__ = Failing
    with pytest.raises(CheckpointError, match=r"a forward pass of 3 x 3 x 16 x 16 failed .*mat1 and mat2"):
        extract(classifier, imageset, settings)
