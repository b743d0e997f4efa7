"""``salve-audit demo``: draw a world, train on it, audit the result like a user's model, and add what is true."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from salve_audit.audit.measure import Audit
from salve_audit.audit.publish import check_writable
from salve_audit.audit.run import run_audit
from salve_audit.config import FORMATS, AuditConfig
from salve_audit.demo.files import write_world
from salve_audit.demo.training import NetworkRecipe, one_thread, predictor, save_checkpoint, train_network
from salve_audit.demo.truth import TrueDrops, compare_with_truth, compute_auroc, measure_truth
from salve_audit.demo.world import World, demo_world
from salve_audit.errors import OutputError, UsageError
from salve_audit.results import AuditResult

logger = logging.getLogger(__name__)
WORLD_DIR = "world"  # below the output folder: model.pt, data/, truth.json


@dataclass(frozen=True)
class DemoSettings:
    """Settings of a demo: what to draw, how to train and where the results go.

    Attributes:
        out: folder for the report; what was drawn and trained lies in its ``world/``.
        seed: of images, training and audit.
        world: what is planted.
        n_train, n_val: images per class; the first are the audit's fit split, the second its audit split.
        recipe: of the network.
        format: which of html, pdf, json are rendered.
        progress: show a progress bar on a terminal.
    """

    out: str | Path
    seed: int = 0
    world: World = field(default_factory=demo_world)
    n_train: int = 400
    n_val: int = 200
    recipe: NetworkRecipe = field(default_factory=NetworkRecipe)
    format: tuple[str, ...] = FORMATS
    progress: bool = False

    def __post_init__(self) -> None:
        for key, least in {"seed": 0, "n_train": 1, "n_val": 1}.items():
            if getattr(self, key) < least:
                raise UsageError(key, f"{getattr(self, key)} is below {least}")


def run_demo(settings: DemoSettings) -> AuditResult:
    """The audit of a freshly drawn world, with `demo` filled in, written to `settings.out`.

    Raises:
        OutputError: the folder cannot be written, or its ``world/`` is not an earlier demo's.
    """
    out = Path(settings.out)
    check_writable(out)
    _check_replaceable(out / WORLD_DIR)
    with one_thread(), _workplace(out) as place:
        truth = make_world(settings, place)

        def finish(audit: Audit) -> AuditResult:
            demo = compare_with_truth(audit.result, truth, measure_firing(audit))
            return replace(audit.result, demo=demo)

        config = AuditConfig(
            model=place / "model.pt",
            data=place / "data",
            out=out,
            seed=settings.seed,
            format=settings.format,
            use_cache=False,
            progress=settings.progress,
        )
        result = run_audit(config, finish)
        _publish(place, out / WORLD_DIR)
    return result


def make_world(settings: DemoSettings, place: Path) -> tuple[TrueDrops, ...]:
    """Draws, trains and measures the truth; leaves ``data/``, ``model.pt`` and ``truth.json`` in `place`."""
    world, seed, start = settings.world, settings.seed, time.perf_counter()
    n_images = len(world.classes) * (settings.n_train + settings.n_val)
    logger.info("drawing %d images of %d classes ...", n_images, len(world.classes))
    splits = write_world(world, place / "data", settings.n_train, settings.n_val, seed)
    logger.info("training %s ...", settings.recipe.arch)
    model = train_network(splits["train"].pixels, splits["train"].labels, settings.recipe, seed)
    save_checkpoint(model, settings.recipe, place / "model.pt", world.size, world.class_names)
    logger.info("leaving each cue out ...")
    truth = measure_truth(world, predictor(model), seed, settings.n_val)
    accuracy = float(np.mean([drops.accuracy for drops in truth]))
    logger.info("the world is made: accuracy %.3f, %.1f s", accuracy, time.perf_counter() - start)
    _write_truth(settings, truth, place / "truth.json")
    return truth


def measure_firing(audit: Audit) -> tuple[float, ...]:
    """Per class, AUROC of its dominant latent on the audit split: the class's own images against all others.

    Codes are signed: a latent fires in the direction of its mean code on the class, as the fit split knows it.
    """
    labels, use = audit.activations.audit.labels, audit.reliance.use
    aurocs = []
    for label, latent in enumerate(use.dominant):
        direction = np.sign(use.mean_codes[label, latent])
        aurocs.append(compute_auroc(direction * audit.codes[:, latent], labels == label))
    return tuple(aurocs)


def _write_truth(settings: DemoSettings, truth: Sequence[TrueDrops], path: Path) -> None:
    content = {
        "seed": settings.seed,
        "n_train": settings.n_train,
        "n_val": settings.n_val,
        "world": asdict(settings.world),
        "truth": [asdict(drops) for drops in truth],
    }
    try:
        path.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(str(path), error.strerror or str(error)) from error


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """A folder on the same disk as `out`, removed at the end unless it was published.

    Raises:
        OutputError: it cannot be made.
    """
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    try:
        place = Path(tempfile.mkdtemp(prefix=".salve-demo-", dir=parent))
    except OSError as error:
        raise OutputError(str(out), error.strerror or str(error)) from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _check_replaceable(target: Path) -> None:
    """Only an earlier demo's folder may be replaced: it may hold nothing but what a demo writes."""
    if not target.exists():
        return
    foreign = not target.is_dir() or {entry.name for entry in target.iterdir()} - {"data", "model.pt", "truth.json"}
    if foreign:
        raise OutputError(str(target), "is in the way and not an earlier demo's", hint="choose another --out")


def _publish(place: Path, target: Path) -> None:
    try:
        if target.exists():
            shutil.rmtree(target)
        place.chmod(0o755)
        os.rename(place, target)
    except OSError as error:
        raise OutputError(str(target), error.strerror or str(error)) from error
