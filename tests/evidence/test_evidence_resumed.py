"""Batches of image reliance that an interrupted run has left: they are not run again, and give the same."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from salve_audit.audit.stage_cache import StageCache, StageParts
from salve_audit.evidence.fast_network import FastNetwork
from salve_audit.evidence.parts import remember
from salve_audit.evidence.search import Evidence

CPU = torch.device("cpu")


def make_evidence(seed: int) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    alone = torch.rand(2, 3, generator=generator)
    alone[0, 2] = torch.nan
    return Evidence(
        labels=torch.tensor([seed, 1]),
        clean=torch.rand(2, generator=generator),
        regions=torch.rand(2, 3, 4, 4, generator=generator) > 0.5,
        alone=alone,
        together=alone * 2,
        signatures=torch.rand(2, 3, 5, generator=generator),
        n_passes=7 + seed,
        heat=torch.rand(2, 4, 4, generator=generator),
    )


def same(first: Any, other: Any) -> bool:
    return all(
        type(a) is type(b) and np.array_equal(a, b, equal_nan=torch.as_tensor(a).is_floating_point())
        for a, b in ((getattr(first, f.name), getattr(other, f.name)) for f in dataclasses.fields(first))
    )


def test_the_batches_of_an_ended_run_are_recalled(tmp_path: Path) -> None:
    cache, ran = StageCache(tmp_path, 2**40), []

    def work(probe: Any, seed: int) -> Evidence:
        ran.append(seed)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return make_evidence(seed)

    def run(of: str = "rows") -> list[Evidence]:
        fast = FastNetwork((None,), CPU, parts=cache.parts("image reliance", "key")(of))
        return [*fast.map(work, [4, 5]), *fast.map(work, [6])]

    with contextlib.suppress(KeyboardInterrupt):
        run()
    torn = next(tmp_path.rglob("0-1.npz"))
    torn.write_bytes(torn.read_bytes()[:-20])
    resumed = run()
    assert ran == [4, 5, 6, 5, 6]
    assert all(same(evidence, make_evidence(seed)) for evidence, seed in zip(resumed, (4, 5, 6), strict=True))
    run("other rows")
    assert ran[5:] == [4, 5, 6]
    cache.drop_parts("image reliance", "key")
    assert not list(tmp_path.rglob("*.npz"))


def test_arrays_and_tensors_are_kept_and_nothing_else(tmp_path: Path) -> None:
    parts, n_calls = StageParts(tmp_path), 0

    def work(value: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        return value

    for value in ((np.arange(3), np.zeros((2, 0), bool)), np.array(2.0), torch.eye(2)):
        for _ in range(2):
            result = remember(parts, type(value).__name__, functools.partial(work, value))
            assert type(result) is type(value)
            assert (
                all(map(np.array_equal, result, value)) if isinstance(value, tuple) else np.array_equal(result, value)
            )
    for _ in range(2):
        result = remember(parts, "with a count", functools.partial(work, (np.arange(3), 7)))
        assert result[0].tolist() == [0, 1, 2]
        assert (type(result[1]), result[1]) == (int, 7)
    assert n_calls == 4
    before = n_calls
    assert [remember(parts, "none", functools.partial(work, None)) for _ in range(2)] == [None, None]
    assert n_calls == before + 2
