from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from salve_audit.demo.files import image_path
from salve_audit.demo.training import NetworkRecipe, normalise_pixels, predictor, save_checkpoint, train_network
from salve_audit.errors import OutputError
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.transform import build_transform

pytestmark = pytest.mark.slow

TINY = NetworkRecipe(epochs=1, model_kwargs={"channels": [8, 8, 16, 16], "stem_width": 8})


def test_learns(trained: Any) -> None:
    val = trained.splits["val"]
    accuracy = (predictor(trained.model)(val.pixels) == val.labels).mean()
    assert accuracy > 0.8  # chance is 0.125; the demo itself trains longer and reaches more than 0.95


def test_the_same_seed_gives_the_same_weights_and_touches_nothing(trained: Any) -> None:
    pixels, labels = trained.splits["val"].pixels, trained.splits["val"].labels
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    first, second, other = (train_network(pixels, labels, TINY, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_prediction_does_not_depend_on_the_batch(trained: Any) -> None:
    pixels = trained.splits["val"].pixels[:50]
    assert not trained.model.training
    np.testing.assert_array_equal(predictor(trained.model, 7)(pixels), predictor(trained.model)(pixels))


def test_the_checkpoint_is_read_like_any_users(trained: Any) -> None:
    """Loaded by the product and fed from the files, it gives the logits of the network that was trained."""
    classifier = load_classifier(trained.checkpoint)
    assert classifier.architecture == "resnet10t"
    assert classifier.class_names == trained.world.class_names
    assert classifier.transform.source.startswith("checkpoint")
    assert 64 <= classifier.head.in_features <= 256
    transform, val = build_transform(classifier.transform), trained.splits["val"]
    files = [trained.folder / image_path(trained.world, key) for key in val.keys[::5]]
    batch = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    inputs = normalise_pixels(torch.from_numpy(val.pixels[::5]))
    torch.testing.assert_close(batch, inputs)
    with torch.inference_mode():
        torch.testing.assert_close(classifier.model(batch), trained.model(inputs), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_that_cannot_be_written(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"missing/model\.pt"):
        save_checkpoint(trained.model, NetworkRecipe(), tmp_path / "missing" / "model.pt", 48, ("a", "b"))
    assert list(tmp_path.iterdir()) == []
