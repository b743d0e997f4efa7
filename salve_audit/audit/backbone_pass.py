"""The pass of an audit: its settings from the configuration, and what becomes of it where the cache fails."""

from __future__ import annotations

import dataclasses
import logging

from salve_audit.activations.device import choose_device
from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.activations.ray_engine import RayEngine
from salve_audit.activations.remote_cache import RemoteCache
from salve_audit.activations.room import FullError, describe_bytes
from salve_audit.activations.store import Activations
from salve_audit.audit.cache_folder import GIGABYTE, find_cache_dir
from salve_audit.audit.disk_needs import AuditSize, check_disks
from salve_audit.audit.progress import Advance
from salve_audit.config import AuditConfig
from salve_audit.errors import OutputError
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.model.classifier import Classifier

log = logging.getLogger(f"{__name__}.cache")  # what it says is of this run alone, see `hearing_warnings`


def compute_activations(
    classifier: Classifier,
    images: ImageSet,
    config: AuditConfig,
    advance: Advance | None = None,
    remote: RemoteCache | None = None,
) -> Activations:
    """Activations of all images, from the cache or by a pass.

    Args:
        classifier, images: what is audited.
        config: of the audit.
        advance: is told how far the pass is.
        remote: the cache, where it lies under a URL.

    Raises:
        FullError: a disk has no room for what will be written to it.
        SalveError: as `extract` does, but for a cache that cannot be written.
    """
    d = classifier.reader.fold(classifier.model).d
    size = AuditSize(len(images.fit.paths), len(images.audit.paths), d, has_pass=True)
    check_disks(config, size)
    if config.use_cache and size.n_bytes > config.cache_limit * GIGABYTE:
        text = "%s of activations are more than --cache-limit %g GB: what other audits have in the cache is removed"
        log.warning(text, describe_bytes(size.n_bytes), config.cache_limit)
    settings = ExtractSettings(
        batch_size=config.batch_size,
        workers=config.workers,
        device=choose_device(config.device),
        precision=config.precision,
        cache_dir=find_cache_dir(config.cache) if config.use_cache else None,
        remote=remote,
        advance=advance,
        engine=RayEngine(config.ray_address) if config.engine == "ray" else None,
    )
    return extract_anyway(classifier, images, settings)


def extract_anyway(classifier: Classifier, images: ImageSet, settings: ExtractSettings) -> Activations:
    """Activations from the cache or a pass; a cache that cannot be written is a warning, and the pass does without.

    Raises:
        FullError: the disk is full.
        SalveError: as `extract` does, but for the cache.
    """
    try:
        return extract(classifier, images, settings)
    except OutputError as error:
        if settings.cache_dir is None or isinstance(error, FullError):
            raise
        log.warning("%s: %s; activations are not kept for the next audit", error.what, error.why)
    return extract(classifier, images, dataclasses.replace(settings, cache_dir=None, remote=None))
