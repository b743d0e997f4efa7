"""The precision of a pass: bfloat16 where the processor has units for it, the predictions agree and it is faster.

Faster is measured, since networks differ: convolutions and products take half of the time, depthwise convolutions gain
little forwards and lose backwards. Times are those of one thread's own work, so that a busy machine decides alike, and
a small pass stays in float32, whose numbers machines agree on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from salve_audit.activations.store import BF16, FP32, Precision
from salve_audit.activations.streams import computing, copy_for_streams, single_thread
from salve_audit.activations.work import count_work
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.exact import exact_convolutions
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.model.head.trace import watch_inputs
from salve_audit.inputs.reasons import summarise_error

log = logging.getLogger(__name__)
AUTO = "auto"
PROBED = 64  # images whose predictions are compared
TIMED = 8  # of them
LEAST_AGREEMENT = 0.98  # of the probed images: one of 64 may differ
LEAST_GAIN = 1.25  # times faster; what gains gain far more, so that two runs decide alike
LEAST_WORK = 1e11  # multiply-adds of the pass: a few seconds of a core
ROUNDS = 3


def choose_precision(classifier: Classifier, requested: str, device: torch.device, images: Tensor) -> Precision:
    """The precision of a pass where `needs_probe`: as requested and compared, or measured for auto.

    Args:
        classifier: left untouched.
        requested: auto or bf16.
        device: where the pass runs.
        images: (n, c, h, w) up to `PROBED` of the pass.

    Raises:
        RuntimeError: the network fails in bf16, which was requested.
    """
    assert requested in (AUTO, BF16), f"nothing is to be chosen for {requested!r}"
    if not len(images):  # the pass will say so
        return Precision(FP32 if requested == AUTO else BF16)
    if requested == BF16:
        return _compare(classifier, requested, device, images)
    try:
        return _compare(classifier, requested, device, images)
    except (RuntimeError, TypeError, ValueError) as error:  # the network's own code, with a type that it may not know
        log.info("no pass in bfloat16: %s", summarise_error(error))
        return Precision(FP32)


def needs_probe(classifier: Classifier, requested: str, device: torch.device, n_images: int) -> bool:
    """Whether `choose_precision` is to compare: bf16 is requested, or a pass over `n_images` is long enough to gain."""
    if requested != AUTO:
        return requested == BF16
    if device.type != "cpu" or not has_bf16_units():
        return False
    return n_images * _count_work(classifier) >= LEAST_WORK


def describe_machine(device: torch.device) -> str:
    """All of this machine that a choice may depend on, in words: what was chosen elsewhere is not taken over."""
    units = "bf16 units" if has_bf16_units() else "no bf16 units"
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()} {units} torch {torch.__version__}"


def has_bf16_units() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32 (AVX512-BF16 or AMX)."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check is not None and check() for check in checks)


def _count_work(classifier: Classifier) -> float:
    """Multiply-adds of one image; 0 where the network fails, which the pass will say."""
    image = torch.zeros(1, *classifier.transform.input_size)
    try:
        with torch.inference_mode():
            return count_work(classifier.model.modules(), lambda: classifier.model(image))
    except Exception:  # the network's own code may raise anything
        return 0.0


def _compare(classifier: Classifier, requested: str, device: torch.device, images: Tensor) -> Precision:
    (copy,), gain = copy_for_streams(classifier, device, n_streams=1), None
    head = classifier.reader.fold(classifier.model)
    with exact_convolutions(), single_thread():
        exact, rough = (_predict(copy, head, images.to(device), name) for name in (FP32, BF16))
        agreement = float((exact == rough).float().mean())
        if requested == AUTO and agreement >= LEAST_AGREEMENT:
            few = images[:TIMED].to(memory_format=torch.channels_last)
            gain = measure_gain(lambda: _forward(copy, few))
    faster = gain is not None and gain >= LEAST_GAIN
    return Precision(BF16 if requested == BF16 or faster else FP32, agreement, len(images), gain)


def measure_gain(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """How many times faster `run` is in bfloat16 than in float32: thread time, the best of some alternating rounds."""
    best = {FP32: float("inf"), BF16: float("inf")}
    for _ in range(rounds):
        for name in best:
            with computing(torch.device("cpu"), name):
                start = time.thread_time()
                run()
                best[name] = min(best[name], time.thread_time() - start)
    return best[FP32] / max(best[BF16], 1e-9)


def _forward(classifier: Classifier, images: Tensor) -> None:
    with torch.inference_mode():
        classifier.model(images)


def _predict(
    classifier: Classifier, head: LinearHead, images: Float[Tensor, "n c h w"], precision: str
) -> Int[Tensor, "n ..."]:
    """What the audit's head predicts: the class, or where labels do not exclude each other each of them."""
    model, reader = classifier.model, classifier.reader
    weight, bias = torch.from_numpy(head.weight), torch.from_numpy(head.bias)
    inputs: dict[str, list[Tensor]] = {}
    handles = [watch_inputs(model, name, inputs) for name in reader.modules]
    predicted = []
    try:
        for part in torch.split(images, TIMED):
            inputs.clear()
            with torch.inference_mode(), computing(images.device, precision):
                model(part.contiguous(memory_format=torch.channels_last))
            acts = reader.read(inputs, len(part), str(classifier.path)).float().cpu()
            logits = acts @ weight.T + bias
            predicted.append((logits > 0).int() if reader.per_label else logits.argmax(1))
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(predicted)
