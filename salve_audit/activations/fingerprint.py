"""Hashes of everything that changes an activation: the cache's key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.data.sources.source import ImageSource, count_readers
from salve_audit.inputs.data.sources.verified import digest_image

if TYPE_CHECKING:  # images are hashed without torch
    from torch import nn

    from salve_audit.inputs.model.classifier import Classifier

CODE_VERSION = 3  # raise it when decoding, transforming or the pass change what is stored
N_THREADS = 4
FILES_PER_TASK = 1024  # small tasks would spend their time passing the interpreter lock around


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of one extraction.

    Attributes:
        key: of weights, architecture, head, transform, the files' names, contents, labels and split, and a precision.
        data_sha256: of the files' contents, labels and split alone.
        contents_sha256: of the files' contents alone, in order.
        digests: of every image by its key; what the pass reads must still have them.
    """

    key: str
    data_sha256: str
    contents_sha256: str
    digests: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    base: str = field(default="", compare=False, repr=False)

    def at(self, precision: str) -> Fingerprint:
        """The hashes of the same extraction in another precision."""
        return replace(self, key=_join(self.base, precision))


def compute_fingerprint(classifier: Classifier, imageset: ImageSet, precision: str) -> Fingerprint:
    """Hashes the weights and reads every image file once."""
    paths = imageset.fit.paths + imageset.audit.paths
    digests = hash_images(imageset.reader, paths)
    splits = ["fit"] * len(imageset.fit.paths) + ["audit"] * len(imageset.audit.paths)
    labels = imageset.fit.labels + imageset.audit.labels
    data = "\n".join(f"{s} {label} {digest}" for s, label, digest in zip(splits, labels, digests, strict=True))
    transform = asdict(classifier.transform)
    del transform["source"]
    parts = {
        "code": CODE_VERSION,
        "weights": hash_weights(classifier.model),
        "build": classifier.build_key or classifier.architecture,
        "head": classifier.head_name,
        "transform": transform,
        "data": data,
        "paths": paths,
    }
    base = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    data_sha256, key = hashlib.sha256(data.encode()).hexdigest(), _join(base, precision)
    return Fingerprint(key, data_sha256, hash_contents(digests), dict(zip(paths, digests, strict=True)), base)


def _join(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def hash_contents(digests: Sequence[str]) -> str:
    """sha256 over the digests of images, in order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def hash_weights(model: nn.Module) -> str:
    """sha256 over names, types, shapes and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.numpy().data)
    return digest.hexdigest()


def hash_images(source: ImageSource, keys: Sequence[str]) -> list[str]:
    """sha256 of each image's contents, in order; the reason where one cannot be read."""
    step = FILES_PER_TASK if count_readers(source) == 1 else 1
    tasks = [keys[start : start + step] for start in range(0, len(keys), step)]
    pool = ThreadPoolExecutor(max(N_THREADS, count_readers(source)))
    try:
        parts = pool.map(lambda task: [digest_image(source, key) for key in task], tasks)
        return [digest for part in parts for digest in part]
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for a million files
