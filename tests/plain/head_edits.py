"""Edits of a head by plain numpy, torch and timm, and what an edited file must hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.numpy import load_file as load_numpy

KWARGS = {"channels": (8, 8, 16, 32), "stem_width": 8}
State = dict[str, torch.Tensor]


def suppressed(audit: Path, weight: torch.Tensor, alpha_hat: float, feature: int | None = None) -> torch.Tensor:
    """SALVE's own formula on the saved dictionary; by default with the dominant feature of red."""
    if feature is None:
        feature = dominant(audit, "red")
    coupling = np.abs(load_numpy(audit / "sae.safetensors")["dictionary"][feature].astype(np.float64))
    scale = np.maximum(0, 1 - alpha_hat * coupling / coupling.max())
    return torch.from_numpy(weight.double().numpy() * scale)


def dominant(audit: Path, name: str) -> int:
    records = json.loads((audit / "audit.json").read_text())["classes"]
    return next(class_record["dominant_feature"] for class_record in records if class_record["name"] == name)


def prepared(data: Path) -> tuple[torch.Tensor, np.ndarray]:
    """The audit's images as the network takes them, and their labels, without this tool."""
    arrays, labels = [], []
    for label, folder in enumerate(sorted((data / "val").iterdir())):
        for file in sorted(folder.iterdir()):
            arrays.append(np.asarray(Image.open(file), dtype=np.float32) / 255)
            labels.append(label)
    return (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) - 0.5) / 0.5, np.array(labels)


def plain_logits(state: State, images: torch.Tensor) -> torch.Tensor:
    """Logits of the network that plain timm makes of a state."""
    model = timm.create_model("resnet10t", num_classes=3, **KWARGS)
    model.load_state_dict(state, strict=True)
    with torch.inference_mode():
        return model.float().eval()(images)


def assert_only_the_head_changed(before: State, after: State, head: tuple[str, ...] = ("fc.weight",)) -> None:
    assert list(after) == list(before)
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        assert after[name].shape == value.shape
        same = torch.equal(after[name].view(torch.uint8), value.view(torch.uint8)) if value.ndim else True
        assert same == (name not in head), name


def assert_refused(done: Any, out: Path, *words: str) -> None:
    assert done.code == 2, done.out
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    for word in words:
        assert word in done.err
    assert not os.path.lexists(out)
    leftovers = [path for path in out.parent.iterdir() if path.name.startswith(".salve")] if out.parent.exists() else []
    assert leftovers == []
