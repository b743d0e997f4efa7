"""``salve-audit MODEL DATA`` on checkpoints that were trained elsewhere, with real images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from salve_audit import load_audit

RESNET20 = Path(__file__).resolve().parents[1] / "models" / "resnet20.py"
N_PER_CLASS = 24
QUICK = ["--sae", "linear-l1", "--sae-seeds", "1", "--deep-edits", "off", "--evidence", "off"]

pytestmark = [pytest.mark.slow, pytest.mark.shared_data]


@pytest.mark.parametrize(
    ("checkpoint", "arguments", "d", "least_accuracy"),
    [
        ("resnet18_cifar10_64.pt", QUICK, 512, 0.75),
        ("vit_cifar10_32.pt", QUICK, 192, 0.55),
        ("resnet20-12fca82f.th", ["--arch", f"{RESNET20}:resnet20"], 64, 0.70),  # the default line
    ],
)
def test_real_checkpoints_on_real_images(
    salve: Callable,
    shared_data: Path,
    cifar10: Path,
    tmp_path: Path,
    checkpoint: str,
    arguments: list,
    d: int,
    least_accuracy: float,
) -> None:
    out = tmp_path / "out"
    options = (*arguments, "--limit", N_PER_CLASS, "--out", out, "--no-cache", "--format", "html,json")
    done = salve(shared_data / checkpoint, cifar10, *options)
    assert done.code == 0, done.err
    result = load_audit(out)
    assert (result.model.d, result.model.n_classes, result.model.head_error < 1e-4) == (d, 10, True)
    assert result.data.n_audit == 10 * N_PER_CLASS
    accuracy = sum(class_record.n_correct for class_record in result.classes) / (10 * N_PER_CLASS)
    assert accuracy > least_accuracy
    assert result.provenance.trusted_code == ("--arch" in arguments)
    driven = sum(min(class_record.curve.accuracy) <= 0.2 for class_record in result.classes)
    assert driven >= 5, "suppressing the dominant feature takes most classes down on these models"
