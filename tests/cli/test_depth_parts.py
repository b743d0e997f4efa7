"""Reliance at depth part by part: no more pictures held than allowed, and the same findings as from all at once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from salve_audit.config import AuditConfig
from salve_audit.depth.pictures import HELD, DepthPictures
from salve_audit.depth.search import SearchSubject, search_depth
from salve_audit.depth.stage import measure_depth
from salve_audit.errors import DataError
from salve_audit.inputs.sources.source import Content, PictureSource
from salve_audit.reliance.depth import Evidence, SearchSettings, assess_depth, find_evidence, watch_network
from salve_audit.reliance.depth.check import check_by_occlusion
from salve_audit.reliance.depth.nulls import flip_at_random
from salve_audit.reliance.depth.squares import judge_with_squares
from salve_audit.reliance.depth.whole import flip_without_whole
from salve_audit.spatial import find_spatial_layers
from salve_audit.spatial.blocks import first_block
from salve_audit.stopwatch import Stopwatch
from salve_audit.subject import Subject, load_subject

PICTURE = 4 * 3 * 32 * 32  # bytes


@pytest.fixture(scope="module")
def subject(colour_model: Path, colour_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    cache = tmp_path_factory.mktemp("parts")
    return load_subject(AuditConfig(model=colour_model, data=colour_data, cache=cache), Stopwatch())


@pytest.fixture(scope="module")
def rows(subject: Subject) -> np.ndarray:
    labels = subject.activations.audit.labels
    return np.concatenate([np.flatnonzero(labels == label)[:9] for label in range(3)])


@pytest.fixture(scope="module")
def asked(subject: Subject, rows: np.ndarray) -> SearchSubject:
    assert subject.classifier is not None
    images = DepthPictures(subject, rows, 0).load(np.arange(4))
    layer = first_block(subject.classifier.model, find_spatial_layers(subject.classifier, images))
    return SearchSubject(subject.classifier, layer, subject.activations.head, torch.device("cpu"), 0)


def assert_same(one: Evidence, other: Evidence) -> None:
    assert one.n_passes == other.n_passes
    for name, value in vars(one).items():
        if name != "n_passes":
            torch.testing.assert_close(getattr(other, name), value, equal_nan=True, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("held", [None, 5])
def test_parts_find_what_one_call_with_all_pictures_finds(
    subject: Subject, rows: np.ndarray, asked: SearchSubject, held: int | None
) -> None:
    """All at once: as it was computed before there were parts."""
    pictures = DepthPictures(subject, rows, 0, HELD if held is None else held * PICTURE + 1)
    seen: list[int] = []

    def count(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(inputs[0]) * (3 if inputs[0].requires_grad else 1))

    handle = asked.classifier.model.register_forward_pre_hook(count)
    evidence, findings, controls = search_depth(asked, pictures)
    handle.remove()
    assert evidence.n_passes + controls.n_passes == sum(seen)
    images, labels = DepthPictures(subject, rows, 0).load(np.arange(len(rows))), pictures.labels
    with watch_network(asked.classifier, asked.layer, asked.head) as probe:
        expected = judge_with_squares(probe, images, find_evidence(probe, images, labels, SearchSettings()), 100)
        assert_same(expected, evidence)
        known = assess_depth(expected, asked.rng("concepts"))
        assert findings.classes == known.classes
        assert controls.nulls == flip_at_random(probe, images, expected, 100, asked.rng("random places"))
        if held is None:  # else the usual colour is that of the pictures that may be held
            turned = flip_without_whole(probe, images, expected, 100)
            assert {kind: every.tolist() for kind, every in turned.items()} == {
                kind: every.tolist() for kind, every in controls.turned.items()
            }
            assert controls.checks == check_by_occlusion(probe, images, expected, known, 100)
        assert set(controls.checks) == {one.label for one in known.classes if one.n_correct}


def test_no_more_is_held_than_allowed_and_all_at_once_is_read_once(subject: Subject, rows: np.ndarray) -> None:
    pictures = DepthPictures(subject, rows, 0, 5 * PICTURE)
    parts = [(labels, images) for labels, images in pictures.read_first()]
    assert [len(labels) for labels, _ in parts] == [5, 5, 5, 5, 5, 2]
    again = list(pictures.parts())
    assert [(own.start, own.stop) for own, _ in again] == [(0, 5), (5, 10), (10, 15), (15, 20), (20, 25), (25, 27)]
    for (labels, first), (own, second) in zip(parts, again, strict=True):
        assert torch.equal(first, second)
        assert labels.tolist() == pictures.labels[own].tolist()
    assert len(pictures.spread()) == 5
    whole = DepthPictures(subject, rows, 0)
    ((_, images),) = whole.read_first()
    ((own, same),) = whole.parts()
    assert (own, same is images, whole.spread() is images) == (slice(0, 27), True, True)
    some = np.array([20, 3, 3])
    assert torch.equal(whole.load(some), images[some])
    assert torch.equal(pictures.load(some), images[some])


@dataclass(frozen=True)
class Gone:
    """A source that has lost some of its pictures."""

    source: PictureSource
    keys: frozenset[str]
    resident_bytes: int = 0

    def read(self, key: str) -> Content:
        if key in self.keys:
            raise FileNotFoundError(2, "No such file or directory", key)
        return self.source.read(key)


def test_what_cannot_be_read_again_is_left_out(subject: Subject, rows: np.ndarray, asked: SearchSubject) -> None:
    images, audit = subject.images, subject.activations.audit
    assert images is not None

    def without(keys: list[str]) -> Subject:
        left = dataclasses.replace(images, source=Gone(images.pictures, frozenset(keys)))
        return dataclasses.replace(subject, images=left)

    pictures = DepthPictures(without([audit.paths[rows[7]]]), rows, 0, 5 * PICTURE)
    with pytest.raises(DataError, match="could be read before, and not now"):
        pictures.load(np.array([7]))
    evidence, _, controls = search_depth(asked, pictures)
    assert pictures.rows.tolist() == [row for place, row in enumerate(rows) if place != 7]
    assert evidence.labels.tolist() == pictures.labels.tolist()
    assert len(evidence.labels) == len(controls.turned["frame"]) == 26
    outcome = measure_depth(AuditConfig(model="m"), without(list(audit.paths)), (), np.full(3, np.nan))
    assert outcome.depth.why_absent.endswith("none of the pictures can be read again")
