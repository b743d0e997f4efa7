"""A whole audit recalled: the same model, data, settings and code give the same files without loading the network.

The key of a whole audit is made of the bytes of the model's files and of the images, which needs no torch; the keys of
single stages (`stage_runner`) are made of what the network turned out to be. Limits, formats and places are no part of
it: verdict and report are made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salve_audit.activations.fingerprint import hash_contents, hash_images
from salve_audit.activations.store import Activations
from salve_audit.audit.code_version import code_version, library_versions
from salve_audit.audit.codec import hash_record
from salve_audit.audit.stage_cache import KeptResult, StageCache
from salve_audit.config import AuditConfig, measured_settings
from salve_audit.errors import SalveError
from salve_audit.inputs.arrays.array_file import is_array_file
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.data.mask_columns import hash_masks
from salve_audit.inputs.data.sampling import sample_images
from salve_audit.inputs.digest import hash_file
from salve_audit.results import AuditResult

AUDIT = "audit"  # among the names of stages in the cache
BESIDE = (".json", ".yaml", ".yml")  # endings of files beside a model that may say how it is to be read
MOST_FILES, MOST_BYTES = 64, 4 * 2**20  # of files beside a model; where there are more, no audit is recalled whole
GPU_SIGNS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # without torch: is there anything that CUDA could be


@dataclass(frozen=True)
class Measured:
    """All that the files of an audit are made of.

    Attributes:
        result: what audit.json says; its verdict and settings are those of the audit that made it.
        samples: content of samples.parquet.
        sae: content of sae.safetensors.
        concepts: content of concepts.safetensors; None: image reliance was not measured.
        activations: both splits; without values in the cache, which has them on their own.
    """

    result: AuditResult
    samples: bytes
    sae: bytes
    concepts: bytes | None
    activations: Activations


def find_audit(config: AuditConfig, cache: StageCache) -> KeptResult | None:
    """The audit of these inputs and settings with its warnings; None: it has to be made."""
    settings_key = hash_settings(config)
    if cache.folder is None or settings_key is None:
        return None
    if not cache.may_hold(AUDIT, f"{settings_key}-"):
        return None  # nothing is read of the images where no audit with these settings was kept
    try:
        data_key = _find_data_key(config)
    except (SalveError, OSError):  # whoever audits this says it in its place
        return None
    return cache.recall(AUDIT, _join(settings_key, data_key), Measured)


def keep_audit(config: AuditConfig, cache: StageCache, data_key: str, kept: KeptResult) -> None:
    """Keep a whole audit, `data_key` as its subject has it."""
    settings_key = hash_settings(config)
    if settings_key is not None:
        cache.keep(AUDIT, _join(settings_key, data_key), kept)


def hash_listing(images: ImageSet) -> str:
    """sha256 of all that is known of images before they are read or matched with outputs."""
    known = (images.root.name, images.classes, images.layout, images.indices, images.attributes, images.decisions)
    splits = [(split.paths, split.labels) for split in (images.fit, images.audit)]
    return hash_record((known, splits, hash_masks(images)))


def _find_data_key(config: AuditConfig) -> str:
    """As `Subject.data_key`."""
    if config.data is None:
        return ""
    images = load_images(config.data, seed=config.seed, limit=config.limit, follow_links=config.follow_links)
    if config.sample is not None:
        images = sample_images(images, config.sample, config.seed)
    digests = hash_images(images.reader, images.fit.paths + images.audit.paths)
    return f"{hash_listing(images)} {hash_contents(digests)}"


def _join(settings_key: str, data_key: str) -> str:
    return f"{settings_key}-{hashlib.sha256(data_key.encode()).hexdigest()[:32]}"


def hash_settings(config: AuditConfig) -> str | None:
    """Hash of the model's files, of the settings that change results, and of code, libraries and machine.

    None where files that nobody names may have a part in it: where the network is code, or ONNX, which may keep its
    weights in files of any name. None too where the policy has a say in what is measured (`decide`).
    """
    model = Path(config.model)
    if config.decide or config.trust_model or ".py:" in (config.arch or "") or model.suffix == ".onnx":
        return None
    try:
        files = _model_files(model)
        digests = None if files is None else [f"{file.name} {hash_file(file)}" for file in files]
        mapped_by_hand = None if config.classes is None else hash_file(Path(config.classes))
    except (SalveError, OSError):  # whoever loads it says why
        return None
    if digests is None:
        return None
    parts: dict[str, Any] = {
        "model": [model.name, *digests],
        "settings": {name: getattr(config, name) for name in sorted(measured_settings())},
        "needed": config.evidence_needed,
        "classes": mapped_by_hand,
        "code": code_version(["audit"]),
        "libraries": dict(library_versions()),
        "moment": os.environ.get("SOURCE_DATE_EPOCH"),  # else a recalled audit keeps the time at which it was made
        "gpu": [os.environ.get("CUDA_VISIBLE_DEVICES"), *(os.path.exists(sign) for sign in GPU_SIGNS)],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _model_files(model: Path) -> list[Path] | None:
    """The model's files and those beside it that may describe it; None: too many to tell, or none."""
    if model.is_dir() or (model.parent / "config.json").is_file():  # weights may lie in several files
        folder = model if model.is_dir() else model.parent
        files = list(_up_to(file for file in folder.iterdir() if file.is_file()))
        return sorted(files) if len(files) <= MOST_FILES else None
    if not model.is_file():
        return None
    if is_array_file(model):
        return [model]
    beside = (file for file in model.parent.iterdir() if _describes(file, model) and file.is_file())
    files = list(_up_to(beside))
    small = all(file.stat().st_size <= MOST_BYTES for file in files)
    return [model, *sorted(files)] if len(files) <= MOST_FILES and small else None


def _describes(file: Path, model: Path) -> bool:
    return file != model and (file.suffix in BESIDE or file.stem == model.stem)


def _up_to(files: Iterator[Path]) -> Iterator[Path]:
    """At most one more file than are looked at."""
    for _, file in zip(range(MOST_FILES + 1), files, strict=False):
        yield file
