"""Compares renamed networks with transformers itself: ``python scripts/check_huggingface_names.py``.

Needs ``pip install transformers``, which the tool does not. For each family a classifier with random weights is saved
by the library, as a folder and as its state_dict in memory, loaded by `load_classifier`, and run on the same images.
Prints the largest difference of the logits relative to the largest logit; the exit code is 1 where one is above 1e-4.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from salve_audit.inputs.model.checkpoint import load_classifier

TOLERANCE = 1e-4
TINY = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}
BASIC = {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}
ATTO = {"hidden_sizes": [40, 80, 160, 320], "depths": [2, 2, 6, 2]}
FAMILIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ViTForImageClassification", "ViTConfig", TINY),
    ("ViTForImageClassification", "ViTConfig", {**TINY, "image_size": 96}),
    ("DeiTForImageClassification", "DeiTConfig", TINY),
    ("DeiTForImageClassificationWithTeacher", "DeiTConfig", TINY),
    ("ResNetForImageClassification", "ResNetConfig", {}),
    ("ResNetForImageClassification", "ResNetConfig", BASIC),
    ("SwinForImageClassification", "SwinConfig", {}),
    ("ConvNextForImageClassification", "ConvNextConfig", {}),
    ("ConvNextV2ForImageClassification", "ConvNextV2Config", ATTO),
)


def draw(model: torch.nn.Module) -> None:
    """Random values also where the library starts with zeros and ones, which would hide a swap."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)


def main() -> int:
    """Prints a line per family and form; the exit code."""
    import transformers

    torch.manual_seed(0)
    worst = 0.0
    for class_name, config_name, settings in FAMILIES:
        model = getattr(transformers, class_name)(getattr(transformers, config_name)(num_labels=7, **settings)).eval()
        draw(model)
        with tempfile.TemporaryDirectory() as place:
            model.save_pretrained(place)
            torch.save(model.state_dict(), Path(place) / "memory.pt")
            for path in (Path(place), Path(place) / "memory.pt"):
                classifier = load_classifier(path)
                images = torch.randn(2, *classifier.transform.input_size)
                with torch.inference_mode():
                    expected, logits = model(images).logits, classifier.model(images)
                error = float((logits - expected).abs().max() / expected.abs().max())
                worst = max(worst, error)
                print(f"{class_name}: {classifier.format}, {classifier.architecture}: {error:.1e}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
