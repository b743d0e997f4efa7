"""A whole audit on a GPU gives the CPU's numbers; run it with ``pytest -m gpu -s``, which prints the time by stage."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from salve_audit import AuditConfig, run_audit
from salve_audit.audit.progress import Reporter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU"),
]
# Activations: sums of some hundred float32 products in another order. Beyond them: an autoencoder trained on such
# activations takes another path in its last digits, which thresholds follow.
ACTS = {"rtol": 2e-4, "atol": 2e-5}
R2, ACCURACY, MEDIAN = 0.02, 0.02, 0.1


@pytest.fixture(scope="module")
def audits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Result folders of the same audit on both devices."""
    folder = tmp_path_factory.mktemp("gpu")
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    model, data = importlib.import_module("kills").make_inputs(folder)
    for device in ("cpu", "cuda"):
        reporter = Reporter()
        config = AuditConfig(
            *(model, data),
            arch="test_resnet",
            device=device,
            precision="fp32",
            out=folder / device,
            format=("json",),
            sae="linear-l1",
            n_latents=16,
            sae_seeds=3,
            sae_budget=1e5,
            evidence_budget=10**5,
            keep_activations=True,
            use_cache=False,
        )
        run_audit(config, reporter=reporter)
        seconds = ", ".join(f"{time.name} {time.seconds:.1f} s" for time in reporter.times)
        print(f"\n{device}: {seconds}")
    return {device: folder / device for device in ("cpu", "cuda")}


def test_activations_are_those_of_the_cpu(audits: dict[str, Path]) -> None:
    cpu, cuda = (load_file(audits[device] / "activations.safetensors") for device in ("cpu", "cuda"))
    for name in cpu:
        if name.endswith("acts"):
            np.testing.assert_allclose(cuda[name], cpu[name], **ACTS)
        else:
            assert np.array_equal(cuda[name], cpu[name])


def test_numbers_are_those_of_the_cpu(audits: dict[str, Path]) -> None:
    cpu, cuda = (json.loads((audits[device] / "audit.json").read_text()) for device in ("cpu", "cuda"))
    assert cuda["provenance"]["device"].startswith("cuda")
    assert cuda["sae"]["r2"] == pytest.approx(cpu["sae"]["r2"], abs=R2)
    for here, there in zip(cuda["classes"], cpu["classes"], strict=True):
        assert (here["name"], here["n"]) == (there["name"], there["n"])
        assert here["accuracy"] == pytest.approx(there["accuracy"], abs=ACCURACY)
        for strength in ("analytical", "numerical", "empirical"):
            if there["alpha_hat"][strength] is not None and here["dominant_feature"] == there["dominant_feature"]:
                assert here["alpha_hat"][strength] == pytest.approx(there["alpha_hat"][strength], rel=MEDIAN)
        reliance = (here["image_reliance"], there["image_reliance"])
        assert (reliance[0] is None) == (reliance[1] is None)


def test_samples_are_those_of_the_cpu(audits: dict[str, Path]) -> None:
    cpu, cuda = (pd.read_parquet(audits[device] / "samples.parquet") for device in ("cpu", "cuda"))
    assert cuda["path"].tolist() == cpu["path"].tolist()
    assert (cuda["predicted"] == cpu["predicted"]).mean() >= 1 - ACCURACY
    np.testing.assert_allclose(cuda["margin"], cpu["margin"], rtol=1e-3, atol=1e-3)
