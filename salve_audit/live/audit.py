"""The audit of a module in memory: the same line as for a file, on a copy of the module."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from salve_audit import __version__
from salve_audit.audit.judgement import choose_more_images, judge_audit, prepare_judgement
from salve_audit.audit.kept_files import keep_files
from salve_audit.audit.measure import measure, on_cluster
from salve_audit.audit.progress import Reporter, emit
from salve_audit.audit.publish import check_writable
from salve_audit.audit.recall import hash_listing
from salve_audit.audit.run import open_cache, write_audit
from salve_audit.audit.subject import INPUTS, Running, Subject, compute_subject, draw_images
from salve_audit.config import AuditConfig
from salve_audit.errors import UsageError
from salve_audit.inputs.reasons import nearest_names
from salve_audit.live.colours import Inverse, Shown
from salve_audit.live.images import read_images, with_classes
from salve_audit.live.module import require_module
from salve_audit.live.network import find_device, open_network
from salve_audit.live.output_names import check_names, choose_classes
from salve_audit.live.samples import Given
from salve_audit.live.undisturbed import undisturbed
from salve_audit.live.words import library_words
from salve_audit.options import declared_options
from salve_audit.results import AuditResult
from salve_audit.results.stale import mark_stale

OF_FILES = ("model", "data", "arch", "weights", "trust_model", "follow_links", "orientation", "classes", "workers")
TRACED = 4  # images that the head is looked for with


def audit_model(
    model: torch.nn.Module,
    train: Any,
    val: Any = None,
    *,
    classes: Sequence[str] | Mapping[int, str] | Mapping[str, int] | None = None,
    head: str | torch.nn.Module | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    inverse: Inverse | None = None,
    transform: Callable[[Any], Any] | None = None,
    name: str | None = None,
    **options: Any,
) -> AuditResult:
    """Audit a model in memory on labelled images in memory; the model is left as it is, bit for bit.

    The audit runs on a float32 copy in eval mode, on the model's device; random states are put back afterwards.

    Args:
        model: an `nn.Module` that returns logits (n, k), or an object with ``logits``; also wrapped by DataParallel,
            DistributedDataParallel or torch.compile, or a Lightning module.
        train: images to fit the autoencoder on: a Dataset of (image, label), a DataLoader, or (images, labels) with
            images (n, c, h, w) as the model takes them and labels (n,) in 0..k-1, or names out of `classes`.
        val: images to measure on, in the same forms; None: 40 % of each class of `train`.
        classes: k names in output order (a list, an array, an index of pandas), by output ({0: name}), or torchvision's
            ``class_to_idx``; None: those of the dataset, or of the model's configuration.
        head: the final linear layer, or its dotted path; None: found and verified.
        mean, std: with which images were normalised, for colours in 0..1 (or 0..255: they are divided by 255, and it is
            said); None: read off the dataset's own Normalize.
        inverse: in their place, from one image (c, h, w) to its colours in 0..1.
        transform: from what the dataset holds (PIL images, say) to a tensor (c, h, w); None: it holds tensors.
        name: of the model in reports; None: its class.
        options: of `AuditConfig`, such as ``seed``, ``limit``, ``sae``, ``evidence_budget``, ``out``, ``use_cache``.

    Returns:
        The result; see `AuditResult` for what can be done with it.

    Raises:
        SalveError: the model or the data cannot be used, or an option is wrong.

    >>> import torch, salve_audit
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> images, labels = torch.rand(60, 3, 4, 4), torch.arange(60) % 2
    >>> quick = {"sae": "linear-l1", "sae_seeds": 1, "interventions": ["salve"], "evidence": "off", "use_cache": False}
    >>> result = salve_audit.audit_model(model, (images, labels), classes=["cat", "dog"], **quick)
    >>> result["cat"].n, result.model.head
    (12, '3')
    """
    module = require_module(model)
    device = find_device(module)
    config = _configure(name or type(module).__name__, name_head(module, head), device, options)
    named = check_names(classes)
    shown = Shown(mean, std, inverse)
    given = Given("train", train, transform), None if val is None else Given("val", val, transform)
    index = device.index if device.type == "cuda" else None
    on_device = torch.cuda.device(index) if index is not None else nullcontext()
    with library_words(), undisturbed(config.seed), on_device:
        return _run(module, given, shown, named, config)


def _configure(name: str, head: str | None, device: torch.device, options: dict[str, Any]) -> AuditConfig:
    known = declared_options(AuditConfig)
    for key in options:
        if key not in known or key in OF_FILES:
            usable = [option for option in known if option not in OF_FILES]
            near = nearest_names(key, usable) or usable
            why = "is an option of audits of files" if key in known else "is no option"
            raise UsageError(key, why, hint=f"options: {', '.join(near)}")
    options.setdefault("device", "cuda" if device.type == "cuda" else "cpu")
    return AuditConfig(model=name, head=head, workers=0, **options)


def _run(
    model: torch.nn.Module,
    given: tuple[Given, Given | None],
    shown: Shown,
    classes: Sequence[str] | None,
    config: AuditConfig,
) -> AuditResult:
    reporter = Reporter(bars=config.progress)
    if config.out is not None:
        check_writable(Path(config.out))
        mark_stale(Path(config.out), f"an audit of {config.model} that started later has not finished")
    name = str(config.model)
    emit("audit_started", f"salve-audit {__version__}: {name}", logging.DEBUG, version=__version__, model=name)
    judgement, cache = prepare_judgement(config), open_cache(config)
    more = functools.partial(choose_more_images, judgement) if config.decide else None
    with on_cluster(config):
        subject = _load(model, given, shown, classes, Running(config, reporter, cache.remote))
        measured = measure(config, reporter, cache, more, subject).measured()
    judged = judge_audit(judgement, measured.result, measured.samples)
    measured = dataclasses.replace(measured, result=judged)
    if config.out is not None:
        with reporter.stage("report", "numbers judged and written down"):
            write_audit(measured, config, cache)
    reporter.tell_finished()
    return keep_files(measured, config)


def _load(
    model: torch.nn.Module,
    given: tuple[Given, Given | None],
    shown: Shown,
    classes: Sequence[str] | None,
    running: Running,
) -> Subject:
    config = running.config
    with running.reporter.stage("inputs", INPUTS):
        live = read_images(*given, shown, config.seed, config.limit, classes)
        network = open_network(model, live.first(TRACED), live.spec, config.head, str(config.model))
        names, how = choose_classes(network, live, classes)
        listing = hash_listing(live.images)
        images, sampled = draw_images(with_classes(live, names, how).images, config)
    noted = dataclasses.replace(network.classifier, notes=(*network.classifier.notes, *live.notes, *sampled))
    return compute_subject(noted, images, running, listing)


def name_head(model: torch.nn.Module, head: object) -> str | None:
    """The dotted path of the head.

    Raises:
        UsageError: it is neither a path nor a layer of this model.
    """
    if head is None or isinstance(head, str):
        return head
    path = next((path for path, module in model.named_modules() if module is head), None)
    if path is None and isinstance(head, torch.nn.Module):
        why = f"this {type(head).__name__} is no layer of the model"
        linear = [path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
        last = f"; its last linear layer is {linear[-1]!r}" if linear else ""
        hint = f"a layer of another instance, or of a copy, is named by its dotted path{last}"
        raise UsageError("head", why, hint=hint)
    if path is None:
        raise UsageError("head", f"expected a dotted path or a layer of the model, got {type(head).__name__}")
    return path
