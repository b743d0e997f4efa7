"""sae.safetensors: deterministic, whole or not at all, and clear about what is wrong with it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from salve_audit import __version__
from salve_audit.errors import ResultError
from salve_audit.sae.files import read_sae, serialise_sae
from salve_audit.sae.models import TENSORS, TrainedSae


@pytest.fixture
def sae() -> TrainedSae:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5, 3))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    weight, bias, offset = (rng.normal(size=shape).astype(np.float32) for shape in ((5, 3), 5, 3))
    return TrainedSae("linear-l1", rows, weight, bias, offset, {"sparsity": 0.25, "seed": 7})


def test_bytes_are_the_same_every_time(sae):
    hashes = {f"hash_{i}": str(i) for i in range(9)}
    assert len({serialise_sae(sae, hashes) for _ in range(20)}) == 1


def test_any_reader_of_the_format_reads_it(sae, tmp_path: Path):
    (tmp_path / "sae.safetensors").write_bytes(serialise_sae(sae, {"model_sha256": "ab", "data_sha256": "cd"}))
    with safe_open(tmp_path / "sae.safetensors", framework="numpy") as opened:
        assert sorted(opened.keys()) == sorted(TENSORS)
        for name in TENSORS:
            np.testing.assert_array_equal(opened.get_tensor(name), getattr(sae, name))
        assert opened.metadata() == {
            "data_sha256": "cd",
            "format": "salve-audit sae 1",
            "hyperparameters": '{"seed": 7, "sparsity": 0.25}',
            "model_sha256": "ab",
            "tool_version": __version__,
            "variant": "linear-l1",
        }
    (length,) = struct.unpack_from("<Q", (tmp_path / "sae.safetensors").read_bytes())
    assert length % 8 == 0


def _arrays(sae: TrainedSae, **changed) -> dict[str, np.ndarray]:
    arrays = {name: getattr(sae, name) for name in TENSORS} | changed
    return {name: value for name, value in arrays.items() if value is not None}


METADATA = {"format": "salve-audit sae 1", "variant": "linear-l1", "hyperparameters": "{}"}


@pytest.mark.parametrize(
    ("changed", "metadata", "message"),
    [
        ({}, {"format": "other"}, "not an autoencoder of salve-audit"),
        ({}, {"variant": "topq"}, "unknown variant 'topq'"),
        ({}, {"hyperparameters": "{"}, "its hyperparameters are no JSON"),
        ({"encoder_bias": None}, {}, "tensor 'encoder_bias' is missing"),
        ({"encoder_bias": np.zeros(4, np.float32)}, {}, r"encoder_bias has shape \(4,\), expected \(5,\)"),
        ({"decoder_bias": np.zeros(3)}, {}, "decoder_bias is float64, expected float32"),
        ({"decoder_bias": np.full(3, np.nan, np.float32)}, {}, "decoder_bias holds NaN"),
        ({"dictionary": np.ones((5, 3), np.float32)}, {}, "dictionary rows have norms from 1.732 to 1.732, expected 1"),
        ({"dictionary": np.ones(5, np.float32)}, {}, r"dictionary has shape \(5,\), expected \(m, d\)"),
    ],
)
def test_a_file_that_does_not_fit_says_why(sae, tmp_path: Path, changed, metadata, message):
    path = tmp_path / "odd.safetensors"
    save_file(_arrays(sae, **changed), path, METADATA | metadata)
    with pytest.raises(ResultError, match=message) as caught:
        read_sae(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_a_truncated_file_is_refused(sae, tmp_path: Path, cut):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(serialise_sae(sae)[:cut])
    with pytest.raises(ResultError, match="not a safetensors file"):
        read_sae(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ResultError, match="no such file"):
            read_sae(path)


def test_foreign_safetensors_are_refused(tmp_path: Path):
    save_file({"weight": np.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ResultError, match="not an autoencoder of salve-audit"):
        read_sae(tmp_path / "model.safetensors")


def test_hyperparameters_come_back_as_they_were(sae, tmp_path: Path):
    (tmp_path / "sae.safetensors").write_bytes(serialise_sae(sae))
    assert read_sae(tmp_path / "sae.safetensors").hyperparameters == sae.hyperparameters
    with safe_open(tmp_path / "sae.safetensors", framework="numpy") as opened:
        assert json.loads(opened.metadata()["hyperparameters"]) == sae.hyperparameters
