"""What image reliance costs, and what it is worth: score against passes, for fewer and more images of a class.

    python benchmarks/evidence/cost.py FOLDER [...] [--rounds 10 20 30 30+30+40] [--seconds N]

FOLDER is a network's folder of `make_worlds.py`. Only the measure is run, not the audit around it; a backward pass
counts as two. "30+30+40" examines 30 images of every class, 30 more where these do not decide, and another 40.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from score import Judged, judge_class, print_table, score

from salve_audit.evidence.stage import EvidenceInputs, EvidenceOutcome, measure_evidence
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.labels.matching import match_classes
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.results import ImageReliance

SHOWN = ("Spearman of cues", "AUROC >= .3 of cues", "error of cues", "false alarms")


@dataclass(frozen=True)
class Row:
    """A class as the stage fills it in."""

    index: int
    name: str
    image_reliance: ImageReliance | None = None


def measure(folder: Path, rounds: Sequence[int], seconds: float | None) -> tuple[list[Judged], EvidenceOutcome]:
    classifier = load_classifier(folder / "network.pth")
    images = load_images(folder / "data", seed=0, limit=None)
    images = match_classes(images, classifier.n_outputs, classifier.class_names, None)
    inputs = EvidenceInputs(
        classifier=classifier,
        images=images,
        paths=images.audit.paths,
        labels=np.array(images.audit.labels),
        head=classifier.reader.fold(classifier.model),
        classes=images.classes,
        fragility=np.full(len(images.classes), np.nan),
        device=torch.device("cpu"),
        workers=0,
        seed=0,
        seconds=seconds,
        with_images=False,
        rounds=rounds,
    )
    rows = [Row(index, name) for index, name in enumerate(images.classes)]
    outcome = measure_evidence(inputs, rows)  # type: ignore[arg-type]  # only what a row has is read
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    said = {row.name: row.image_reliance for row in outcome.classes}
    judged = [
        judge_class(truth["name"], name, entry, reliance)
        for name, entry in truth["classes"].items()
        if (reliance := said.get(name)) is not None
    ]
    return judged, outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--rounds", nargs="+", default=["10", "20", "30", "30+30+40"])
    parser.add_argument("--seconds", type=float, help="of each network, at most, as --evidence-budget")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = [("images of a class", "examined", "passes an image", "CPU seconds", *SHOWN)]
    for words in options.rounds:
        start, judged, n_images, n_passes = time.process_time(), [], 0, 0
        for folder in options.folders:
            own, outcome = measure(folder, tuple(map(int, words.split("+"))), options.seconds)
            judged += own
            n_images, n_passes = n_images + outcome.evidence.n_images, n_passes + outcome.evidence.n_passes
        scores = score(judged)
        shown = (f"{scores[name]:.2f}" if name in scores else "–" for name in SHOWN)
        seconds = time.process_time() - start
        lines.append((words, str(n_images), f"{n_passes / max(1, n_images):.1f}", f"{seconds:.0f}", *shown))
    print_table(lines)


if __name__ == "__main__":
    main()
