"""Images that are there twice, within the audit split and across the splits.

Every audit image's nearest neighbours by activations are candidates; the pixels decide: a difference hash of 256 bits,
and the correlation of small versions. Scaled, compressed again, or slightly brighter copies are found, crops are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from salve_audit.errors import DataError
from salve_audit.inputs.data.decoding import decode_image
from salve_audit.inputs.data.sources.source import Content, ImageSource
from salve_audit.results.data_check import DuplicatePair

HASH_SIDE = 16
MOST_DIFFERENT = 20  # of 256 bits: what compression, scaling and small changes of light leave
LEAST_ALIKE = 0.98  # correlation of the small versions
LEAST_COSINE = 0.95  # of activations less their mean, for a pair to be looked at
MOST_CANDIDATES = 400
MOST_PRODUCTS = 1e11  # multiplications that neighbours may cost; beyond it audit images are left out evenly
FLAT = 0.01  # standard deviation of an image in which there is nothing to compare
CHUNK = 512


@dataclass(frozen=True)
class Split:
    """Images of one split with what the network made of them."""

    paths: Sequence[str]
    labels: Int[np.ndarray, " n"]
    acts: Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        n_compared: audit images that were looked at.
        pairs: all of them, conflicting labels first, then those across the splits.
    """

    n_compared: int
    pairs: tuple[DuplicatePair, ...]


def find_duplicates(fit: Split, audit: Split, source: ImageSource, classes: Sequence[str]) -> Duplicates:
    """Find the pairs that pixels confirm."""
    rows = _choose_rows(fit, audit)
    candidates = [
        *_neighbours(audit, rows, fit, across=True),
        *_neighbours(audit, rows, audit, across=False),
    ]
    candidates.sort(key=lambda pair: -pair[0])
    fingerprints: dict[str, _Fingerprint | None] = {}

    def fingerprint(path: str) -> _Fingerprint | None:
        if path not in fingerprints:
            fingerprints[path] = _take_fingerprint(source, path)
        return fingerprints[path]

    pairs = []
    for _, row, other, across in candidates[:MOST_CANDIDATES]:
        part = fit if across else audit
        one, two = fingerprint(audit.paths[row]), fingerprint(part.paths[other])
        if one is not None and two is not None and one.is_like(two):
            names = classes[audit.labels[row]], classes[part.labels[other]]
            pair = DuplicatePair(
                audit.paths[row], names[0], part.paths[other], names[1], across, one.digest == two.digest
            )
            pairs.append(pair)
    pairs.sort(key=lambda pair: (pair.class_name == pair.other_class, not pair.across, pair.path, pair.other_path))
    return Duplicates(len(rows), tuple(pairs))


def _choose_rows(fit: Split, audit: Split) -> Int[np.ndarray, " m"]:
    n, d = audit.acts.shape
    each = (len(fit.labels) + n) * d
    return np.unique(np.linspace(0, n - 1, max(1, min(n, int(MOST_PRODUCTS / max(1, each)))), dtype=np.int64))


def _neighbours(
    audit: Split, rows: Int[np.ndarray, " m"], part: Split, across: bool
) -> Iterator[tuple[float, int, int, bool]]:
    """Each row's nearest image of a part, where it is near: cosine, the row, the other, and `across`."""
    if not len(part.labels):
        return
    mean = np.asarray(audit.acts).mean(0)
    wanted = _unit(np.asarray(audit.acts)[rows] - mean)
    best, where = np.full(len(rows), -np.inf), np.zeros(len(rows), np.int64)
    for start in range(0, len(part.labels), CHUNK):
        near = wanted @ _unit(np.asarray(part.acts[start : start + CHUNK]) - mean).T
        if not across:
            near[rows[:, None] <= np.arange(start, start + near.shape[1])] = -np.inf  # each pair once
        column = near.argmax(1)
        top = near[np.arange(len(rows)), column]
        better = top > best
        best[better], where[better] = top[better], column[better] + start
    for position in np.flatnonzero(best >= LEAST_COSINE):
        yield float(best[position]), int(rows[position]), int(where[position]), across


def _unit(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    wide = rows.astype(np.float32)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-12)


@dataclass(frozen=True)
class _Fingerprint:
    """Bits of brightness steps, a small version less its mean at length 1, and the file's own digest."""

    bits: Bool[np.ndarray, " b"]
    small: Float[np.ndarray, " s"]
    digest: bytes

    def is_like(self, other: _Fingerprint) -> bool:
        if self.digest == other.digest:
            return True
        different = int((self.bits != other.bits).sum())
        return different <= MOST_DIFFERENT and float(self.small @ other.small) >= LEAST_ALIKE


def _take_fingerprint(source: ImageSource, path: str) -> _Fingerprint | None:
    """None: it cannot be read, or there is nothing in it to compare."""
    try:
        content = source.read(path)
        return make_fingerprint(content, path)
    except (DataError, OSError, ValueError):
        return None


def make_fingerprint(content: Content, name: str) -> _Fingerprint | None:
    """The fingerprint of an image; None: it is of one colour.

    Raises:
        DataError: it cannot be decoded.
    """
    import hashlib

    image = decode_image(content, name, shown_side=64)
    grey = np.asarray(image.convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), dtype=np.float32)
    small = np.asarray(image.resize((16, 16), Image.Resampling.BOX), dtype=np.float32).ravel() / 255
    if small.std() < FLAT:
        return None
    small = small - small.mean()
    raw = content if isinstance(content, bytes) else content.tobytes() + repr(content.shape).encode()
    bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    return _Fingerprint(bits, small / np.linalg.norm(small), hashlib.sha256(raw).digest())
