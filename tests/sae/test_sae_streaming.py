"""Samples that stay in their file: each once an epoch, mixed, and the same stage as in memory."""

from __future__ import annotations

import logging
import mmap
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from salve_audit.errors import DataError
from salve_audit.machine import available_memory
from salve_audit.mapped_pages import release_pages
from salve_audit.sae import streaming
from salve_audit.sae.normalisation import Normalisation, identity_normalisation
from salve_audit.sae.problem import prepare_problem
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae
from salve_audit.sae.streaming import BLOCK_ROWS, Stream, fits_memory
from salve_audit.sae.training import Effort, Recipe, train, trapezoid

pytestmark = pytest.mark.slow


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def map_file(path, array: np.ndarray) -> np.ndarray:
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def make_stream(acts: np.ndarray, rows: np.ndarray | None = None, normalisation: Normalisation | None = None) -> Stream:
    rows = np.arange(len(acts)) if rows is None else rows
    normalisation = normalisation or identity_normalisation(acts.shape[1])
    return Stream(acts, rows, normalisation, torch.device("cpu"))


@pytest.mark.parametrize("buffer_rows", [20, 300, 10_000])
def test_every_epoch_has_each_row_once_in_an_order_of_the_seeds_own(buffer_rows, tmp_path, monkeypatch):
    acts = map_file(tmp_path / "acts.npy", np.arange(1000, dtype=np.float32)[:, None])
    rows = np.setdiff1d(np.arange(1000), [3, 500, 501])
    monkeypatch.setattr(streaming, "BUFFER_BYTES", 4 * buffer_rows)
    drawn = make_stream(acts, rows).draw(20, generators(0, 1))
    epochs = []
    for _ in range(2):
        batches: list[torch.Tensor] = []
        while sum(batch.shape[1] for batch in batches) < len(rows):
            batches.append(next(drawn))
        assert all(batch.shape == (2, 20, 1) for batch in batches[:-1])
        epochs.append(torch.cat(batches, dim=1)[..., 0])
    for epoch in epochs:
        assert epoch.sort(dim=1).values.tolist() == [rows.tolist()] * 2
        assert epoch[0].tolist() != epoch[1].tolist()
    assert epochs[0][0].tolist() != epochs[1][0].tolist()


def test_files_sorted_by_class_are_mixed(monkeypatch, tmp_path):
    """Every batch sees many classes although neighbours in the file are of one."""
    labels = np.repeat(np.arange(50, dtype=np.float32), 4 * BLOCK_ROWS)
    acts = map_file(tmp_path / "acts.npy", labels[:, None])
    monkeypatch.setattr(streaming, "BUFFER_BYTES", 4 * 32 * BLOCK_ROWS)  # 32 of 200 blocks
    drawn = make_stream(acts).draw(128, generators(0))
    assert min(len(next(drawn).unique()) for _ in range(50)) >= 10


def test_a_step_reads_what_it_needs(monkeypatch):
    acts = np.random.default_rng(0).normal(size=(5000, 4)).astype(np.float32)
    stream, read = make_stream(acts), []
    monkeypatch.setattr(streaming, "BUFFER_BYTES", 4 * 4 * 512)
    monkeypatch.setattr(
        streaming, "normalise", lambda acts, rows, *_: read.append(len(rows)) or torch.zeros(len(rows), 4)
    )
    recipe = Recipe(9, 64, 0.01, (0.9, 0.9), trapezoid, most_steps=20)
    start = {"decoder_bias": torch.zeros(1, 4)}
    train(start, stream, lambda p, x: (x - p["decoder_bias"][:, None]).square().mean((1, 2)), recipe, generators(0))
    assert sum(read) <= 21 * 64 + 512


