"""The search at depth over all pictures of the sample, part by part: the pieces, what they say, and the controls."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salve_audit.depth.pictures import DepthPictures
from salve_audit.errors import LayerError
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.inputs.reasons import summarise_error
from salve_audit.reliance.depth import (
    DepthFindings,
    Evidence,
    Probe,
    SearchSettings,
    assess_depth,
    find_evidence,
    watch_network,
)
from salve_audit.reliance.depth.assess import Share
from salve_audit.reliance.depth.check import Cover, checked_pieces, describe_checks, turn_under_cover
from salve_audit.reliance.depth.merging import merge_alike
from salve_audit.reliance.depth.nulls import count_passes, share_with_wilson, summarise_null, turn_at_random
from salve_audit.reliance.depth.pieces import join_evidence
from salve_audit.reliance.depth.records import choose_wholes
from salve_audit.reliance.depth.squares import judge_with_squares
from salve_audit.reliance.depth.whole import CHANGES, NULLS, Batches, Usual, find_usual, turn_changed
from salve_audit.results import OcclusionCheck
from salve_audit.spatial import SpatialLayer

BATCH, BATCH_PIXELS = 100, 2**18  # pictures at once, and pixels of theirs: a backward pass keeps every layer's output
ON_GPU = 4  # times the pixels, which a processor would not be faster with


@dataclass(frozen=True)
class SearchSubject:
    """The network, on its device, the layer that pieces are told apart at, the audit's head, and its seed."""

    classifier: Classifier
    layer: SpatialLayer
    head: LinearHead
    device: torch.device
    seed: int

    def rng(self, purpose: str) -> np.random.Generator:
        """A stream of its own for each purpose."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])


@dataclass(frozen=True)
class Controls:
    """What the findings are set beside.

    Attributes:
        nulls: by class, the share that turns wrong without a random place.
        turned: by kind of whole, pictures (n,) that turn wrong without it.
        whole_nulls: by class that loses more without a whole than without a concept, the share under that one's null.
        checks: by class, whether covering the same places agrees.
        usual: mean and spread of the channels over the pictures.
        n_passes: of one picture.
    """

    nulls: Mapping[int, Share]
    turned: Mapping[str, Bool[np.ndarray, " n"]]
    whole_nulls: Mapping[int, Share]
    checks: Mapping[int, OcclusionCheck]
    usual: Usual
    n_passes: int


def search_depth(subject: SearchSubject, pictures: DepthPictures) -> tuple[Evidence, DepthFindings, Controls]:
    """Everything that the network is asked; `pictures` are afterwards those that could be read.

    Raises:
        LayerError: no picture can be read, or the network fails.
    """
    classifier, layer = subject.classifier, subject.layer
    try:
        with watch_network(classifier, layer, subject.head) as probe:
            evidence = _find(probe, subject, pictures)
            findings = assess_depth(evidence, subject.rng("concepts"))
            controls = _Asked(probe, subject.device, pictures, evidence, findings).control(subject.rng("random places"))
    except (RuntimeError, MemoryError) as error:  # a backward pass of the network's own code
        raise LayerError(str(classifier.path), f"the search failed ({summarise_error(error)})") from error
    return evidence, findings, controls


def _find(probe: Probe, subject: SearchSubject, pictures: DepthPictures) -> Evidence:
    """Part by part; which pieces are alike is judged once all of a class are there."""
    parts = []
    for labels, part in pictures.read_first():
        images = part.to(subject.device)
        settings = SearchSettings(batch_size=_batch_size(images), merged=False)
        parts.append(find_evidence(probe, images, labels.to(subject.device), settings))
    joined = join_evidence(parts)
    parts.clear()  # of a thousand classes a few hundred megabytes
    return _judge(probe, subject, pictures, merge_alike(joined))


def _judge(probe: Probe, subject: SearchSubject, pictures: DepthPictures, found: Evidence) -> Evidence:
    """The pieces judged with squares as well, part by part."""
    parts = []
    for places, part in pictures.parts():
        images = part.to(subject.device)
        parts.append(judge_with_squares(probe, images, found.take(places), _batch_size(images)))
    judged = join_evidence(parts)
    return dataclasses.replace(judged, n_passes=found.n_passes + judged.n_passes)


@dataclass(frozen=True)
class _Asked:
    """What has been found, and the network to ask again."""

    probe: Probe
    device: torch.device
    pictures: DepthPictures
    evidence: Evidence
    findings: DepthFindings

    def control(self, rng: np.random.Generator) -> Controls:
        """All of them, part by part; `rng` draws the random places."""
        evidence, findings, usual = self.evidence, self.findings, find_usual(self.pictures.spread())
        chosen = checked_pieces(evidence, findings)
        moved, covered = [], []
        turned: dict[str, list[np.ndarray]] = {kind: [] for kind in CHANGES}
        for places, part in self.pictures.parts():
            images, own = part.to(self.device), evidence.take(places)
            size = _batch_size(images)
            moved.append(turn_at_random(self.probe, images, own, size, rng))
            covered.append(turn_under_cover(self.probe, images, own, Cover(chosen[places], usual[0]), size))
            for kind, change in CHANGES.items():
                turned[kind].append(turn_changed(self.probe, Batches(images, own, size), change, usual))
        at_random = np.concatenate(moved)
        wholes = {kind: np.concatenate(every) for kind, every in turned.items()}
        reliance = {one.label: one.reliance.value for one in findings.classes}
        resting = choose_wholes(reliance, wholes, evidence.labels.numpy())
        return Controls(
            nulls=summarise_null(evidence, at_random),
            turned=wholes,
            whole_nulls={label: self._null_of_whole(label, kind, usual) for label, kind in resting.items()},
            checks=describe_checks(evidence, findings, np.concatenate(covered)),
            usual=usual,
            n_passes=len(wholes) * len(evidence.labels)
            + count_passes(evidence)
            + int(chosen.sum())
            + sum(int((evidence.labels == label).sum()) for label in resting),
        )

    def _null_of_whole(self, label: int, kind: str, usual: Usual) -> Share:
        """Over the class's pictures; classes that rest on a whole are few, so its pictures are read once more."""
        rows, turned = np.flatnonzero(self.evidence.labels.numpy() == label), []
        for start in range(0, len(rows), self.pictures.most):
            some = rows[start : start + self.pictures.most]
            images = self.pictures.load(some).to(self.device)
            batches = Batches(images, self.evidence.take(some), _batch_size(images))
            turned.append(turn_changed(self.probe, batches, NULLS[kind], usual))
        return share_with_wilson(np.concatenate(turned)[:, None])


def _batch_size(images: Float[Tensor, "n c h w"]) -> int:
    pixels = BATCH_PIXELS * (ON_GPU if images.device.type != "cpu" else 1)
    return max(1, min(BATCH, pixels // (images.shape[2] * images.shape[3])))
