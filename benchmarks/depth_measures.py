"""This project's measure in its variants, for `depth.py`."""

from __future__ import annotations

import numpy as np
import torch
from depth_cases import Case, Found, to_maps
from torch import Tensor

from salve_audit.reliance.depth.assess import DepthFindings, assess_depth, mask_of
from salve_audit.reliance.depth.evidence import Evidence, SearchSettings, find_evidence
from salve_audit.reliance.depth.network import Probe, Seen
from salve_audit.reliance.depth.squares import judge_with_squares
from salve_audit.reliance.depth.whole import flip_without_whole

TRAIT_STAGE = 2  # what is told apart by its output: layer1, the first block, the first stage


def probe_case(case: Case, stage: int = TRAIT_STAGE) -> Probe:
    def probe(images: Tensor) -> Seen:
        inner = case.net.before(images, stage)
        return Seen(case.net.after(inner, stage), to_maps(inner).detach())

    return probe


def measure_evidence(case: Case, settings: SearchSettings, stage: int = TRAIT_STAGE) -> Found:
    """Pieces of evidence, grouped into concepts."""
    labels = torch.from_numpy(case.labels)
    evidence = find_evidence(probe_case(case, stage), case.images, labels, settings)
    findings = assess_depth(evidence, np.random.default_rng(0))
    reliance = np.array([one.reliance.value for one in findings.classes])
    return Found(reliance, _most_fragile(evidence), evidence.n_passes, count_named(case, evidence, findings))


def measure_squares(case: Case, settings: SearchSettings) -> Found:
    """Pieces judged with squares around their middle as well."""
    probe = probe_case(case)
    evidence = find_evidence(probe, case.images, torch.from_numpy(case.labels), settings)
    evidence = judge_with_squares(probe, case.images, evidence, settings.batch_size)
    findings = assess_depth(evidence, np.random.default_rng(0))
    reliance = np.array([one.reliance.value for one in findings.classes])
    return Found(reliance, _most_fragile(evidence), evidence.n_passes, count_named(case, evidence, findings))


def measure_pieces(case: Case, settings: SearchSettings) -> Found:
    """The same without concepts: a picture counts where any one piece changes its prediction."""
    evidence = find_evidence(probe_case(case), case.images, torch.from_numpy(case.labels), settings)
    turned = evidence.flips.numpy().any(1)
    reliance = np.array([turned[case.labels == k].mean() for k in range(case.n_classes)])
    return Found(reliance, _most_fragile(evidence), evidence.n_passes)


def measure_with_wholes(case: Case, settings: SearchSettings) -> Found:
    """Pieces, and the frame and the overall colour beside them: the largest drop of any."""
    labels, probe = torch.from_numpy(case.labels), probe_case(case)
    evidence = find_evidence(probe, case.images, labels, settings)
    findings = assess_depth(evidence, np.random.default_rng(0))
    turned = flip_without_whole(probe, case.images, evidence, settings.batch_size)
    reliance = np.array([one.reliance.value for one in findings.classes])
    for one in turned.values():
        reliance = np.maximum(reliance, [one[case.labels == k].mean() for k in range(case.n_classes)])
    n_passes = evidence.n_passes + len(turned) * len(labels)
    return Found(reliance, _most_fragile(evidence), n_passes, count_named(case, evidence, findings))


def _most_fragile(evidence: Evidence) -> np.ndarray:
    """Falling margin of the piece that hurts most."""
    return np.asarray(-np.nan_to_num(evidence.alone.numpy(), nan=np.inf).min(1).clip(-1e9, 1e9))


def count_named(case: Case, evidence: Evidence, findings: DepthFindings) -> tuple[int, int]:
    """Used cues with a concept of their own: two thirds of its pieces lie on the cue, half of the cue's are in it."""
    masks = case.pictures.masks
    on_cue: list[tuple[int, np.ndarray]] = []  # class of a concept, cue of each of its pieces (-1: none)
    for concept in findings.concepts:
        cells = mask_of(evidence, concept)
        pixels = torch.nn.functional.interpolate(cells[:, None].float(), masks.shape[2:])[:, 0] > 0
        here = masks[concept.pictures]  # (q, c, s, s)
        covered = (here & pixels.numpy()[:, None]).sum((2, 3)) / np.maximum(here.sum((2, 3)), 1)
        on_cue.append((concept.label, np.where(covered.max(1) >= 0.5, covered.argmax(1), -1)))
    named = 0
    for k, c in zip(*np.nonzero(case.used), strict=True):
        hits = [(int((cues == c).sum()), len(cues)) for label, cues in on_cue if label == k]
        total = sum(hit for hit, _ in hits)
        named += any(hit >= 2 / 3 * n and hit >= total / 2 and hit > 0 for hit, n in hits)
    return named, int(case.used.sum())
