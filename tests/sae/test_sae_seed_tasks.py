"""Seeds that are trained as tasks, sent there and back, are those that are trained together, up to rounding."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from salve_audit.sae.stage import train_sae

# What a step's rounding may have grown to by the end of a training, in which latents that hardly fire go astray.
SAME_COSINE, SAME_R2, SAME_L0 = 0.999, 5e-3, 0.05


class Elsewhere:
    """Runs tasks; everything goes through pickles, as to another process."""

    def __init__(self) -> None:
        self.n_done = 0

    def __call__(self, work, shared, loads, device="cpu"):
        tasks = [pickle.dumps((work, shared, load())) for load in loads]
        self.n_done += len(tasks)
        return [pickle.loads(pickle.dumps(task(*given))) for task, *given in map(pickle.loads, tasks)]


@pytest.mark.parametrize("variant", ["linear-l1", "paper"])
def test_seeds_as_tasks_are_those_trained_together(variant, quick, world) -> None:
    settings, elsewhere = dataclasses.replace(quick[variant], n_seeds=3), Elsewhere()
    together = train_sae(world.acts, world.labels, world.head, settings)
    apart = train_sae(world.acts, world.labels, world.head, dataclasses.replace(settings, tasks=elsewhere))
    assert elsewhere.n_done % 3 == 0
    assert elsewhere.n_done
    assert apart.info.r2 == pytest.approx(together.info.r2, abs=SAME_R2)
    assert apart.info.l0 == pytest.approx(together.info.l0, rel=SAME_L0)
    by_seed = [{sae.hyperparameters["seed"]: sae for sae in outcome.seeds} for outcome in (together, apart)]
    for seed, sae in by_seed[0].items():
        other = by_seed[1][seed]
        if variant == "paper":  # trains on 24 coordinates, a multiple of what a processor takes at once
            assert np.array_equal(sae.dictionary, other.dictionary)
        living = sae.dictionary[sae.alive]
        assert np.median(np.abs(living @ other.dictionary.T).max(1)) > SAME_COSINE
