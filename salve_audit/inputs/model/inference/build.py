"""Measures all that timm and torchvision can build: ``python -m salve_audit.inputs.model.inference.build``.

Builds on the meta device (no memory, no weights, no download), a few minutes on one core. Without an argument the
index goes into the user's cache, where it serves the installed version of timm; with one, into that file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import timm

from salve_audit.inputs.model.inference.index import Entry, Index, cached_path, encode_index
from salve_audit.inputs.model.inference.match import find_fits
from salve_audit.inputs.model.inference.measure import TORCHVISION, build_shapes, measure_all


def list_architectures() -> list[str]:
    """All names of timm, then torchvision's classifiers."""
    import torchvision

    own = torchvision.models.list_models(module=torchvision.models)
    return [*timm.list_models(), *(f"{TORCHVISION}{name}" for name in own if not name.startswith("quantized"))]


def build_index(names: Sequence[str], progress: Callable[[int, str], None] | None = None) -> Index:
    """The index of `names`; a torchvision network whose tensors are a timm network's is left out."""
    entries: list[Entry] = []
    own = Index(timm.__version__, ())
    for number, name in enumerate(names):
        if progress is not None:
            progress(number, name)
        if name.startswith(TORCHVISION):
            own = own if own.entries else Index(timm.__version__, tuple(entries))
            if find_fits(own, build_shapes(name, num_classes=1000) or {}):
                continue
        entries.extend(measure_all(name))
    return Index(timm.__version__, tuple(entries))


def write_index(index: Index, path: Path) -> int:
    """Writes `index` to `path`, whole or not at all; its size in bytes."""
    packed = encode_index(index)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(packed)
    part.replace(path)
    return len(packed)


def main(arguments: Sequence[str]) -> None:
    """Builds and writes the index, with a line of progress every hundred architectures."""
    path = Path(arguments[0]) if arguments else cached_path()
    names = list_architectures()

    def show(number: int, name: str) -> None:
        if number % 100 == 0:
            print(f"{number} of {len(names)}: {name}", file=sys.stderr, flush=True)

    index = build_index(names, show)
    measured = {entry.name for entry in index.entries}
    n_bytes = write_index(index, path)
    print(f"{path}: {len(measured)} of {len(names)} architectures, {len(index.entries)} entries, {n_bytes:,} bytes")
    left_out = sorted(set(names) - measured)
    print(f"{len(left_out)} without a classifier, not built, or torchvision's copy of timm's: {' '.join(left_out)}")


if __name__ == "__main__":
    main(sys.argv[1:])
