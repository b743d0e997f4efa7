"""A network, its images and what is true of it, in a folder that `salve-audit` reads.

DIR/network.pth            timm-style checkpoint
DIR/data/fit/CLASS/*.png   the autoencoder is fitted on these
DIR/data/val/CLASS/*.png   these are audited
DIR/masks/NAME/CLASS/*.png where a cue, or the object, is in an audit image (255 there)
DIR/truth.json             per class and cue, how many predictions are lost when it is left out of the image
DIR/images.json            the same per image
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scenes import OBJECT, Drawn, Scenes
from torch import nn

ALL_CUES = "all cues"
Predict = Callable[[np.ndarray], np.ndarray]  # (n, s, s, 3) uint8 -> (n,) predicted classes
CHUNK = 48


def write_json(content: object, path: Path) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def save_network(model: nn.Module, arch: str, arguments: Mapping[str, Any], path: Path) -> None:
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    torch.save({"arch": arch, "state_dict": state, "args": {"model": arch, **arguments}}, temporary)
    os.replace(temporary, path)


def write_images(scenes: Scenes, folder: Path, n_fit: int, n_audit: int) -> None:
    """All images of both splits, and the masks of the audit images."""
    for part, count in (("fit", n_fit), ("val", n_audit)):
        for label, plan in enumerate(scenes.plans):
            for index in range(count):
                drawn = scenes.draw(part, label, index)
                file = Path(plan.name) / f"{index:04}.png"
                _write(drawn.pixels, folder / "data" / part / file)
                for name, mask in drawn.masks.items() if part == "val" else ():
                    if not mask.all():
                        _write(mask.astype(np.uint8) * 255, folder / "masks" / name / file)


def _write(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def measure_truth(
    scenes: Scenes, predict: Predict, n_audit: int, parts: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is true of each class, and of each audit image; classes that are done are kept in `parts`."""
    parts.mkdir(parents=True, exist_ok=True)
    classes: dict[str, Any] = {}
    records: list[dict[str, Any]] = []
    for label, plan in enumerate(scenes.plans):
        path = parts / f"{plan.name}.json"
        if not path.exists():
            write_json(_ask_images(scenes, predict, label, n_audit), path)
        mine = json.loads(path.read_text(encoding="utf-8"))
        records += mine
        n_correct = sum(record["correct"] for record in mine)
        cues = {
            name: {"kind": scenes.bank[name].kind, "families": list(scenes.bank[name].families), "share": share}
            | _count(mine, name)
            for name, share in plan.cues.items()
        }
        classes[plan.name] = {
            "n": n_audit,
            "n_correct": n_correct,
            "cues": cues,
            ALL_CUES: _count(mine, ALL_CUES) if cues else None,
            OBJECT: _count(mine, OBJECT) if scenes.has_object else None,
        }
    return classes, records


def _ask_images(scenes: Scenes, predict: Predict, label: int, n: int) -> list[dict[str, Any]]:
    """Each image as it is, without each of its cues, without any, and without its object."""
    drawn = [scenes.draw("val", label, index) for index in range(n)]
    predicted = _predict_all(predict, drawn)
    records: list[dict[str, Any]] = [
        {
            "path": f"{scenes.plans[label].name}/{index:04}.png",
            "correct": bool(answer == label),
            "predicted": int(answer),
            "without": {},
        }
        for index, answer in enumerate(predicted)
    ]
    own = list(scenes.plans[label].cues)
    left_out: dict[str, Collection[str]] = {name: (name,) for name in own}
    left_out |= {ALL_CUES: own} if len(own) > 1 else {}
    left_out |= {OBJECT: (OBJECT,)} if scenes.has_object else {}
    for name, parts in left_out.items():
        rows = [i for i, image in enumerate(drawn) if name == OBJECT or any(part in image.masks for part in parts)]
        answers = _predict_all(predict, [scenes.draw("val", label, row, parts) for row in rows])
        for row, answer in zip(rows, answers, strict=True):
            records[row]["without"][name] = int(answer)
    for record in records:
        if len(own) == 1 and own[0] in record["without"]:
            record["without"][ALL_CUES] = record["without"][own[0]]
        record["lost"] = {
            name: bool(record["correct"] and answer != label) for name, answer in record["without"].items()
        }
    return records


def _predict_all(predict: Predict, drawn: list[Drawn]) -> np.ndarray:
    batches = [drawn[i : i + CHUNK] for i in range(0, len(drawn), CHUNK)]
    return np.concatenate([predict(np.stack([image.pixels for image in batch])) for batch in batches] or [np.empty(0)])


def _count(records: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Counts for what is left out under `name`.

    `drop` is the share of correct images that show it which are then misclassified; `class_drop` is the share of all
    images of the class that are correct and are then misclassified, which is what image reliance estimates.
    """
    shown = [record for record in records if name in record["lost"]]
    n_correct, n_lost = sum(record["correct"] for record in shown), sum(record["lost"][name] for record in shown)
    return {
        "n_shown": len(shown),
        "n_correct_shown": n_correct,
        "n_lost": n_lost,
        "drop": n_lost / n_correct if n_correct else None,
        "class_drop": n_lost / len(records),
    }
