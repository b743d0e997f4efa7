"""The table of `ranking.py` for rival measures on the networks of `make_worlds.py`.

    python benchmarks/evidence/rival_scores.py FOLDER [...] [--n 20] [--measures NAME ...]

Scores are kept in the folder around FOLDER, so that an interrupted run goes on. Audits are scored by `score.py`.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rex
import rivals
import timm
import torch
from cases import Case, Measured, StagedNetwork
from measures import measure_evidence
from networks import run_logits
from PIL import Image
from ranking import MEASURES, keep_score, print_tables, score_path
from torch import Tensor, nn
from worlds import Images

STAGED = {"resnet": "resnet", "vit": "vit", "convnext": "convnext", "tf_efficientnet": "depthwise"}
KEPT = ("Grad-CAM region", "integrated gradients region", "random places", "α̂ at the head", "margin", "accuracy")
RIVALS: Mapping[str, Callable[[Case], Measured]] = {
    **{name: MEASURES[name] for name in KEPT},
    "squares of a quarter": lambda case: rivals.measure_occlusion(case, (case.images.shape[-1] // 4,), "around"),
    "squares of three eighths": rivals.measure_scaled_occlusion,
    "regions": measure_evidence,
    rex.NAME: rex.measure_rex,
}
USUAL = [name for name in RIVALS if name != rex.NAME or rex.is_installed()]


def load_folder(folder: Path, n_per_class: int) -> Case:
    """A network with the first images of each class; the truth is over all of them."""
    content = torch.load(folder / "network.pth", map_location="cpu", weights_only=True)
    settings, truth = content["args"], json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    model: nn.Module = timm.create_model(
        content["arch"], num_classes=settings["num_classes"], **settings["model_kwargs"]
    ).eval()
    model.load_state_dict(content["state_dict"])
    mean, std = torch.tensor(settings["mean"]), torch.tensor(settings["std"])

    def prepare(pixels: np.ndarray) -> Tensor:
        return ((torch.from_numpy(pixels).float() / 255 - mean) / std).permute(0, 3, 1, 2)

    names: list[str] = settings["class_names"]
    classes = [truth["classes"][name] for name in names]
    records = _first_records(folder, names, n_per_class)
    pixels = np.stack([np.asarray(Image.open(folder / "data" / "val" / record["path"])) for record in records])
    labels = np.array([names.index(record["path"].split("/")[0]) for record in records])
    cues = sorted({cue for entry in classes for cue in entry["cues"]})
    drop = np.array([[entry["cues"].get(cue, {}).get("class_drop", np.nan) for cue in cues] for entry in classes])
    shown = np.array([[cue in record["lost"] for cue in cues] for record in records])
    flips = np.array([[record["lost"].get(cue, False) for cue in cues] for record in records])
    masks = np.stack([_read_masks(folder, record, cues, pixels.shape[1:3]) for record in records])
    none = np.empty(0, int)
    images = Images(pixels, labels, tuple(cues), ~np.isnan(drop), shown, masks, pixels[:0], none, none)
    family = next(staged for prefix, staged in STAGED.items() if content["arch"].startswith(prefix))
    logits = run_logits(model, pixels, prepare)
    net, used = StagedNetwork(model, family), np.nan_to_num(drop) >= 0.1
    return Case(truth["name"], net, prepare(pixels).contiguous(), labels, logits, images, drop, flips, used)


def _first_records(folder: Path, names: list[str], n: int) -> list[dict[str, Any]]:
    records = json.loads((folder / "images.json").read_text(encoding="utf-8"))
    return [record for name in names for record in [r for r in records if r["path"].split("/")[0] == name][:n]]


def _read_masks(folder: Path, record: dict[str, Any], cues: list[str], shape: tuple[int, ...]) -> np.ndarray:
    """(c, s, s); a cue without a file is everywhere in the images that show it."""
    masks = np.zeros((len(cues), *shape), bool)
    for mask, cue in zip(masks, cues, strict=True):
        if cue in record["lost"]:
            path = folder / "masks" / cue / record["path"]
            mask[:] = np.asarray(Image.open(path)) > 0 if path.exists() else True
    return masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--n", type=int, default=20, help="images per class that are measured")
    parser.add_argument("--measures", nargs="+", default=USUAL, choices=list(RIVALS))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    units = []
    for folder in arguments.folders:
        case = load_folder(folder, arguments.n)
        units.append(case.unit)
        for name in arguments.measures:
            keep_score(score_path(folder.parent, case.unit, name, arguments.n), case, RIVALS[name])
    print_tables(arguments.folders[0].parent, units, arguments.measures, arguments.n)


if __name__ == "__main__":
    main()
