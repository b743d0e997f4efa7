"""An edit from end to end: the audit read, the head edited, the checkpoint written, run, and only then published."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from salve_audit.activations.device import choose_device, choose_workers
from salve_audit.activations.images import LoaderSettings
from salve_audit.activations.streams import choose_batch_size
from salve_audit.audit.progress import Reporter
from salve_audit.audit.saved import check_model, load_saved_audit
from salve_audit.edit.apply import AppliedStep, EditedHead, apply_steps, describe_steps
from salve_audit.edit.concept import ConceptEdit, apply_concept_steps
from salve_audit.edit.deep import DeepEdit, apply_deep_steps
from salve_audit.edit.deep_verify import Passes, verify_deep
from salve_audit.edit.output import check_model_out, staged
from salve_audit.edit.plan import CONCEPT, EditRequest, Target, find_target
from salve_audit.edit.record import hash_tensors, make_record
from salve_audit.edit.source import Source, check_editable, open_source
from salve_audit.edit.subject import EditSubject, load_edit_subject, recall
from salve_audit.edit.tensors import unfold
from salve_audit.edit.verify import Expected, Verification, predict, run_model, unit_roundoff, verify
from salve_audit.edit.write import Change, apply_changes, change_tensor, list_left_out, read_earlier, write_checkpoint
from salve_audit.errors import UsageError
from salve_audit.inputs.arrays.array_file import is_array_file
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.network import is_known
from salve_audit.inputs.model.weights import read_checkpoint
from salve_audit.results.transform import TransformSpec

log = logging.getLogger(__name__)
SLACK = 1e-9


@dataclass(frozen=True)
class EditOutcome:
    """The outcome of an edit.

    Attributes:
        steps: in words, with their strengths.
        changed: dotted paths of the tensors that changed, with their types.
        weight_change, bias_change: ``‖W' − W‖_F / ‖W‖_F`` of the folded head, and the same of its bias; of the layers
            that a deep edit changes, BatchNorm folded in; of the modules that a concept is removed from.
        verification: accuracies; None: there were no activations to predict them from.
        record: what the file says.
    """

    steps: tuple[str, ...]
    changed: tuple[str, ...]
    weight_change: float
    bias_change: float
    verification: Verification | None
    record: dict[str, Any]


def run_edit(request: EditRequest) -> EditOutcome:
    """Writes the edited checkpoint to `request.out`, all or nothing.

    Raises:
        SalveError: an input cannot be used, the edit cannot be written into this model, or the written model does
            not do what was predicted; nothing is left at `request.out`.
    """
    reporter = Reporter(bars=request.progress)
    audit = load_saved_audit(request.audit)
    request = recall(request, audit.result)
    if request.data is None and request.verify:
        request = dataclasses.replace(request, data=_find_data(request, audit.result.data.root))
    targets = [find_target(step, audit.result, audit.sae.concepts) for step in request.steps]
    _check_request(request, audit.result.data.root)
    with reporter.stage("inputs"):
        checkpoint = read_checkpoint(request.model, request.weights, request.trust_model)
        check_model(audit, request.model, checkpoint.sha256)
        source = open_source(checkpoint, request.arch, request.weights)
        subject = load_edit_subject(request, audit, reporter.advance)
    with reporter.stage("edit"):
        edited, values = _edit(targets, request, subject)
        changes = [change_tensor(source, name, new_value) for name, new_value in values.items()]
        hashes = {
            "before": hash_tensors(source.list_tensors()),
            "after": hash_tensors(apply_changes(source, changes).list_tensors()),
        }
        notes = {} if isinstance(edited, EditedHead) else edited.notes
        done = {"tensors": [change.place.describe() for change in changes], "weights_sha256": hashes, **notes}
        record = make_record(audit, edited.steps, done, request.verify, read_earlier(source, changes[0]))
    with staged(request.model, request.out) as target:
        with reporter.stage("checkpoint"):
            write_checkpoint(source, changes, record, target)
        with reporter.stage("verification" if request.verify else "prediction"):
            verification = _verify(request, subject, edited, changes, target)
    _warn(source)
    if verification is not None:
        _warn_moved(edited.steps, verification, audit.result.data.classes)
    return EditOutcome(
        steps=describe_steps(edited.steps, audit.result.data.classes),
        changed=tuple(
            f"{change.place.describe()} ({str(change.tensor.dtype).removeprefix('torch.')})" for change in changes
        ),
        weight_change=edited.weight_change,
        bias_change=edited.bias_change,
        verification=verification,
        record=record,
    )


def _find_data(request: EditRequest, name: str) -> Path | None:
    """The images where they probably still are: here, beside the audit, or beside the model; their hash is compared.

    An audit holds the name of its data alone, no path of the machine that it was made on.
    """
    audit = request.audit if request.audit.is_dir() else request.audit.parent
    places = (Path.cwd(), audit.absolute().parent, request.model.absolute().parent)
    plain = bool(name) and Path(name).name == name
    return next((place / name for place in places if plain and (place / name).exists()), None)


def _check_request(request: EditRequest, data_root: str) -> None:
    """Checks all of the request that can be refused before anything is loaded."""
    if is_array_file(request.model):
        raise UsageError("MODEL", f"{request.model} holds arrays and no model", hint="name the checkpoint")
    check_editable(request.model)
    check_model_out(request.model, request.out, request.force)
    if request.verify and request.data is None:
        why = f"the audit's images ({data_root}) are needed: the edited model is run on them"
        raise UsageError("--data", why, hint="name them with --data DIR; --no-verify writes without that verification")


def _edit(
    targets: Sequence[Target], request: EditRequest, subject: EditSubject
) -> tuple[EditedHead | DeepEdit | ConceptEdit, Mapping[str, np.ndarray]]:
    """The edit and the new values of the network's parameters."""
    if request.is_deep:
        apply_them = apply_concept_steps if targets[0].step.method == CONCEPT else apply_deep_steps
        edit = apply_them(targets, subject, _passes(request, subject.classifier.transform).loading)
        return edit, edit.values
    edited = apply_steps(targets, subject.evidence)
    return edited, unfold(subject.classifier, edited, subject.label)


