"""The whole audit by stage, beside a bare forward pass of the same model over the same images.

    python benchmarks/end_to_end.py MODEL DATA [--arch NAME] [--out DIR]

The bare pass is decode + transform + forward + argmax with the audit's own loader, nothing kept. The claim to check is
the ratio: what the audit costs beyond looking at the pictures once. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from salve_audit.activations import LoaderSettings, build_loader, choose_workers
from salve_audit.audit import Stopwatch, measure, write_audit
from salve_audit.config import AuditConfig
from salve_audit.inputs import load_classifier, load_image_folder


def time_bare_pass(config: AuditConfig) -> tuple[float, int]:
    """(seconds, pictures) of decode + forward + argmax over both splits."""
    classifier = load_classifier(Path(config.model), arch=config.arch)
    images = load_image_folder(Path(config.data), seed=config.seed, limit=config.limit)
    paths = (*images.fit.paths, *images.audit.paths)
    loader = build_loader(
        images.pictures,
        paths,
        classifier.transform,
        LoaderSettings(config.batch_size, choose_workers(config.workers, torch.device("cpu"))),
    )
    model = classifier.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    start, n = time.perf_counter(), 0
    with torch.inference_mode():
        for batch in loader:
            pixels = batch.images.to(memory_format=torch.channels_last)
            n += len(model(pixels).argmax(1))
    return time.perf_counter() - start, n


def peak_gigabytes() -> float:
    """Peak memory of this process and of its largest child, added (workers, PDF renderer)."""
    return sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--arch")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(arguments.out or Path(scratch) / "report")
        config = AuditConfig(
            model=arguments.model, data=arguments.data, arch=arguments.arch, out=out, cache=Path(scratch) / "cache"
        )
        watch = Stopwatch()
        audit = measure(config, watch)
        with watch.stage("report"):
            write_audit(audit, config)
        again = Stopwatch()
        measure(config, again)
    peak = peak_gigabytes()
    bare, n = time_bare_pass(config)
    print(f"{'stage':18s} {'seconds':>8s} {'x bare pass':>12s}")
    for name, seconds in watch.seconds.items():
        print(f"{name:18s} {seconds:8.1f} {seconds / bare:12.2f}")
    rest = sum(seconds for name, seconds in watch.seconds.items() if name != "activations")
    total = sum(watch.seconds.values())
    print(f"{'all but the pass':18s} {rest:8.1f} {rest / bare:12.2f}")
    print(f"{'whole audit':18s} {total:8.1f} {total / bare:12.2f}")
    print(f"{'bare forward pass':18s} {bare:8.1f} {1:12.2f}   ({n:,} pictures, {n / bare:.0f}/s)")
    print(f"second audit, activations from the cache: {again.seconds['activations']:.2f} s")
    print(f"peak memory: {peak:.2f} GB (this process and its largest child)")


if __name__ == "__main__":
    main()
