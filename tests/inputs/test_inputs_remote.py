"""DATA under a URL: the same images as from a disk, and errors that say what is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from object_store import google_objects, serving_objects, upload
from PIL import Image

from salve_audit.activations.fingerprint import hash_images
from salve_audit.activations.images import LoaderSettings, load_batch
from salve_audit.errors import DataError, UsageError
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.remote import RemoteFolder, UrlPath, is_url
from salve_audit.results.transform import TransformSpec


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and val/ of two classes, and a manifest of the same files."""
    root, rng, lines = tmp_path_factory.mktemp("data"), np.random.default_rng(0), ["path,label,split"]
    for part in ("train", "val"):
        for label in ("ant", "bee"):
            for index in range(4):
                file = root / part / label / f"{index}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(file)
                lines.append(f"{part}/{label}/{index}.png,{label},{part}")
    (root / "list.csv").write_text("\n".join(lines))
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture(scope="module", params=["gs", "s3"])
def url(request: pytest.FixtureRequest, on_disk: Path) -> Iterator[str]:
    """The same files under a URL: in this process's memory, and in an object store."""
    if request.param == "gs":
        with google_objects() as bucket:
            fsspec.filesystem("gs").put(str(on_disk), f"{bucket}/images", recursive=True)
            yield f"{bucket}/images"
        return
    with serving_objects() as bucket:
        upload(on_disk, f"{bucket}/images")
        yield f"{bucket}/images"


def same(remote: ImageSet, local: ImageSet) -> bool:
    """The same images in the same splits, with the same contents."""
    parts = [(images.fit, images.audit, images.classes, images.layout) for images in (remote, local)]
    paths = local.fit.paths + local.audit.paths
    return parts[0] == parts[1] and hash_images(remote.reader, paths) == hash_images(local.reader, paths)


def test_a_folder_and_a_manifest_are_those_on_a_disk(url: str, on_disk: Path) -> None:
    assert same(load_images(url, seed=0), load_images(on_disk, seed=0))
    assert same(load_images(f"{url}/list.csv", seed=0), load_images(on_disk / "list.csv", seed=0))


def test_processes_that_decode_read_it_too(url: str) -> None:
    images = load_images(url, seed=0)
    hash_images(images.reader, images.fit.paths)  # this process has its connections by then
    spec = TransformSpec((3, 6, 6), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0, "test")
    batches = [load_batch(images.reader, images.fit.paths, spec, LoaderSettings(4, workers)) for workers in (0, 2)]
    assert [batch.skipped for batch in batches] == [[], []]
    assert torch.equal(batches[0].images, batches[1].images)


def test_a_manifest_of_bare_names_finds_its_files(url: str) -> None:
    RemoteFolder(url).write("train/ant/bare.csv", b"id,label\n0,x\n1,x\n2,y\n3,y\n")
    images = load_images(f"{url}/train/ant/bare.csv", seed=0)
    assert {*images.fit.paths, *images.audit.paths} == {f"{index}.png" for index in range(4)}
    RemoteFolder(url).remove("train/ant/bare.csv")


def test_messages_name_the_url(url: str) -> None:
    for place, why in (
        ("nothing", "no such folder, or nothing in it"),
        ("nothing.csv", "cannot be read"),
        ("pack.tar", "can be read from a URL, and this is neither"),
        ("train/ant", "no class folders|images without labels"),
    ):
        with pytest.raises(DataError, match=why) as caught:
            load_images(f"{url}/{place}", seed=0)
        assert caught.value.what.startswith(url), place
    RemoteFolder(url).write("bad.csv", b"path,label\nx.png\n")
    with pytest.raises(DataError, match="line 2 has 1 fields") as caught:
        load_images(f"{url}/bad.csv", seed=0)
    assert caught.value.what == f"{url}/bad.csv"
    RemoteFolder(url).write("outside.csv", b"path,label\n../x.png,a\n")
    with pytest.raises(DataError, match="refused"):
        load_images(f"{url}/outside.csv", seed=0)


def test_a_bucket_under_gs_is_looked_for() -> None:
    with google_objects() as bucket:
        RemoteFolder(f"{bucket}/not/there/yet").check_bucket()
        with pytest.raises(FileNotFoundError):
            RemoteFolder("gs://absent/x").check_bucket()


def test_a_bucket_that_is_not_there_is_named() -> None:
    with serving_objects(), pytest.raises(DataError, match=r"s3://absent/x: cannot be read .*bucket does not exist"):
        load_images("s3://absent/x", seed=0)


@pytest.mark.parametrize(("package", "kind"), [("s3fs", "s3"), ("gcsfs", "gs")])
def test_a_missing_package_is_named(package: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError(f"Install {package}")

    if importlib.util.find_spec(package) is not None:
        monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UsageError, match=f"not installed .*nstall {package}") as caught:
        load_images(f"{kind}://bucket/x", seed=0)
    assert "salve-audit[url]" in str(caught.value.hint)


def test_an_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(UsageError, match="is no URL that can be read"):
        load_images("nonsense://bucket/x", seed=0)


def test_urls_are_told_from_paths() -> None:
    assert [is_url(text) for text in ("s3://b/x", "simplecache::gs://b", "C:/x", "./s3:/x", Path("s3://b"))] == [
        *(True, True, False, False, False)
    ]
    assert str(UrlPath("s3://b") / "x" / "y") == "s3://b/x/y"