def _passes(request: EditRequest, transform: TransformSpec) -> Passes:
    device = choose_device(request.device)
    batch_size = choose_batch_size(request.batch_size, transform.input_size[1:], device)
    return Passes(device, LoaderSettings(batch_size, choose_workers(request.workers, device)))


def _verify(
    request: EditRequest,
    subject: EditSubject,
    edited: EditedHead | DeepEdit | ConceptEdit,
    changes: Sequence[Change],
    target: Path,
) -> Verification | None:
    """Predicted accuracies and, unless it is not wanted, those of the model in the file that was written."""
    if not isinstance(edited, EditedHead):
        if not request.verify:  # nothing but runs of the network could say what it will do
            return None
        dtypes = [change.tensor.dtype for change in changes]
        passes = _passes(request, subject.classifier.transform)
        return verify_deep(edited, subject, _load_written(request, subject, target), dtypes, passes)
    classifier, evidence = subject.classifier, subject.evidence
    if evidence.splits is None:
        return None
    expected = Expected(
        edited=edited,
        split=evidence.splits[1],
        classes=evidence.audit.result.data.classes,
        label=subject.label,
        rounding=unit_roundoff([change.tensor.dtype for change in changes]),
    )
    if not request.verify or subject.images is None:
        return predict(expected)
    written, passes = _load_written(request, subject, target), _passes(request, classifier.transform)
    outputs = run_model(written, subject.images.reader, subject.paths, passes.device, passes.loading)
    return verify(expected, classifier, outputs)


def _load_written(request: EditRequest, subject: EditSubject, target: Path) -> Classifier:
    # another file name may suggest another of several architectures that share all names and shapes
    name = subject.classifier.architecture
    arch = request.arch or (name if is_known(name) else None)
    written = load_classifier(target, arch, subject.classifier.head_name, request.weights, request.trust_model)
    return dataclasses.replace(written, transform=subject.classifier.transform)


def _warn(source: Source) -> None:
    for key in source.others:
        log.warning("the weights at %r in the file are left as they were: who loads those gets no edit", key)
    left_out = list_left_out(source)
    if left_out:
        log.warning("left out of the folder's copy (weights without the edit, subfolders): %s", ", ".join(left_out))


def _warn_moved(steps: Sequence[AppliedStep], verification: Verification, classes: Sequence[str]) -> None:
    """An accuracy asked for holds where its edit was made; those after it may move the class again."""
    predicted = {check.name: check.predicted for check in verification.classes}
    for step in steps[:-1]:
        level, index = step.target.step.to_accuracy, step.target.class_index
        if level is None or index is None:
            continue
        name = classes[index]
        if predicted[name] > level + SLACK:
            share, wanted = 100 * predicted[name], 100 * level
            log.warning("%s was brought to %g %%, and later edits take it to %.1f %%", name, wanted, share)
