"""The one backbone pass: both splits through the network once, the head's inputs into the cache."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from salve_audit.activations.backbone import Engine, PassSettings, run_pass
from salve_audit.activations.cache import (
    HINT,
    META,
    PARTIAL,
    EntryWriter,
    UnwritableError,
    as_output_error,
    find_worker,
    read_choice,
    read_entry,
    warn_unwritable,
    write_choice,
)
from salve_audit.activations.device import choose_workers
from salve_audit.activations.fingerprint import Fingerprint, compute_fingerprint
from salve_audit.activations.images import LoaderSettings, load_batch
from salve_audit.activations.lease import Lease
from salve_audit.activations.lock import temporary_folder
from salve_audit.activations.precision import PROBED, choose_precision, describe_machine, needs_probe
from salve_audit.activations.remote_cache import RemoteCache
from salve_audit.activations.room import FULL, SPARE_BYTES, FullError, check_room, describe_bytes, fit_batches
from salve_audit.activations.shards import ACTS, Progress
from salve_audit.activations.spread import spread_rows
from salve_audit.activations.store import FP32, Activations, ActivationSplit, Precision, Skipped
from salve_audit.activations.streams import choose_batch_size, count_streams
from salve_audit.activations.unreadable import check_classes_left
from salve_audit.errors import CheckpointError, OutputError, SalveError
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.data.sources.verified import VerifiedSource
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.machine import available_memory, is_out_of_memory

TEMPORARY = "salve-pass-"  # folders for activations that are not kept
WAIT_S, REMOTE_WAIT_S = 0.5, 2.0  # between two looks at whether another run is done, here or under a URL

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractSettings:
    """Settings of the backbone pass; only `precision` changes the activations.

    Attributes:
        batch_size: images per forward pass; None: see `choose_batch_size`.
        workers: processes that decode images; None: none on a CPU, else see `choose_workers`; 0: none.
        device: where the network runs, from `choose_device`.
        precision: auto, fp32 or bf16, see `choose_precision`. The head's verification is always in fp32.
        cache_dir: folder of the cache. None: a temporary folder, removed before `extract` returns (on Windows the
            temporary folder stays).
        advance: is told how many images of how many are done.
        engine: who runs the batches; None: this process.
        remote: what `cache_dir` is the folder of, where the cache lies under a URL.
    """

    batch_size: int | None = None
    workers: int | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable
    precision: str = "auto"
    cache_dir: Path | None = None
    advance: Callable[[int, int], None] | None = None
    engine: Engine | None = None
    remote: RemoteCache | None = None


def extract(classifier: Classifier, imageset: ImageSet, settings: ExtractSettings) -> Activations:
    """Activations of both splits, from the cache or by one pass; the classifier is left untouched.

    An interrupted pass is resumed by the next call with the same inputs.

    Raises:
        HeadError: the head is not what makes the logits.
        CheckpointError: the forward pass fails or gives NaN or infinite activations.
        DataError: over 5 % of a split's images cannot be read, or a class has none left.
        OutputError: the disk is full, or not even a temporary folder can be written; a cache that cannot be written for
            another reason is a warning.
    """
    keyed = replace(classifier, head_name=classifier.reader.key)  # the kind of head changes the activations too
    fingerprint = compute_fingerprint(keyed, imageset, settings.precision)
    imageset = replace(imageset, source=VerifiedSource(imageset.reader, fingerprint.digests))
    if settings.cache_dir is not None:
        try:
            return _extract_cached(classifier, imageset, settings, fingerprint)
        except UnwritableError as error:
            warn_unwritable(error)
    temporary = Path(tempfile.gettempdir())
    with ExitStack() as stack:
        with as_output_error(temporary):
            folder = stack.enter_context(temporary_folder(temporary, TEMPORARY))
        return _extract_cached(classifier, imageset, replace(settings, cache_dir=folder, remote=None), fingerprint)


def _extract_cached(
    classifier: Classifier, imageset: ImageSet, settings: ExtractSettings, fingerprint: Fingerprint
) -> Activations:
    cache_dir = settings.cache_dir
    assert cache_dir is not None, "extract chooses a folder"
    precision = _choose_precision(classifier, imageset, settings, fingerprint)
    fingerprint = fingerprint.at(precision.name)
    entry, from_cache = _read_or_wait(cache_dir, fingerprint.key, settings.remote), True
    if entry is None:
        chosen = replace(settings, precision=precision.name)
        entry, from_cache = _compute_missing(classifier, imageset, chosen, fingerprint.key)
    if entry is None:
        raise OutputError(str(cache_dir), "what was just written there cannot be read back", hint="see the warnings")
    acts, progress = entry
    assert progress.head_error is not None, "an entry is written after its head is verified"
    lost = {path for path, _ in progress.skipped}
    return Activations(
        fit=_to_split(acts[: progress.n_fit], imageset.fit, lost),
        audit=_to_split(acts[progress.n_fit :], imageset.audit, lost),
        head=classifier.reader.fold(classifier.model),
        head_error=progress.head_error,
        key=fingerprint.key,
        data_sha256=fingerprint.data_sha256,
        from_cache=from_cache,
        precision=precision,
        skipped=tuple(Skipped(path, reason) for path, reason in progress.skipped),
        contents_sha256=fingerprint.contents_sha256,
    )


def _choose_precision(
    classifier: Classifier, imageset: ImageSet, settings: ExtractSettings, fingerprint: Fingerprint
) -> Precision:
    """The precision of the pass, remembered in the cache: the next audit of the same inputs here measures nothing."""
    cache_dir, paths = settings.cache_dir, imageset.fit.paths + imageset.audit.paths
    assert cache_dir is not None, "extract chooses a folder"
    if not needs_probe(classifier, settings.precision, settings.device, len(paths)):
        return Precision(FP32)
    key = fingerprint.at(f"{settings.precision} {describe_machine(settings.device)}").key
    remembered = read_choice(cache_dir, key)
    if remembered is not None:
        return Precision(**remembered)
    probed = [paths[row] for row in spread_rows(np.arange(len(paths)), PROBED)]
    loaded = load_batch(imageset.reader, probed, classifier.transform, LoaderSettings(len(probed), 0))
    precision = choose_precision(classifier, settings.precision, settings.device, loaded.images)
    write_choice(cache_dir, key, asdict(precision))
    return precision


Entry = tuple[Float[np.ndarray, "n d"], Progress]


def _read_or_wait(cache_dir: Path, key: str, remote: RemoteCache | None) -> Entry | None:
    """The entry, waited for while another run makes it; None: it has to be made here."""
    waiting_for, lease = None, None if remote is None else Lease(remote, key)
    while (entry := _read_or_fetch(cache_dir, key, remote)) is None:
        owner = find_worker(cache_dir, key) or (None if lease is None else lease.find_owner())
        if owner is None:  # finished in between, or given up
            return None if waiting_for is None else _read_or_fetch(cache_dir, key, remote)
        if owner.hangs:
            logger.warning("%s has shown no sign of life for %.0f s: not waited for", owner, owner.idle_s)
            return None
        if str(owner) != waiting_for:
            waiting_for = str(owner)
            logger.warning("%s computes the same activations in this cache: waiting for it", owner)
        time.sleep(WAIT_S if remote is None else REMOTE_WAIT_S)
    return entry


def _read_or_fetch(cache_dir: Path, key: str, remote: RemoteCache | None) -> Entry | None:
    if remote is not None:
        remote.fetch_whole(cache_dir / key, META)
    return read_entry(cache_dir, key)


def _compute_missing(
    classifier: Classifier, imageset: ImageSet, settings: ExtractSettings, key: str
) -> tuple[Entry | None, bool]:
    """Makes the entry, in smaller batches where memory is short; True beside it if another run was faster."""
    cache_dir, n_images = settings.cache_dir, len(imageset.fit.paths) + len(imageset.audit.paths)
    assert cache_dir is not None, "extract chooses a folder"
    d = classifier.reader.fold(classifier.model).d
    with as_output_error(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
    done = cache_dir / f"{key}{PARTIAL}" / ACTS
    n_bytes = 4 * d * n_images - (done.stat().st_size if done.exists() else 0)
    check_room(cache_dir, n_bytes, f"{n_images:,} images' activations", HINT)
    pass_settings = _plan_pass(classifier, settings)
    while True:
        writer = EntryWriter(cache_dir, key, settings.remote)
        if _is_taken(writer, key):
            writer.discard()
            entry = _read_or_wait(cache_dir, key, settings.remote)
            if entry is not None:
                return entry, True
            continue
        try:
            _compute_entry(classifier, imageset, pass_settings, writer)
            return read_entry(cache_dir, key), False
        except (CheckpointError, MemoryError, RuntimeError) as error:
            if not _is_short_of_memory(error) or pass_settings.least:
                raise
        pass_settings = pass_settings.halve()
        logger.warning("memory is short: on in batches of %d", pass_settings.batch_size)


def _is_taken(writer: EntryWriter, key: str) -> bool:
    """Whether another run has begun with the entry since this one looked."""
    owner = find_worker(writer.cache_dir, key) if writer.lock is None else None
    return owner is not None and not owner.hangs


def _plan_pass(classifier: Classifier, settings: ExtractSettings) -> PassSettings:
    """Batches as asked for, or as many images as memory and size allow."""
    device, (_, height, width) = settings.device, classifier.transform.input_size
    undecoded = settings.workers is None and device.type == "cpu"  # the streams do it
    batch_size, n_streams = choose_batch_size(settings.batch_size, (height, width), device), count_streams(device)
    if device.type == "cpu":
        fitting, n_streams = fit_batches(batch_size, n_streams, height * width, available_memory())
        batch_size = batch_size if settings.batch_size is not None else fitting
    return PassSettings(
        batch_size=batch_size,
        workers=0 if undecoded else choose_workers(settings.workers, device),
        device=device,
        precision=settings.precision,
        advance=settings.advance,
        n_streams=n_streams,
        engine=settings.engine,
    )


def _compute_entry(classifier: Classifier, imageset: ImageSet, settings: PassSettings, writer: EntryWriter) -> None:
    """Runs one pass into `writer`: finished; suspended where another may go on; or discarded on an error."""
    began, resumed = time.perf_counter(), writer.progress.n_seen
    try:
        run_pass(classifier, imageset, settings, writer)
        check_classes_left(imageset, writer.progress.skipped)
        writer.finish()
    except SalveError as error:
        if _is_short_of_memory(error):
            writer.suspend()
        elif getattr(error.__cause__, "errno", None) in FULL:
            full = _describe_full(classifier, imageset, writer)
            writer.suspend() if writer.n_saved else writer.discard()
            raise full from error
        else:
            writer.discard()
        raise
    except BaseException:
        writer.suspend()
        raise
    seconds = time.perf_counter() - began
    n_new = writer.progress.n_seen - resumed
    logger.info("%d images in %.1f s (%.0f/s), %d resumed", n_new, seconds, n_new / seconds, resumed)


def _is_short_of_memory(error: BaseException) -> bool:
    return is_out_of_memory(error) or is_out_of_memory(error.__cause__)


def _describe_full(classifier: Classifier, imageset: ImageSet, writer: EntryWriter) -> FullError:
    n_images, n_saved = len(imageset.fit.paths) + len(imageset.audit.paths), writer.n_saved
    needed = describe_bytes(4 * classifier.reader.fold(classifier.model).d * (n_images - n_saved) + SPARE_BYTES)
    why = f"the disk is full after {n_saved:,} of {n_images:,} images; the others need {needed}"
    hint = "make room and run it again: what is done is kept" if n_saved else HINT
    return FullError(str(writer.cache_dir), why, hint=hint)


def _to_split(acts: Float[np.ndarray, "n d"], split: ImageSplit, lost: set[str]) -> ActivationSplit:
    readable = [index for index, path in enumerate(split.paths) if path not in lost]
    labels = np.asarray(split.labels, np.int64)[readable]
    assert len(acts) == len(labels), f"{len(acts)} rows for {len(labels)} images"
    return ActivationSplit(acts, labels, tuple(split.paths[index] for index in readable))
