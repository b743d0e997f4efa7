"""Streams: the same results in the same order whatever the number of threads, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from activation_entries import same

from salve_audit.activations import streams
from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.activations.memory import keeping_freed_memory
from salve_audit.activations.streams import choose_batch_size, copy_for_streams, count_streams, run_streams

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items() -> None:
    def work(handle: int, item: int) -> tuple[int, int]:
        time.sleep(0.002 * (item % 3))  # later items are ready earlier
        return item, torch.get_num_threads()

    before, threads = torch.get_num_threads(), set(threading.enumerate())
    results = list(run_streams([1, 2, 3], work, range(20)))
    assert [item for item, _ in results] == list(range(20))
    assert {n for _, n in results} == {max(1, before // 3)}
    assert torch.get_num_threads() == before
    assert set(threading.enumerate()) <= threads


def test_each_handle_is_used_by_one_thread_at_a_time() -> None:
    handles = [threading.Lock() for _ in range(2)]

    def work(handle: threading.Lock, _: int) -> None:
        assert handle.acquire(blocking=False)
        time.sleep(0.001)
        handle.release()

    assert list(run_streams(handles, work, range(12))) == [None] * 12


def test_few_items_are_taken_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    results = run_streams([1, 2], lambda _, item: item, items())
    assert next(results) == 0
    assert len(taken) <= 5
    results.close()


def test_an_error_is_raised_in_its_place_and_ends_the_streams() -> None:
    def work(_: int, item: int) -> int:
        if item == 7:
            raise ValueError("seven")
        return item

    threads = set(threading.enumerate())
    results = run_streams([1, 2], work, range(100))
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="seven"):
        next(results)
    assert set(threading.enumerate()) <= threads


def test_a_caller_that_is_interrupted_does_not_wait() -> None:
    hang = threading.Event()
    results = run_streams([1, 2], lambda _, item: item if item < 2 else hang.wait(30), range(10))
    assert next(results) == 0
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert time.monotonic() - start < 10
    hang.set()


def test_activations_do_not_depend_on_the_number_of_streams(classifier, imageset, tmp_path, three_threads) -> None:
    settings = ExtractSettings(batch_size=7, cache_dir=tmp_path / "three")
    assert count_streams(CPU) == 3
    many = extract(classifier, imageset, settings)
    torch.set_num_threads(1)
    single = extract(classifier, imageset, ExtractSettings(batch_size=7, cache_dir=tmp_path / "single"))
    assert same(many, single)


def test_copies_share_their_weights_and_nothing_else(classifier) -> None:
    copies = copy_for_streams(classifier, CPU, 3)
    weights = {copy.model.conv.weight.data_ptr() for copy in copies}
    assert len(weights) == 1
    assert classifier.model.conv.weight.data_ptr() not in weights
    assert len({id(module) for copy in copies for module in copy.model.modules()}) == 3 * 3 + 3


@pytest.mark.parametrize(
    ("requested", "side", "device", "expected"),
    [(5, 224, CPU, 5), (None, 224, CPU, 10), (None, 64, CPU, 128), (None, 2048, CPU, 1), (None, 224, GPU, 128)],
)
def test_batch_sizes(requested: int | None, side: int, device: torch.device, expected: int) -> None:
    assert choose_batch_size(requested, (side, side), device) == expected


def test_a_gpu_has_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_streams(GPU) == 1
    monkeypatch.setattr(streams.torch, "get_num_threads", lambda: 64)
    assert count_streams(CPU) == streams.MOST_STREAMS


def test_freed_memory_is_kept_and_given_back() -> None:
    resource = pytest.importorskip("resource")

    def count_faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(8):
            np.ones(2**24 // 8).sum()  # 16 MB, each page touched
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    with keeping_freed_memory():
        count_faults()
        assert count_faults() < 8 * 2**24 / 4096 / 4  # far fewer than pages
