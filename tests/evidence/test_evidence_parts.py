"""Image reliance part by part: no more images held than allowed, and the findings of all images at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from salve_audit.activations.spread import spread_rows
from salve_audit.errors import DataError, LayerError
from salve_audit.evidence import fast_network, stage
from salve_audit.evidence.alike import pool_cells, to_cells
from salve_audit.evidence.controls import check_by_occlusion, flip_at_random
from salve_audit.evidence.examine import POOLED, AuditedNetwork, search_evidence
from salve_audit.evidence.factors.bank import FACTORS
from salve_audit.evidence.fast_network import Clock
from salve_audit.evidence.findings import assess_evidence
from salve_audit.evidence.images import HELD, EvidenceImages
from salve_audit.evidence.probe import watch_network
from salve_audit.evidence.search import Evidence, SearchSettings, find_evidence, judge_with_squares
from salve_audit.evidence.stage import EvidenceInputs, EvidenceOutcome, measure_evidence
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.data.sources.source import Content
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.spatial.layers import find_spatial_layers

pytestmark = pytest.mark.slow

IMAGE = 4 * 3 * 32 * 32  # bytes
CLASSES = ("a", "b", "c")
N, N_AUDIT = 9, 12  # images of each class that are examined, and that there are


@dataclass(frozen=True)
class MemorySource:
    """Pixels by key, some of which have been lost."""

    pixels: dict[str, np.ndarray]
    lost: frozenset[str] = frozenset()
    resident_bytes: int = 0

    def read(self, key: str) -> Content:
        if key in self.lost:
            raise FileNotFoundError(2, "No such file or directory", key)
        return self.pixels[key]


@pytest.fixture
def network(cues: Classifier) -> AuditedNetwork:
    """The network of known cues, on images whose values are 0 to 1."""
    spec = dataclasses.replace(cues.transform, mean=(0.0,) * 3, std=(1.0,) * 3)
    classifier = dataclasses.replace(cues, transform=spec)
    (layer,) = find_spatial_layers(classifier, torch.rand(4, 3, 32, 32))
    return AuditedNetwork(classifier, layer, classifier.reader.fold(classifier.model), torch.device("cpu"), 0)


@pytest.fixture
def images(cue_images: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> ImageSet:
    """Twelve images of each class, read from memory."""
    drawn, labels = cue_images(N_AUDIT, np.random.default_rng(0))
    pixels = (drawn.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    keys = tuple(f"{row:03d}.png" for row in range(len(pixels)))
    split = ImageSplit(keys, tuple(labels.tolist()))
    return ImageSet(Path("memory"), CLASSES, split, split, "test", MemorySource(dict(zip(keys, pixels, strict=True))))


@pytest.fixture
def rows(images: ImageSet) -> np.ndarray:
    labels = np.array(images.audit.labels)
    return np.concatenate([np.flatnonzero(labels == label)[:N] for label in range(3)])


def without(images: ImageSet, keys: list[str]) -> ImageSet:
    assert isinstance(images.source, MemorySource)
    return dataclasses.replace(images, source=dataclasses.replace(images.source, lost=frozenset(keys)))


def prepare(images: ImageSet, rows: np.ndarray, network: AuditedNetwork, held_bytes: int = HELD) -> EvidenceImages:
    labels, spec = np.array(images.audit.labels), network.classifier.transform
    return EvidenceImages(images, images.audit.paths, labels, spec, rows, 0, held_bytes)


def measure(images: ImageSet, network: AuditedNetwork, seconds: float | None = None) -> EvidenceOutcome:
    """The outcome of the stage, for classes that no earlier stage has judged."""
    inputs = EvidenceInputs(
        classifier=network.classifier,
        images=images,
        paths=images.audit.paths,
        labels=np.array(images.audit.labels),
        head=network.head,
        classes=CLASSES,
        fragility=np.full(3, np.nan),
        device=network.device,
        workers=0,
        seed=network.seed,
        seconds=seconds,
    )
    return measure_evidence(inputs, ())


def assert_same(actual: Evidence, expected: Evidence) -> None:
    assert actual.n_passes == expected.n_passes
    for name, value in vars(expected).items():
        if name != "n_passes":
            torch.testing.assert_close(getattr(actual, name), value, equal_nan=True, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("held", [None, 5])
def test_parts_find_what_one_call_with_all_images_finds(
    images: ImageSet, rows: np.ndarray, network: AuditedNetwork, held: int | None
) -> None:
    examined = prepare(images, rows, network, HELD if held is None else held * IMAGE + 1)
    passes: list[int] = []

    def count(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        passes.append(len(inputs[0]) * (3 if inputs[0].requires_grad else 1))

    handle = network.classifier.model.register_forward_pre_hook(count)
    evidence, findings, controls = search_evidence(network, examined)
    handle.remove()
    assert evidence.n_passes + controls.n_passes == sum(passes)
    prepared, labels = prepare(images, rows, network).load(np.arange(len(rows))), examined.labels
    with watch_network(network.classifier, network.layer, network.head) as probe:
        few = spread_rows(np.arange(len(rows)), POOLED if held is None else held)
        pool = pool_cells(to_cells(probe(prepared[few]).maps, (32, 32)), labels[few])
        found = find_evidence(probe, prepared, labels, SearchSettings(), pool)
        expected = judge_with_squares(probe, prepared, found, 100)
        assert_same(dataclasses.replace(evidence, n_passes=evidence.n_passes - len(few)), expected)
        known = assess_evidence(expected, network.rng("concepts"))
        assert findings.classes == known.classes
        either, only, nothing = (finding.reliance.value for finding in known.classes)
        assert either < 0.5, "its two cues are removed at once only where they touch"
        assert (only, nothing) == (1.0, 0.0)
        assert controls.chance == flip_at_random(probe, prepared, expected, 100, network.rng("random places"))
        if held is None:  # else the average colour is that of the images that may be held
            assert controls.checks == check_by_occlusion(probe, prepared, expected, known, 100)
        assert set(controls.factors.answers) == set(FACTORS)
        assert set(controls.insertions) == {check.concept for check in controls.checks.values()}
        assert set(controls.checks) == {concept.label for concept in known.concepts}


def test_no_more_is_held_than_allowed_and_all_at_once_is_read_once(
    images: ImageSet, rows: np.ndarray, network: AuditedNetwork
) -> None:
    by_parts = prepare(images, rows, network, 5 * IMAGE)
    first = list(by_parts.read_first())
    assert [len(labels) for labels, _ in first] == [5, 5, 5, 5, 5, 2]
    again = list(by_parts.parts())
    assert [(own.start, own.stop) for own, _ in again] == [(0, 5), (5, 10), (10, 15), (15, 20), (20, 25), (25, 27)]
    for (labels, before), (own, after) in zip(first, again, strict=True):
        assert torch.equal(before, after)
        assert labels.tolist() == by_parts.labels[own].tolist()
    assert len(by_parts.spread()) == 5
    at_once = prepare(images, rows, network)
    ((_, prepared),) = at_once.read_first()
    ((own, same),) = at_once.parts()
    assert (own, same is prepared, at_once.spread() is prepared) == (slice(0, 27), True, True)
    positions = np.array([20, 3, 3])
    assert torch.equal(at_once.load(positions), prepared[positions])
    assert torch.equal(by_parts.load(positions), prepared[positions])


def test_what_cannot_be_read_again_is_left_out(images: ImageSet, rows: np.ndarray, network: AuditedNetwork) -> None:
    partial = prepare(without(images, [images.audit.paths[rows[7]]]), rows, network, 5 * IMAGE)
    with pytest.raises(DataError, match="could be read before, and not now"):
        partial.load(np.array([7]))
    evidence, _, controls = search_evidence(network, partial)
    assert partial.rows.tolist() == [row for position, row in enumerate(rows) if position != 7]
    assert evidence.labels.tolist() == partial.labels.tolist()
    assert len(evidence.labels) == len(controls.factors.answers["border"].removed) == 26


class Steps(Clock):
    """A clock that is past after some questions."""

    def __init__(self, n: int) -> None:
        super().__init__(seconds=300.0)
        object.__setattr__(self, "left", [None] * n)

    def is_past(self, share: float = 1.0) -> bool:
        if self.left:
            self.left.pop()
        return not self.left


@pytest.mark.parametrize("held", [None, 5])
def test_when_time_is_over_the_classes_finished_so_far_are_kept(
    images: ImageSet, rows: np.ndarray, network: AuditedNetwork, held: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_network, "BATCH_PIXELS", 4 * 32 * 32)  # batches of four
    order = np.concatenate([rows[N : 2 * N], rows[:N], rows[2 * N :]])  # the second class first
    whole = prepare(images, order, network)
    everything, _, _ = search_evidence(network, whole)
    examined = prepare(images, order, network, HELD if held is None else held * IMAGE + 1)
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one stream: the batches are asked for in order
    n_batches = 6 if held is None else 8  # 20 to 24 of 27 images: the third class is begun
    evidence, findings, controls = search_evidence(dataclasses.replace(network, clock=Steps(n_batches)), examined)
    torch.set_num_threads(torch_threads)
    assert examined.rows.tolist() == order[: 2 * N].tolist()
    assert evidence.labels.tolist() == [1] * N + [0] * N
    torch.testing.assert_close(evidence.alone, everything.alone[: 2 * N], equal_nan=True, atol=1e-4, rtol=1e-4)
    assert sorted(finding.label for finding in findings.classes) == [0, 1]
    assert controls.factors.answers == {}, "there was no time left for them"


def test_without_a_finished_class_nothing_is_measured(
    images: ImageSet, rows: np.ndarray, network: AuditedNetwork
) -> None:
    with pytest.raises(LayerError, match="no class was finished within 300 s"):
        search_evidence(dataclasses.replace(network, clock=Steps(1)), prepare(images, rows, network))


def test_the_stage_says_which_classes_there_was_no_time_for(
    images: ImageSet, network: AuditedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_network, "BATCH_PIXELS", 4 * 32 * 32)
    monkeypatch.setattr(stage, "Clock", lambda seconds: Steps(6))
    outcome = measure(images, network, seconds=300)
    assert outcome.evidence.n_classes_left_out in (1, 2)
    assert outcome.evidence.why_left_out == "the time for it was over (300 s, --evidence-budget)"
    measured = 3 - outcome.evidence.n_classes_left_out
    assert len({concept.class_name for concept in outcome.concepts}) <= measured
    first_round = stage.PER_ROUND[0] * measured
    assert outcome.evidence.n_images in range(first_round, N_AUDIT * measured + 1)


def test_the_stage_is_handed_images_and_says_why_it_measured_nothing(images: ImageSet, network: AuditedNetwork) -> None:
    outcome = measure(images, network)
    assert (outcome.evidence.why_absent, outcome.evidence.layer, outcome.evidence.n_images) == ("", "layer", 36)
    drops = {concept.class_name: concept.effect[0].drop for concept in outcome.concepts if concept.kind == "region"}
    assert drops["b"] == 1.0
    assert all(concept.images for concept in outcome.concepts if concept.class_name == "b")
    strongest = next(concept for concept in outcome.concepts if concept.class_name == "b" and concept.kind == "region")
    assert all(image.image is not None and image.predicted in ("a", "c") for image in strongest.images)
    inserted = [image.inserted for image in strongest.images if image.inserted is not None]
    assert len(inserted) == 3
    assert {image.class_name for image in inserted} == {"a", "c"}  # spread over the others
    assert "b" in {image.predicted for image in inserted}  # what shows class b alone makes others it
    lost = measure(without(images, list(images.audit.paths)), network)
    assert lost.evidence.why_absent == "memory: no image to audit can be read"
    assert (lost.classes, lost.concepts, lost.projections) == ((), (), None)
