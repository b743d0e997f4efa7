"""A cache under a URL: another machine recalls from it, goes on from it, and does without it once it is lost."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from activation_entries import same
from object_store import google_objects, list_objects, serving_objects, upload

from salve_audit.activations import extraction, shards
from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.activations.remote_cache import RemoteCache
from salve_audit.audit.stage_cache import KeptResult, StageCache
from salve_audit.cli.app import run
from salve_audit.inputs.remote import RemoteFolder

MODELS = Path(__file__).resolve().parents[1] / "models"
BIG = 10**12
Machine = Callable[[str], ExtractSettings]


@pytest.fixture(params=["gs", "s3"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with (google_objects if request.param == "gs" else serving_objects)() as bucket:
        yield f"{bucket}/cache"
        RemoteFolder(bucket).remove("cache")


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Machine:
    """Settings of a pass on a machine of its own, by name."""

    def make(name: str) -> ExtractSettings:
        remote = RemoteCache(tmp_path / name, RemoteFolder(url))
        return ExtractSettings(batch_size=7, workers=0, cache_dir=remote.folder, remote=remote)

    return make


def test_another_machine_recalls(url: str, machine: Machine, classifier, imageset, monkeypatch) -> None:
    first = extract(classifier, imageset, machine("first"))
    assert RemoteFolder(url).list_names() == [f"{first.key}/acts.npy", f"{first.key}/meta.json"]
    monkeypatch.setattr(extraction, "run_pass", lambda *_: pytest.fail("it was computed again"))
    second = extract(classifier, imageset, machine("second"))
    assert second.from_cache
    assert same(first, second)


@pytest.mark.parametrize("lost", [None, 2])
def test_another_machine_goes_on(
    url: str, machine: Machine, lost: int | None, classifier, imageset, monkeypatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    whole, seen = extract(classifier, imageset, ExtractSettings(batch_size=7, workers=0)), list[int]()

    def end(done: int, n: int) -> None:
        if done >= 35:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(classifier, imageset, dataclasses.replace(machine("first"), advance=end))
    shard = f"{whole.key}.partial/{{:06}}.shard"
    assert RemoteFolder(url).list_names() == [shard.format(number) for number in range(5)]
    if lost is not None:
        RemoteFolder(url).write(shard.format(lost), b"torn")
    settings = dataclasses.replace(machine("second"), advance=lambda done, n: seen.append(done))
    assert same(extract(classifier, imageset, settings), whole)
    assert seen[0] == 7 * (6 if lost is None else lost + 1)
    assert RemoteFolder(url).list_names() == [f"{whole.key}/acts.npy", f"{whole.key}/meta.json"]


def test_shards_of_two_passes_are_not_mixed(url: str, machine: Machine, classifier, imageset, monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    whole = extract(classifier, imageset, ExtractSettings(batch_size=7, workers=0))

    def end(done: int, n: int) -> None:
        if done >= 30:
            raise KeyboardInterrupt

    for name, batch_size in (("first", 7), ("second", 5)):
        settings = dataclasses.replace(machine(name), batch_size=batch_size, advance=end)
        if name == "second":  # begins as if nothing were there, and ends with fewer shards than the first
            monkeypatch.setattr(RemoteCache, "list_names", lambda *_: [])
        with pytest.raises(KeyboardInterrupt):
            extract(classifier, imageset, settings)
    monkeypatch.undo()
    RemoteFolder(url).write(
        f"{whole.key}.partial/000006.shard", RemoteFolder(url).read(f"{whole.key}.partial/000004.shard")
    )
    assert same(extract(classifier, imageset, machine("third")), whole)


def test_a_store_that_is_lost_is_one_warning(machine: Machine, classifier, imageset, monkeypatch, caplog) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    whole = extract(classifier, imageset, ExtractSettings(batch_size=7, workers=0))

    def refuse(*_: object) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr(RemoteFolder, "write", refuse)
    settings = machine("first")
    assert same(extract(classifier, imageset, settings), whole)
    (text,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert text.endswith(f"cannot be used (the network is down): results are kept in {settings.cache_dir} alone")
    assert (settings.cache_dir / whole.key / "acts.npy").is_file()


@dataclasses.dataclass(frozen=True)
class Record:
    values: np.ndarray


def test_results_of_stages_and_their_parts_follow(machine: Machine) -> None:
    first, second = (
        StageCache(settings.cache_dir, BIG, remote=settings.remote)
        for settings in (machine("first"), machine("second"))
    )
    parts = first.parts("image reliance", "key")("probes")
    parts.keep("0-1", {"tensor": np.arange(3)})
    there = second.parts("image reliance", "key")("probes").recall("0-1")
    assert there is not None
    assert there["tensor"].tolist() == [0, 1, 2]
    first.keep("image reliance", "key", KeptResult(Record(np.ones(2)), ("take care",)))
    first.drop_parts("image reliance", "key")
    assert second.remote.store.list_names() == ["stages/image-reliance/key.npz"]
    assert second.may_hold("image-reliance", "ke")
    assert not second.may_hold("image-reliance", "other")
    assert not second.holds("image reliance", "other")
    kept = second.recall("image reliance", "key", Record)
    assert kept is not None
    assert (kept.record.values.tolist(), kept.warnings) == ([1, 1], ("take care",))


def test_a_bucket_that_is_not_there_is_an_error(images: Path, classifier, tmp_path: Path, capsys) -> None:
    with serving_objects():
        assert run([str(classifier.path), str(images), "--cache", "s3://absent/x", "--out", str(tmp_path / "out")]) == 2
    assert "s3://absent/x: there is no such bucket" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_audit_under_urls_has_the_bytes_of_one_on_a_disk(images: Path, classifier, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    quick = [
        "--sae",
        "linear-l1",
        "--n-latents",
        "8",
        "--sae-seeds",
        "2",
        "--interventions",
        "salve",
        "--deep-edits",
        "off",
    ]
    command = [str(classifier.path), "--arch", f"{MODELS / 'tiny.py'}:tiny", "--format", "json", *quick]
    written = []
    with serving_objects() as bucket:
        upload(images, f"{bucket}/images")
        for number, (data, cache) in enumerate(
            [(str(images), str(tmp_path / "cache")), *[(f"{bucket}/images", f"{bucket}/kept")] * 2]
        ):
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"home{number}"))  # each on a machine of its own
            out = tmp_path / f"out{number}"
            assert run([command[0], data, *command[1:], "--cache", cache, "--out", str(out)]) == 0
            written.append((out / "audit.json").read_bytes())
        kept = list_objects(f"{bucket}/kept")
    assert written[0] == written[1] == written[2]
    assert {name.split("/")[1] for name in kept if name.startswith("stages/")} >= {"autoencoder", "image-reliance"}
    assert not [name for name in kept if ".parts/" in name or ".partial/" in name]
