"""Images that are there twice, within the audit split and across the splits.

Every audit image's nearest neighbours by activations are candidates; the pixels decide: small versions have to
correlate at the best small shift, as they are and less their local mean. Copies that were scaled, compressed again,
moved a little or brightened are found, crops are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from PIL import Image
from scipy.ndimage import uniform_filter

from salve_audit.errors import DataError
from salve_audit.inputs.data.decoding import decode_image
from salve_audit.inputs.data.sources.source import Content, ImageSource
from salve_audit.results.data_check import DuplicatePair

SIDE, SHIFT = 24, 2  # of the small versions, and how far one is moved against the other, in pixels
SURROUNDINGS = 7  # pixels whose mean is taken off to see the detail
LEAST_ALIKE, LEAST_DETAIL = 0.85, 0.75  # correlations: on CIFAR-10 all of 40 pairs above them are the same photograph
LEAST_COSINE = 0.8  # of activations less their mean, for a pair to be looked at
MOST_CANDIDATES = 600
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
    """A small version, the same less its local mean, and the file's own digest."""

    small: Float[np.ndarray, "s s 3"]
    detail: Float[np.ndarray, "s s 3"]
    digest: bytes

    def is_like(self, other: _Fingerprint) -> bool:
        if self.digest == other.digest:
            return True
        inside = slice(SHIFT, SIDE - SHIFT)
        small, detail = (_standardise(each[inside, inside]) for each in (self.small, self.detail))
        for top in range(2 * SHIFT + 1):
            for left in range(2 * SHIFT + 1):
                part = slice(top, top + SIDE - 2 * SHIFT), slice(left, left + SIDE - 2 * SHIFT)
                if detail @ _standardise(other.detail[part]) < LEAST_DETAIL:
                    continue
                if small @ _standardise(other.small[part]) >= LEAST_ALIKE:
                    return True
        return False


def _standardise(pixels: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, " v"]:
    flat = pixels.ravel() - pixels.mean()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6))


def _take_fingerprint(source: ImageSource, path: str) -> _Fingerprint | None:
    """None: it cannot be read, or there is nothing in it to compare."""
    try:
        return make_fingerprint(source.read(path), path)
    except (DataError, OSError, ValueError):
        return None


def make_fingerprint(content: Content, name: str) -> _Fingerprint | None:
    """The fingerprint of an image; None: it is of one colour.

    Raises:
        DataError: it cannot be decoded.
    """
    image = decode_image(content, name, shown_side=SIDE)
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32) / 255
    if small.std() < FLAT:
        return None
    detail = small - uniform_filter(small, (SURROUNDINGS, SURROUNDINGS, 1), mode="nearest")
    raw = content if isinstance(content, bytes) else content.tobytes() + repr(content.shape).encode()
    return _Fingerprint(small, detail, hashlib.sha256(raw).digest())
