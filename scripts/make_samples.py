"""Makes sample_reports/: six audits, each with HTML, short PDF, audit.json and a picture of page 1; nothing is edited.

    python scripts/make_samples.py [NAME ...]     demo digits hundred failing cifar10-resnet18 cifar10-vit

The two of CIFAR-10 need ../shared/data and are made without images (--no-images) and without names of files; where it
is missing they are left as they are. Pictures need pdftoppm.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from salve_audit.audit.reports import write_reports
from salve_audit.audit.run import run_audit
from salve_audit.config import AuditConfig
from salve_audit.report import Rendering
from salve_audit.results import AuditResult, load_audit
from salve_audit.results.relabel import number_paths

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLES = REPOSITORY / "sample_reports"
SHARED = REPOSITORY.parent / "shared" / "data"
MOST_BYTES = 3_000_000
KEPT = ("report.html", "report.pdf", "audit.json", "page-1.png")
PICTURE_DPI = 80
MOST_GALLERIES = 12
README_PICTURE = REPOSITORY / "docs" / "images" / "report.png"


def make_demo(out: Path) -> None:
    """The demo, as ``salve-audit demo`` makes it."""
    from salve_audit.demo.run import DemoSettings, run_demo

    run_demo(DemoSettings(out=out, format=("json",)))
    _render(load_audit(out), out)


def make_digits(out: Path) -> None:
    """scikit-learn's digits and a small network trained on the spot."""
    from PIL import Image
    from sklearn.datasets import load_digits

    from salve_audit.demo.training import NetworkRecipe, save_checkpoint, train_network

    digits = load_digits()
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    grey = np.kron((digits.images * 255 / 16).round().astype(np.uint8), np.ones((1, 4, 4), np.uint8))
    pixels = np.repeat(grey[..., None], 3, 3)
    is_fit = np.arange(len(pixels)) % 5 < 3
    with tempfile.TemporaryDirectory() as folder:
        for i, (image, label) in enumerate(zip(pixels, digits.target, strict=True)):
            place = Path(folder) / "digits" / ("train" if is_fit[i] else "val") / names[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i:04d}.png")
        recipe = NetworkRecipe(epochs=12)
        model = train_network(pixels[is_fit], digits.target[is_fit].astype(np.int64), recipe, 0)
        checkpoint = Path(folder) / "digits.pt"
        save_checkpoint(model, recipe, checkpoint, 32, names)
        _render(_audit(checkpoint, Path(folder) / "digits", out), out)


def make_hundred(out: Path) -> None:
    """A made-up audit of 100 classes, with generated images, of which a few features and galleries are kept."""
    result = _made_up("hundred")
    seeing = dataclasses.replace(
        result.seeing,
        features=result.seeing.features[:MOST_GALLERIES],
        fragile=result.seeing.fragile[:MOST_GALLERIES],
        n_features_left_out=result.seeing.n_features_left_out + len(result.seeing.features[MOST_GALLERIES:]),
        n_classes_left_out=result.seeing.n_classes_left_out + len(result.seeing.fragile[MOST_GALLERIES:]),
    )
    _render(dataclasses.replace(result, seeing=seeing, features=result.features[:MOST_GALLERIES]), out)


def make_failing(out: Path) -> None:
    """A made-up audit under three limits that it breaks."""
    _render(_made_up("failing"), out)


def _made_up(scenario: str) -> AuditResult:
    sys.path.insert(0, str(REPOSITORY / "tests" / "plain"))
    from report_reliance import build_scenario

    result: AuditResult = build_scenario(scenario)
    model = dataclasses.replace(result.model, name="made-up.pt")
    return dataclasses.replace(result, model=model, data=dataclasses.replace(result.data, root="made-up"))


def make_resnet18(out: Path) -> None:
    """CIFAR-10 under a ResNet-18."""
    _audit_cifar("resnet18_cifar10_64.pt", out)


def make_vit(out: Path) -> None:
    """CIFAR-10 under a small vision transformer."""
    _audit_cifar("vit_cifar10_32.pt", out)


def _audit_cifar(checkpoint: str, out: Path) -> None:
    if not (SHARED / checkpoint).is_file():
        print(f"{out.name}: left as it is, {SHARED / checkpoint} is not there")
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(SHARED / "cifar10.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        result = _audit(SHARED / checkpoint, Path(folder) / "cifar10", out, images=False)
    _render(_without_data(result), out)


def _without_data(result: AuditResult) -> AuditResult:
    """Numbers and class names alone: no name of a file, and not the mean look of a region."""
    concepts = tuple(dataclasses.replace(concept, look=None) for concept in result.concepts)
    return number_paths(dataclasses.replace(result, concepts=concepts))


def _audit(model: Path, data: Path, out: Path, **options: object) -> AuditResult:
    config = AuditConfig(model=model, data=data, out=out, format=("json",), **options)  # type: ignore[arg-type]
    return run_audit(config)


def _render(result: AuditResult, out: Path) -> None:
    """Reports and picture; the folder keeps nothing else. Paths of the machine are no part of a sample."""
    data = dataclasses.replace(result.data, root=Path(result.data.root).name)
    result = dataclasses.replace(result, data=data)
    text = result.to_json().encode("utf-8")
    out.mkdir(parents=True, exist_ok=True)
    (out / "audit.json").write_bytes(text)
    write_reports(result, text, out, ("html", "pdf"), Rendering(extent="short"))
    page = ["pdftoppm", "-r", str(PICTURE_DPI), "-f", "1", "-l", "1", "-singlefile", "-png", "report.pdf", "page-1"]
    subprocess.run(page, cwd=out, check=True)
    for file in out.iterdir():
        if file.name not in KEPT:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        elif file.stat().st_size > MOST_BYTES:
            raise SystemExit(f"{file} has {file.stat().st_size:,} bytes, more than {MOST_BYTES:,}")


MAKERS: dict[str, Callable[[Path], None]] = {
    "demo": make_demo,
    "digits": make_digits,
    "hundred": make_hundred,
    "failing": make_failing,
    "cifar10-resnet18": make_resnet18,
    "cifar10-vit": make_vit,
}


def main(names: list[str]) -> None:
    """Make the named samples, or all."""
    for name in names or list(MAKERS):
        print(f"{name} ...", flush=True)
        MAKERS[name](SAMPLES / name)
    if "demo" in (names or MAKERS):
        shutil.copyfile(SAMPLES / "demo" / "page-1.png", README_PICTURE)


if __name__ == "__main__":
    main(sys.argv[1:])
