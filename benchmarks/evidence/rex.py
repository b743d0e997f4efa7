"""ReX as a rival, for `rival_scores.py`: what the network says without the pixels that ReX holds responsible.

ReX splits the image into four boxes at a random place, shows the network all combinations of them with the rest
masked, and goes on splitting the smallest combination that keeps the prediction. A pixel is responsible by how few
boxes beside its own that takes, over several random splits. Source: Chockler, Kroening and Sun, "Explanations for
Occluded Images", ICCV 2021.

It is no dependency of this project. Its release 0.4.1 asks for numpy 1.26.4 but works with later ones:

    pip install --no-deps rex-xai==0.4.1 anytree lazy-loader scikit-image sqlalchemy tabulate toml
    pip install matplotlib onnxruntime pandas tqdm
"""

from __future__ import annotations

import importlib.util
import logging

import numpy as np
import torch
from cases import Case, Measured
from rivals import remove_strongest
from torch import Tensor

from salve_audit.evidence.regions import to_grid

NAME = "ReX region"
ITERATIONS = 20  # random splits of the whole image: its default, as all other settings are
BATCH = 14  # combinations of four boxes: what is asked at once, which changes no result


def is_installed() -> bool:
    return importlib.util.find_spec("rex_xai") is not None


def measure_rex(case: Case) -> Measured:
    """The strongest fifth by ReX's responsibility for each image's class removed.

    Images that are misclassified from the start never count, so they are not explained; passes are the others' mean.

    Raises:
        SystemExit: rex-xai is not installed.
    """
    if not is_installed():
        raise SystemExit(f"{NAME}: rex-xai is not installed; benchmarks/evidence/rex.py says how.")
    logging.getLogger("ReX").setLevel(logging.WARNING)
    heat, asked = torch.zeros_like(case.images[:, :1]), []
    for row in np.flatnonzero(case.right).tolist():
        heat[row, 0], n_asked = _explain(case, row)
        asked.append(n_asked)
    heat = to_grid(heat, (heat.shape[2], heat.shape[3]), 1.0)
    return remove_strongest(case, heat, sum(asked) / max(1, len(asked)) * len(heat))


def _explain(case: Case, row: int) -> tuple[Tensor, int]:
    """The responsibility (h, w) of one image's pixels, and how many images the network was asked about for it."""
    from rex_xai.explanation import rex  # type: ignore[import-not-found]
    from rex_xai.input.config import CausalArgs  # type: ignore[import-not-found]
    from rex_xai.input.input_data import Data  # type: ignore[import-not-found]
    from rex_xai.responsibility.prediction import default_prediction_function  # type: ignore[import-not-found]

    n_asked = 0

    def ask(images: Tensor) -> Tensor:
        nonlocal n_asked
        n_asked += len(images)
        return case.net.after(images, 0)

    predict = default_prediction_function(ask)
    settings = CausalArgs()
    settings.iters, settings.batch_size, settings.progress_bar = ITERATIONS, BATCH, False
    settings.seed = row * ITERATIONS  # other splits for other images
    image = case.images[row : row + 1]
    data = Data(None, image.shape, mode="RGB")
    data.data = image
    data.set_mask_value(settings.mask_value)
    data.target = rex.predict_target(data, settings, predict)
    maps, _ = rex.calculate_responsibility(data, settings, predict)
    responsibility = maps.get(data.target.classification)
    return torch.zeros(image.shape[2:]) if responsibility is None else torch.from_numpy(responsibility), n_asked
