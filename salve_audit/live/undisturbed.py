"""The caller's process as it was: random states put back, and torch's modes that would change results set aside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch


@contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Runs the block with random states of its own, with gradients, in float32 on the CPU by default.

    Random states of Python, numpy and torch (every CUDA device that is in use) are those of before afterwards, also
    where an exception passes. A caller's ``no_grad``, ``inference_mode``, ``autocast``, default type and default device
    do not reach into the block.

    Args:
        seed: of the states in the block, which only the caller's own code reads, as augmentations do.
    """
    numpy_state, python_state, dtype = np.random.get_state(), random.getstate(), torch.get_default_dtype()  # noqa: NPY002
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", "cuda"} if torch.cuda.is_available() else {"cpu"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        try:
            torch.set_default_dtype(torch.float32)
            torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would seed a CUDA that is yet to start
            if cuda:
                torch.cuda.manual_seed_all(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002  what the caller's augmentations draw from
            random.seed(seed)
            yield
        finally:
            torch.set_default_dtype(dtype)
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
