"""The backbone pass beside the network alone and timm's validation loop, in images per second.

    python benchmarks/extract.py [--networks resnet18,...] [--sizes 64,224] [--images 256] [--rounds 2] [--data DIR]

* bare: the network's forward pass on tensors that are ready, as torch does it by default: float32, all threads in one
  batch, memory given back after every layer.
* timm: timm's `validate.py` on a CPU: `create_loader` with its own decoding processes, `model.eval()`, float32.
* ours: `extract`, everything included: hashes of files, decoding, the head's verification, activations on disk. In
  float32 and in bfloat16, whatever the predictions say: weights are random here.
* floor: what `ours` cannot go below: the same streams and precision on tensors that are ready, and the decoding of the
  same images by the same streams.

Without --data, JPEGs of smooth noise are written, a third larger than the network's input. Rounds alternate, and the
best of each counts. CPU time an image stands beside the rate, since it hardly depends on what else the machine does;
where others compute too, compare that.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_dataset, create_loader

from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.activations.images import ImageDataset, read_batch
from salve_audit.activations.memory import keeping_freed_memory
from salve_audit.activations.streams import choose_batch_size, computing, copy_for_streams, count_streams, run_streams
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier

NETWORKS = ("resnet18", "resnet50", "tf_efficientnet_lite0", "vit_small_patch16_224")
CLASSES = 4
TIMM_BATCH = 64  # its default of 256 needs 6 GB for ResNet-50 at 224 px
CPU = torch.device("cpu")


@dataclass
class Best:
    """The shortest wall time of several runs, and its CPU time."""

    wall: float = float("inf")
    cpu: float = float("inf")

    @contextmanager
    def run(self) -> Iterator[None]:
        """Times the block."""
        wall, cpu = time.perf_counter(), _cpu_seconds()
        yield
        self.wall = min(self.wall, time.perf_counter() - wall)
        self.cpu = min(self.cpu, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def write_images(root: Path, n: int, side: int) -> None:
    """`n` JPEGs of smooth noise in folders of classes, half to fit and half to audit."""
    rng = np.random.default_rng(0)
    for index in range(n):
        folder = root / ("train" if index % 2 else "val") / f"class{index // 2 % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index:05d}.jpg", quality=90)


def make_classifier(name: str, side: int, folder: Path) -> Classifier:
    """A network with random weights, through a checkpoint as users have it."""
    kwargs = {"img_size": side} if "vit" in name else {}
    model = timm.create_model(name, num_classes=CLASSES, **kwargs)
    settings = {"num_classes": CLASSES, "img_size": side, "crop_pct": 1.0, "model_kwargs": kwargs}
    torch.save({"arch": name, "state_dict": model.state_dict(), "args": settings}, folder / f"{name}-{side}.pt")
    return load_classifier(folder / f"{name}-{side}.pt")


def run_bare(classifier: Classifier, ready: Sequence[torch.Tensor]) -> None:
    """The network as it is."""
    with torch.inference_mode():
        for batch in ready:
            classifier.model(batch)


def run_timm(classifier: Classifier, data: Path) -> None:
    """The loop of timm's `validate.py`."""
    spec = classifier.transform
    for split in ("train", "val"):
        loader = create_loader(
            create_dataset("", root=str(data / split), is_training=False),
            input_size=spec.input_size,
            batch_size=TIMM_BATCH,
            use_prefetcher=False,
            interpolation=spec.interpolation,
            mean=spec.mean,
            std=spec.std,
            crop_pct=spec.crop_pct,
            num_workers=len(os.sched_getaffinity(0)),
            device=CPU,
        )
        with torch.inference_mode():
            for batch, _ in loader:
                classifier.model(batch).argmax(1)


def run_ours(classifier: Classifier, images: ImageSet, precision: str) -> None:
    """The audit's own pass."""
    extract(classifier, images, ExtractSettings(precision=precision))


def run_floor(classifier: Classifier, ready: Sequence[torch.Tensor], precision: str) -> None:
    """The streams on tensors that are ready."""

    def work(copy: Classifier, batch: torch.Tensor) -> None:
        with torch.inference_mode(), computing(CPU, precision):
            copy.model(batch.contiguous(memory_format=torch.channels_last))

    list(run_streams(copy_for_streams(classifier, CPU, count_streams(CPU)), work, ready))


def run_decoding(classifier: Classifier, images: ImageSet) -> None:
    """Decoding and preparation alone, by as many threads as there are streams."""
    dataset = ImageDataset(images.reader, images.fit.paths + images.audit.paths, classifier.transform)
    list(run_streams([dataset] * count_streams(CPU), lambda data, index: data[index].position, range(len(dataset))))


def compare(name: str, side: int, data: Path, rounds: int, scratch: Path) -> None:
    """Prints the rows of one network at one size."""
    classifier, images = make_classifier(name, side, scratch), load_images(data, seed=0)
    dataset = ImageDataset(images.reader, images.fit.paths + images.audit.paths, classifier.transform)
    prepared = read_batch(dataset, range(len(dataset))).images
    ready = prepared.split(choose_batch_size(None, (side, side), CPU))
    plain = prepared.split(TIMM_BATCH)
    kept: dict[str, Callable[[], None]] = {"decoding": lambda: run_decoding(classifier, images)}
    for precision in ("fp32", "bf16"):
        kept[f"floor {precision}"] = lambda precision=precision: run_floor(classifier, ready, precision)  # type: ignore[misc]
        kept[f"ours {precision}"] = lambda precision=precision: run_ours(classifier, images, precision)  # type: ignore[misc]
    times = {label: Best() for label in ("bare", "timm", *kept)}
    for _ in range(rounds):
        with times["bare"].run():
            run_bare(classifier, plain)
        with times["timm"].run():
            run_timm(classifier, data)
        with keeping_freed_memory():
            for label, run in kept.items():
                with times[label].run():
                    run()
    show(name, side, len(prepared), times)


def show(name: str, side: int, n: int, times: dict[str, Best]) -> None:
    """Rates, CPU milliseconds an image, and what ours costs relative to the others."""
    print(f"\n{name}, {side} px, {n} images, {count_streams(CPU)} streams")
    print(f"{'':12s} {'images/s':>9s} {'CPU ms/image':>13s}")
    for label, best in times.items():
        print(f"{label:12s} {n / best.wall:9.1f} {1e3 * best.cpu / n:13.1f}")
    bare, validation, decoding = times["bare"], times["timm"], times["decoding"]
    for precision in ("fp32", "bf16"):
        ours, floor = times[f"ours {precision}"], times[f"floor {precision}"]
        print(
            f"ours {precision}: time {ours.wall / bare.wall:.2f} x bare, {ours.wall / validation.wall:.2f} x timm, "
            f"{ours.wall / (floor.wall + decoding.wall):.2f} x floor and decoding; "
            f"CPU {ours.cpu / bare.cpu:.2f}, {ours.cpu / validation.cpu:.2f}, "
            f"{ours.cpu / (floor.cpu + decoding.cpu):.2f}"
        )


def main() -> None:
    """Compares networks and sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--sizes", default="64,224")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folders train/ and val/ with a folder per class, in place of noise")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for side in map(int, arguments.sizes.split(",")):
            data = arguments.data
            if data is None:
                data = Path(scratch) / f"images{side}"
                write_images(data, arguments.images, side + side // 3)
            for name in arguments.networks.split(","):
                compare(name, side, data, arguments.rounds, Path(scratch))


if __name__ == "__main__":
    main()
