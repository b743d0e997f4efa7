"""How well the image reliance of audits agrees with the truth of `make_worlds.py`'s networks.

    python benchmarks/evidence/score.py FOLDER [...] [--audit salve-report] [--json FILE]

FOLDER is a network's folder; in it --audit names the audit.json or its folder, as written by

    salve-audit FOLDER/network.pth FOLDER/data --out FOLDER/salve-report

Classes with cues are ranked: reliance against the largest share of the class's images that is lost when one cue is
left out ("of cues"), and against the same with the object counted as well ("of any"), since a network alone cannot say
which is which. Then each kind of cue with a true drop of .3 or more: whether the interval lies beyond chance, and
whether the finding has a kind that names the cue. On classes without a cue a global factor beyond chance is a false
alarm, and so is a region that is said to cost more than the whole object does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from agreement import auroc, spearman

from salve_audit.results import ImageReliance, load_audit

LEAST_DROP = 0.3  # of a cue that has to be found
ROUNDING = 1e-9


@dataclass(frozen=True)
class Judged:
    """A class of a network: what is true of it, and what the audit says.

    Attributes:
        cue: of its cues, the one that costs most; None: it has none.
        kind, families: of that cue.
        drop: share of the class's images that are lost without that cue.
        shown_drop: the same of the correct images that show it.
        object_drop: share lost without the object; None: it can't be left out.
    """

    unit: str
    name: str
    cue: str | None
    kind: str
    families: tuple[str, ...]
    drop: float
    shown_drop: float
    object_drop: float | None
    said: ImageReliance

    @property
    def any_drop(self) -> float:
        return max(self.drop, self.object_drop or 0.0)

    @property
    def beyond_chance(self) -> bool:
        return self.said.kind is not None and self.said.low > 0 and not self.said.is_by_chance

    @property
    def named(self) -> bool:
        return (
            self.beyond_chance and {"fixed place": "region"}.get(str(self.said.kind), self.said.kind) in self.families
        )

    @property
    def false_alarm(self) -> bool:
        if self.said.kind != "region":
            return self.beyond_chance
        return self.beyond_chance and self.object_drop is not None and self.said.low > self.object_drop


def judge_folder(folder: Path, audit: str) -> tuple[list[Judged], float | None]:
    """The classes that were measured, and the passes an image took."""
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    result = load_audit(folder / audit)
    said = {entry.name: entry.image_reliance for entry in result.classes}
    judged = [
        judge_class(truth["name"], name, entry, reliance)
        for name, entry in truth["classes"].items()
        if (reliance := said.get(name)) is not None
    ]
    info = result.evidence
    return judged, info.n_passes / info.n_images if info and info.n_images else None


def judge_class(unit: str, name: str, truth: dict[str, Any], said: ImageReliance) -> Judged:
    costs = {cue: entry["class_drop"] for cue, entry in truth["cues"].items()}
    cue = max(costs, key=costs.__getitem__) if costs else None
    entry = truth["cues"][cue] if cue else {"kind": "none", "families": (), "class_drop": 0.0, "drop": 0.0}
    removed = truth["object"]["class_drop"] if truth["object"] else None
    families = tuple(entry["families"])
    return Judged(unit, name, cue, entry["kind"], families, entry["class_drop"], entry["drop"] or 0.0, removed, said)


def score(judged: Sequence[Judged]) -> dict[str, float]:
    """The table's first part, over classes with a cue."""
    with_cue = [entry for entry in judged if entry.cue is not None]
    said = np.array([entry.said.reliance for entry in with_cue])
    low, high = (np.array([getattr(entry.said, end) for entry in with_cue]) for end in ("low", "high"))
    scores: dict[str, float] = {"classes": len(with_cue)}
    for words, field in (("of cues", "drop"), ("where shown", "shown_drop"), ("of any", "any_drop")):
        true = np.array([getattr(entry, field) for entry in with_cue])
        scores |= {
            f"Spearman {words}": spearman(said, true),
            f"AUROC > .5 {words}": auroc(said, true > 0.5),
            f"AUROC >= .3 {words}": auroc(said, true >= LEAST_DROP),
            f"error {words}": float(np.abs(said - true).mean()),
            f"in the interval {words}": float(((low <= true + ROUNDING) & (true <= high + ROUNDING)).mean()),
        }
    without = [entry for entry in judged if entry.cue is None]
    if without:
        scores["false alarms"] = float(np.mean([entry.false_alarm for entry in without]))
        scores["classes without a cue"] = len(without)
    return scores


def print_kinds(judged: Sequence[Judged]) -> None:
    lines = [("kind of cue", "n", f"true drop >= {LEAST_DROP}", "beyond chance", "rightly named", "error")]
    for kind in sorted({entry.kind for entry in judged if entry.cue}):
        mine = [entry for entry in judged if entry.kind == kind]
        large = [entry for entry in mine if entry.drop >= LEAST_DROP]
        shares = [str(sum(getattr(entry, field) for entry in large)) for field in ("beyond_chance", "named")]
        error = np.mean([abs(entry.said.reliance - entry.drop) for entry in mine])
        lines.append((kind, str(len(mine)), str(len(large)), *shares, f"{error:.2f}"))
    print_table(lines)


def print_classes(judged: Sequence[Judged]) -> None:
    lines = [("network", "class", "cue", "true drop", "without object", "said", "kind", "beyond chance")]
    for entry in sorted(judged, key=lambda entry: (entry.unit, -entry.drop)):
        removed = "–" if entry.object_drop is None else f"{entry.object_drop:.2f}"
        said = f"{entry.said.reliance:.2f} [{entry.said.low:.2f}, {entry.said.high:.2f}]"
        truth = (entry.unit, entry.name, entry.cue or "none", f"{entry.drop:.2f}", removed)
        lines.append((*truth, said, entry.said.kind or "none", "yes" if entry.beyond_chance else "no"))
    print_table(lines)


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Markdown; the first line is the header."""
    for number, cells in enumerate(lines):
        print(f"{'' if number else chr(10)}| {' | '.join(cells)} |")
        if number == 0:
            print("|---" * len(cells) + "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--audit", default="salve-report", help="audit.json, or its folder, in each FOLDER")
    parser.add_argument("--json", type=Path, help="write the scores there too")
    arguments = parser.parse_args()
    both = [judge_folder(folder, arguments.audit) for folder in arguments.folders]
    judged = [entry for entries, _ in both for entry in entries]
    if not judged:
        raise SystemExit("no class has image reliance in these audits")
    scores, passes = score(judged), [count for _, count in both if count is not None]
    if passes:
        scores["passes per image"] = float(np.mean(passes))
    print_table([("score", "value"), *((name, f"{value:.2f}") for name, value in scores.items())])
    print_kinds(judged)
    print_classes(judged)
    if arguments.json:
        arguments.json.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