def test_a_sample_is_random_blocks_without_twins(monkeypatch):
    monkeypatch.setattr(streaming, "SAMPLE_BYTES", 4 * 1000)
    stream = make_stream(np.zeros((100_000, 1), np.float32))
    chosen = stream.sample(generators(1)[0])
    assert len(np.unique(chosen)) == 1000
    assert len(np.unique(chosen // BLOCK_ROWS)) in (16, 17)
    assert not np.array_equal(chosen, stream.sample(generators(2)[0]))


@pytest.mark.parametrize("variant", ["linear-l1", "topk", "jumprelu"])
def test_the_stage_is_as_good_from_a_file(variant, world, quick, tmp_path, caplog):
    acts = map_file(tmp_path / "acts.npy", world.acts)
    sparsity = 3 if variant == "topk" else 0.3
    settings = replace(quick[variant], sparsity=sparsity)
    with caplog.at_level(logging.INFO, "salve_audit.sae"):
        streamed = train_sae(acts, world.labels, world.head, replace(settings, memory_limit=0))
    assert "samples of 24 coordinates" in caplog.text
    assert "are read from their file block by block" in caplog.text
    plain = train_sae(world.acts, world.labels, world.head, settings)
    assert streamed.info.r2 == pytest.approx(plain.info.r2, abs=0.02)
    assert streamed.info.l0 == pytest.approx(plain.info.l0, rel=0.25)
    assert streamed.sae.hyperparameters["n_train"] == plain.sae.hyperparameters["n_train"]
    again = train_sae(acts, world.labels, world.head, replace(settings, memory_limit=0))
    assert again.sae.dictionary.tobytes() == streamed.sae.dictionary.tobytes()


def test_seeds_train_together_as_apart_from_a_file(world, quick):
    problem = prepare_problem(world.acts, world.labels, world.head, replace(quick["topk"], epochs=2, memory_limit=0))
    objective = problem.variant.objective(3, 16)

    def train_seeds(*seeds):
        start = problem.variant.initialise(problem.train_acts, 16, generators(*seeds))
        start = {name: value.double() for name, value in start.items()}
        drawn = generators(*seeds)
        return train(start, problem.stream, lambda own, acts: objective(own, acts.double()), problem.recipe, drawn)

    together, apart = train_seeds(3, 4, 5), train_seeds(5)
    for name, value in together.items():
        torch.testing.assert_close(value[2:], apart[name], rtol=0, atol=1e-6)  # as in test_sae_contract
    assert not torch.allclose(together["dictionary"][0], together["dictionary"][1])


def test_known_concepts_are_solved_on_a_sample(world):
    settings = SaeSettings(variant="supervised", n_latents=16, n_seeds=1, sparsity=3, memory_limit=0)
    assert train_sae(world.acts, world.labels, world.head, settings).sae.variant == "supervised"


def test_bad_values_in_a_file_are_found(world, tmp_path):
    broken = world.acts.copy()
    broken[77, 3] = np.nan
    with pytest.raises(DataError, match="1 of 600 samples hold NaN"):
        train_sae(map_file(tmp_path / "acts.npy", broken), world.labels, world.head, SaeSettings(memory_limit=0))


def test_large_sets_stop_within_an_epoch():
    effort = Effort(270, 512, 6e-3, share=0.3, least=20)
    for n in (300, 8500, 1_105_000):
        assert effort.recipe(n, work=1.0).count_steps(n) == 270


def test_memory_decides(monkeypatch):
    assert fits_memory(10, 10, 400)
    assert not fits_memory(10, 10, 399)
    monkeypatch.setattr(streaming, "available_memory", lambda: 4000)
    assert fits_memory(25, 10, None)
    assert not fits_memory(26, 10, None)
    assert available_memory() > 2**20


def test_pages_are_given_back_but_changes_are_not_lost(tmp_path):
    np.save(tmp_path / "acts.npy", np.ones((1000, 100), np.float32))
    changed = np.load(tmp_path / "acts.npy", mmap_mode="c")
    changed[5] = 7
    release_pages(changed[5:6])
    assert (changed[5] == 7).all()
    mapped = np.load(tmp_path / "acts.npy", mmap_mode="r")
    release_pages(mapped[10:20])
    assert (mapped == 1).all()
    release_pages(np.ones(3))


MEASURE = """
import resource, sys, numpy as np
from salve_audit.sae.normalisation import fit_normalisation, refuse_non_finite
acts = np.load(sys.argv[1], mmap_mode="r")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refuse_non_finite(acts)
fit_normalisation(acts, np.arange(len(acts)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="pages cannot be given back here")
def test_a_pass_over_a_file_does_not_fill_memory(tmp_path):
    file = np.lib.format.open_memmap(tmp_path / "acts.npy", "w+", np.float32, (200_000, 256))  # 205 MB
    file[::2] = 1
    del file
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "acts.npy")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 90_000  # kB; chunks of 8,192 rows in float64 are 17 MB each
