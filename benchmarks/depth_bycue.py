"""Cue by cue: what is true of a fine-tuned network, and what was found, beside the table of measures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from depth_cases import Case, Found
from depth_finetuned import Tuned
from depth_measures import probe_case

from salve_audit.reliance.depth.assess import ConceptFinding, assess_depth, mask_of, piece_effects
from salve_audit.reliance.depth.evidence import Evidence, SearchSettings, find_evidence
from salve_audit.reliance.depth.nulls import flip_at_random
from salve_audit.reliance.depth.whole import CHANGES, NULLS, Batches, find_usual, flip_without_whole, turn_changed


@dataclass(frozen=True)
class CueLine:
    """One cue of one class.

    Attributes:
        label: class index.
        cue: its name.
        share: of the class's measured pictures that show it.
        accuracy, bare: of the class, with its cues and without any.
        drop, joint: true drop without this cue, and without all cues of the class.
        used: the network rests on it, whether or not another stands in.
        concept: found: largest drop of a concept of the class.
        on_cue: of that concept's pieces in pictures with the cue, those that cover half of it.
        wholes: found: drop without the frame, and with the usual colour.
        whole_nulls: found: drop by as large a change that leaves them in.
        null: found: drop without a random place of the same shape.
        pieces: found: taken out one after another until half of the class is wrong; None: more than three.
    """

    label: int
    cue: str
    share: float
    accuracy: float
    bare: float
    drop: float
    joint: float
    used: bool
    concept: float
    on_cue: float | None
    wholes: dict[str, float]
    whole_nulls: dict[str, float]
    null: float
    pieces: int | None


def describe_cues(tuned: Tuned) -> list[dict[str, Any]]:
    """A line for every cue, as plain values."""
    case, settings = tuned.case, SearchSettings()
    probe, labels = probe_case(case), torch.from_numpy(case.labels)
    evidence = find_evidence(probe, case.images, labels, settings)
    findings = assess_depth(evidence, np.random.default_rng(0))
    nulls = flip_at_random(probe, case.images, evidence, settings.batch_size, np.random.default_rng(0))
    wholes = flip_without_whole(probe, case.images, evidence, settings.batch_size)
    batches, usual = Batches(case.images, evidence, settings.batch_size), find_usual(case.images)
    whole_nulls = {name: turn_changed(probe, batches, change, usual) for name, change in NULLS.items()}
    lines = []
    for k, c in zip(*np.nonzero(case.pictures.owned), strict=True):
        rows, best = case.labels == k, findings.classes[k].concept
        concept = None if best is None else findings.concepts[best]
        line = CueLine(
            label=int(k),
            cue=case.pictures.cues[c],
            share=float(case.pictures.shown[rows, c].mean()),
            accuracy=float(tuned.accuracy[k]),
            bare=float(tuned.bare[k]),
            drop=float(case.drop[k, c]),
            joint=float(tuned.accuracy[k] - tuned.bare[k]),
            used=bool(case.used[k, c]),
            concept=0.0 if concept is None else float(piece_effects(evidence, concept)[rows].mean()),
            on_cue=None if concept is None else _share_on(evidence, concept, case.pictures.masks[:, c]),
            wholes={name: float(turned[rows].mean()) for name, turned in wholes.items()},
            whole_nulls={name: float(turned[rows].mean()) for name, turned in whole_nulls.items()},
            null=nulls[int(k)].value,
            pieces=findings.classes[k].redundancy,
        )
        lines.append(asdict(line))
    return lines


def add_wholes(case: Case, found: Found) -> Found:
    """What was found, or the drop without the frame or with the usual colour where that is larger."""
    probe, usual = probe_case(case), find_usual(case.images)
    most = found.reliance
    for change in CHANGES.values():
        starts = range(0, len(case.labels), 100)
        with torch.no_grad():
            parts = [probe(change(case.images[i : i + 100], usual)).logits.argmax(1).numpy() for i in starts]
        turned = case.right & (np.concatenate(parts) != case.labels)
        most = np.maximum(most, [turned[case.labels == k].mean() for k in range(case.n_classes)])
    return replace(found, reliance=most, n_passes=found.n_passes + len(CHANGES) * len(case.labels))


def _share_on(evidence: Evidence, concept: ConceptFinding, masks: np.ndarray) -> float | None:
    """Of the concept's pieces in pictures with the cue (n, s, s), those that cover half of it; None: there is none."""
    cells = mask_of(evidence, concept)[:, None].float()
    covered = torch.nn.functional.interpolate(cells, masks.shape[1:])[:, 0].numpy() > 0
    here = masks[concept.pictures]
    shown = here.any((1, 2))
    if not shown.any():
        return None
    return float(((here & covered).sum((1, 2))[shown] >= 0.5 * here.sum((1, 2))[shown]).mean())


HEADER = (
    "class",
    "cue (share)",
    "true drop",
    "without all its cues",
    "largest concept",
    "its pieces on the cue",
    "pieces until half are wrong",
    "random place",
    "frame (null)",
    "overall colour (null)",
)


def print_cues(lines: list[dict[str, Any]], classes: list[str]) -> None:
    """As a table, the largest true drop first."""
    print(f"\n| {' | '.join(HEADER)} |\n{'|---' * len(HEADER)}|")
    for one in sorted(lines, key=lambda line: -line["drop"]):
        on_cue = "–" if one["on_cue"] is None else f"{one['on_cue']:.0%}"
        pieces = "> 3" if one["pieces"] is None else str(one["pieces"])
        found = [f"{value:.2f}" for value in (one["drop"], one["joint"], one["concept"])]
        wholes = [f"{value:.2f} ({one['whole_nulls'][name]:.2f})" for name, value in one["wholes"].items()]
        beside = [f"{one['null']:.2f}", *wholes]
        cells = [classes[one["label"]], f"{one['cue']} ({one['share']:.0%})", *found, on_cue, pieces, *beside]
        print(f"| {' | '.join(cells)} |")
