"""Room on disks that an audit will need, looked at before its images are read: to hash very many takes hours alone."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from salve_audit.activations.cache import HINT
from salve_audit.activations.room import Need, check_rooms
from salve_audit.activations.shards import ACTS
from salve_audit.audit.cache_folder import find_cache_dir
from salve_audit.config import AuditConfig

MOST_CODES = 2**27  # of a split in memory, 512 MB; more lie in a temporary file
ROW_BYTES = 20  # of samples.parquet, at least
LABEL_BYTES = 8
LEAST_READABLE = 0.95  # of the images: with fewer there is no audit
OTHER_DISK = "name another folder with --out"
OTHER_TEMPORARY = "name another folder with TMPDIR"


@dataclass(frozen=True)
class AuditSize:
    """What the needs depend on.

    Attributes:
        n_fit, n_audit: images.
        d: activations of each.
        has_pass: they have to be computed, or to be in the cache.
    """

    n_fit: int
    n_audit: int
    d: int
    has_pass: bool

    @property
    def n_bytes(self) -> int:
        """Of all activations."""
        return 4 * self.d * (self.n_fit + self.n_audit)


def check_disks(config: AuditConfig, size: AuditSize) -> None:
    """Find out before the work whether the disks have room for what can be foreseen.

    Raises:
        FullError: one has not; names what is needed and what is free.
    """
    check_rooms([*_list_passing(config, size), *_list_results(config, size)])


def _list_passing(config: AuditConfig, size: AuditSize) -> Iterator[Need]:
    """What lies on disks while the audit runs, and in the cache after it."""
    n_images = size.n_fit + size.n_audit
    folder = find_cache_dir(config.cache) if config.use_cache else None
    temporary = Path(tempfile.gettempdir())
    if size.has_pass:
        where, hint = (temporary, OTHER_TEMPORARY) if folder is None else (folder, HINT)
        missing = size.n_bytes - (0 if folder is None else _find_largest(folder))
        if missing > (1 - LEAST_READABLE) * size.n_bytes:  # else it may be there; the pass looks again
            yield Need(where, missing, f"{n_images:,} images' activations", hint)
    codes = size.n_audit * (config.n_latents or 0)
    if codes > MOST_CODES:
        yield Need(temporary, 4 * codes, "the autoencoder's codes", OTHER_TEMPORARY)


def _find_largest(folder: Path) -> int:
    """Bytes of the largest activations in a cache, finished or not; which are these ones is not known yet."""
    sizes = [0]
    with contextlib.suppress(OSError):
        sizes += [file.stat().st_size for file in folder.glob(f"*/{ACTS}")]
    return max(sizes)


def _list_results(config: AuditConfig, size: AuditSize) -> Iterator[Need]:
    """What stays in the output folder, as far as it grows with the images."""
    if config.out is None:
        return
    out = Path(config.out)
    yield Need(out, ROW_BYTES * size.n_audit, "the results", OTHER_DISK)
    if config.keep_activations:
        n_bytes = size.n_bytes + LABEL_BYTES * (size.n_fit + size.n_audit)
        yield Need(out, n_bytes, "the activations to keep", OTHER_DISK)
