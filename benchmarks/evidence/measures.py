"""This project's measure in its variants, for `ranking.py`."""

from __future__ import annotations

import numpy as np
import torch
from cases import Case, Measured, to_maps
from torch import Tensor

from salve_audit.evidence.findings import ConceptFinding, EvidenceFindings, assess_evidence, mask_of
from salve_audit.evidence.probe import Probe, ProbeOutput
from salve_audit.evidence.search import Evidence, SearchSettings, find_evidence, judge_with_squares

DEFAULT = SearchSettings()
SIGNATURE_STAGE = 2  # concepts are distinguished by its output: layer1, the first block, the first stage


def probe_case(case: Case, stage: int = SIGNATURE_STAGE) -> Probe:
    def probe(images: Tensor) -> ProbeOutput:
        inner = case.net.before(images, stage)
        return ProbeOutput(case.net.after(inner, stage), to_maps(inner).detach())

    return probe


def measure_evidence(
    case: Case,
    settings: SearchSettings = DEFAULT,
    stage: int = SIGNATURE_STAGE,
    *,
    squares: bool = False,
) -> Measured:
    """Evidence regions, grouped into concepts.

    Args:
        stage: whose output distinguishes concepts.
        squares: regions are judged with squares around their middle as well.
    """
    probe = probe_case(case, stage)
    evidence = find_evidence(probe, case.images, torch.from_numpy(case.labels), settings)
    if squares:
        evidence = judge_with_squares(probe, case.images, evidence, settings.batch_size)
    findings = assess_evidence(evidence, np.random.default_rng(0))
    reliance = np.array([finding.reliance.value for finding in findings.classes])
    return Measured(reliance, _most_fragile(evidence), evidence.n_passes, count_named(case, evidence, findings))


def measure_regions(case: Case, settings: SearchSettings = DEFAULT) -> Measured:
    """Evidence regions without concepts: an image counts where any region changes its prediction."""
    evidence = find_evidence(probe_case(case), case.images, torch.from_numpy(case.labels), settings)
    flipped = evidence.flips.numpy().any(1)
    reliance = np.array([flipped[case.labels == k].mean() for k in range(case.n_classes)])
    return Measured(reliance, _most_fragile(evidence), evidence.n_passes)


def _most_fragile(evidence: Evidence) -> np.ndarray:
    """Falling margin of the region that hurts most."""
    return np.asarray(-np.nan_to_num(evidence.alone.numpy(), nan=np.inf).min(1).clip(-1e9, 1e9))


def cover_cues(evidence: Evidence, concept: ConceptFinding, masks: np.ndarray) -> np.ndarray:
    """(q, c) share of each cue that each of the concept's regions covers; `masks`: (q, c, s, s) where cues are."""
    cells = mask_of(evidence, concept)[:, None].float()
    pixels = torch.nn.functional.interpolate(cells, masks.shape[2:])[:, 0].numpy() > 0
    return np.asarray((masks & pixels[:, None]).sum((2, 3)) / np.maximum(masks.sum((2, 3)), 1))


def match_cues(evidence: Evidence, concept: ConceptFinding, masks: np.ndarray) -> np.ndarray:
    """(q,) the cue that each of the concept's regions covers by half; -1: none."""
    covered = cover_cues(evidence, concept, masks)
    return np.where(covered.max(1) >= 0.5, covered.argmax(1), -1)


def count_named(case: Case, evidence: Evidence, findings: EvidenceFindings) -> tuple[int, int]:
    """Used cues that have a concept of their own, and used cues.

    Two thirds of such a concept's regions lie on the cue, and half of the regions on the cue are in it.
    """
    concepts = findings.concepts
    cues_of = [match_cues(evidence, concept, case.cue_masks.masks[concept.images]) for concept in concepts]
    named = 0
    for k, c in zip(*np.nonzero(case.used), strict=True):
        own = [cues for concept, cues in zip(concepts, cues_of, strict=True) if concept.label == k]
        hits = [(int((cues == c).sum()), len(cues)) for cues in own]
        total = sum(hit for hit, _ in hits)
        named += any(hit >= 2 / 3 * n and hit >= total / 2 and hit > 0 for hit, n in hits)
    return named, int(case.used.sum())
