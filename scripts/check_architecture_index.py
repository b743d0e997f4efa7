"""Asks the inference for every timm model: ``python scripts/check_architecture_index.py [PATTERN]``.

Each model is built on the meta device with 37 classes, once as it is and once (where its tensors show it) for images
of another size, and its bare state_dict, without a name, goes through the inference. Counted are:

right       the model's own name was found;
shape-equal another name was found, whose network has exactly the same tensors, and the model's own name was given
            among the others that fit (a size at the end of a name aside: it is in the shapes or nowhere);
unknown     nothing was found: the user would be told;
wrong       what was found has other tensors, another number of classes, or keeps silent about the model's own name.

About ten minutes on one core. Prints each model that is not right or shape-equal, the counts and the slowest inference;
the exit code is 1 where one is wrong or under 99 % are right or shape-equal.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import timm
import torch

from salve_audit.inputs.model.formats.nesting import Weights
from salve_audit.inputs.model.identify import list_candidates
from salve_audit.inputs.model.inference.index import load_index
from salve_audit.inputs.model.inference.match import strip_size
from salve_audit.inputs.model.inference.measure import build_shapes
from salve_audit.inputs.model.inference.signature import read_shapes
from salve_audit.inputs.model.weights import Checkpoint

N_CLASSES = 37
SIZE_FACTOR = 1.5  # none of those that the index was measured with
LEAST_SHARE = 0.99


def build_state(name: str, **kwargs: object) -> dict[str, torch.Tensor] | None:
    """The model's tensors, without memory; None where it cannot be built so."""
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            return timm.create_model(name, num_classes=N_CLASSES, **kwargs).state_dict()
    except Exception:  # not every model takes a size
        return None


def judge(name: str, state: dict[str, torch.Tensor]) -> tuple[str, float, str]:
    """Verdict, seconds of one core for the inference, and what was found."""
    checkpoint = Checkpoint(Path("model.pt"), "", "", (Weights("", state),))
    start = time.process_time()
    candidate = next(list_candidates(checkpoint, load_index()), None)
    seconds = time.process_time() - start
    if candidate is None:
        return "unknown", seconds, ""
    fit = candidate.fits[0]
    if build_shapes(fit.name, **fit.kwargs) != read_shapes(state) or fit.n_classes != N_CLASSES:
        return "wrong", seconds, fit.name
    if fit.name == name:
        return "right", seconds, fit.name
    named = {strip_size(shape_fit.name) for shape_fit in candidate.fits}
    return "shape-equal" if strip_size(name) in named else "wrong", seconds, fit.name


def main(pattern: str) -> int:
    """Prints the table; the exit code."""
    counts: dict[str, Counter[str]] = {"own size": Counter(), "other size": Counter()}
    slowest = (0.0, "")
    for name in timm.list_models(pattern):
        own = build_state(name)
        if own is None or read_shapes(own) == (build_shapes(name) or {}):
            print(f"{name}: has no classifier")
            continue
        states = {"own size": own}
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        other = build_state(name, img_size=int(SIZE_FACTOR * config.input_size[-1]))
        if other is not None and read_shapes(other) != read_shapes(own):
            states["other size"] = other
        for kind, state in states.items():
            verdict, seconds, candidates = judge(name, state)
            counts[kind][verdict] += 1
            slowest = max(slowest, (seconds, name))
            if verdict in ("wrong", "unknown"):
                print(f"{name} ({kind}): {verdict} {candidates}", flush=True)
    for kind, count in counts.items():
        total = sum(count.values())
        text = ", ".join(f"{count[verdict]} {verdict}" for verdict in ("right", "shape-equal", "unknown", "wrong"))
        print(f"{kind}: {total} models, {text}")
    print(f"slowest inference: {slowest[0]:.2f} s of one core ({slowest[1]})")
    count = counts["own size"]
    good = (count["right"] + count["shape-equal"]) / max(1, sum(count.values()))
    return int(good < LEAST_SHARE or any(count["wrong"] for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "*"))
