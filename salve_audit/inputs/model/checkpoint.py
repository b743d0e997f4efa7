"""Checkpoint to Classifier: read safely, built, filled and frozen, with its head and its transform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from salve_audit.inputs.labels.class_names import NamedClasses, choose_class_names, describe_class_names
from salve_audit.inputs.labels.label import says_labels
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.formats.sidecar import SETTINGS, sidecar_of
from salve_audit.inputs.model.formats.trusted import load_program
from salve_audit.inputs.model.head.search import find_head
from salve_audit.inputs.model.identify import Identified, identify
from salve_audit.inputs.model.keys import load_state
from salve_audit.inputs.model.onnx.loading import is_onnx, load_onnx
from salve_audit.inputs.model.timm_names import read_timm_name
from salve_audit.inputs.model.traceless import decide_flip, decide_unlike_torchvision
from salve_audit.inputs.model.transform import resolve_transform
from salve_audit.inputs.model.weights import Checkpoint, read_checkpoint
from salve_audit.inputs.names import show_name
from salve_audit.results.decisions import Decision
from salve_audit.results.transform import TransformSpec

N_LEFT_OUT = 5


def load_classifier(
    path: str | Path,
    arch: str | None = None,
    head: str | None = None,
    weights: str | None = None,
    trust: bool = False,
) -> Classifier:
    """The classifier in the checkpoint `path`.

    Args:
        path: a state_dict (nested or not; torch.save or safetensors), an ONNX file, a folder with config.json and
            weights, or, with `trust`, a TorchScript archive, a torch.export program or a pickled network.
        arch: timm name, ``torchvision:NAME``, or ``FILE.py:FUNCTION`` (naming the file is the consent to run it).
            None: as the checkpoint says, else by its tensors' names and shapes.
        head: dotted path of the final linear layer; None: found by itself.
        weights: dotted path of the state_dict to take, where the file has several.
        trust: let the file run code, if it cannot be read otherwise.

    Raises:
        CheckpointError: the file cannot be read, or fits no architecture or not the one named.
        HeadError: no final linear layer is found, or `head` names none.
    """
    if is_onnx(Path(path)):
        return load_onnx(Path(path), arch, head)
    checkpoint, identified = _load(read_checkpoint(path, weights, trust), arch)
    identified.network.model.eval().requires_grad_(False)
    return _assemble(checkpoint, identified, arch, head)


def _assemble(checkpoint: Checkpoint, identified: Identified, arch: str | None, head: str | None) -> Classifier:
    network = identified.network
    transform, decisions = resolve_transform(checkpoint, network)
    reader = find_head(network.model, transform.input_size, str(checkpoint.path), head)
    if says_labels(checkpoint.args, checkpoint.config) and reader.count_outputs(network.model) > 1:
        reader = replace(reader, per_label=True)
    n_classes = reader.count_classes(network.model)
    chosen, _ = choose_class_names(checkpoint.named, n_classes)
    return Classifier(
        model=network.model,
        architecture=network.architecture,
        format=checkpoint.format,
        path=checkpoint.path,
        sha256=checkpoint.sha256,
        head_name=reader.name,
        head_reader=reader,
        transform=transform,
        class_names=None if chosen is None else chosen.names,
        trusted_code=network.trusted_code or checkpoint.trusted,
        notes=(*_write_notes(checkpoint, arch, identified, transform), *reader.notes),
        build_key=network.build_key,
        weights_key=identified.weights_key,
        kwargs=network.kwargs,
        decisions=(
            *_decide_architecture(checkpoint, arch, identified),
            *identified.decisions,
            *decide_flip(checkpoint, network),
            *decide_unlike_torchvision(network.architecture, transform.mean),
            *decisions,
            *describe_class_names(checkpoint.named, n_classes),
            *_decide_class_map(checkpoint),
        ),
        class_order=replace(checkpoint.origin.class_order, lists=checkpoint.lists),
    )


def _decide_architecture(checkpoint: Checkpoint, arch: str | None, identified: Identified) -> tuple[Decision, ...]:
    """Which network the weights are taken for, and what said so."""
    name = identified.network.architecture
    if not checkpoint.weights or any(decision.what == "architecture" for decision in identified.decisions):
        return ()
    why = "names and shapes of its tensors"
    if arch is not None:
        why = "--arch"
    elif checkpoint.arch is not None and _plain_name(checkpoint.arch) == name:
        why = "the checkpoint names it, and its tensors fit"
    return (Decision("architecture", name, why),)


def _plain_name(arch: str) -> str:
    named = read_timm_name(arch)
    return arch if named is None else named.architecture


def _decide_class_map(checkpoint: Checkpoint) -> tuple[Decision, ...]:
    """The decision about a file with the order of classes that timm's script was given, which the checkpoint lacks."""
    given = checkpoint.args.get("class_map")
    if not isinstance(given, str) or not given or checkpoint.named:
        return ()
    conflict = "it numbered the classes: --classes FILE maps them in the same order"
    return (Decision("class map", "not read", f"args.class_map names {show_name(given)}", conflict),)


def _load(checkpoint: Checkpoint, arch: str | None) -> tuple[Checkpoint, Identified]:
    """The network with its weights; a program says more of itself than the file that holds it."""
    if checkpoint.weights:
        identified = identify(checkpoint, arch)
        load_state(
            str(checkpoint.path),
            identified.network.architecture,
            identified.network.model.float().cpu(),
            identified.state,
        )
        if checkpoint.trusted:
            ran = f"code in {checkpoint.path.name} was run to load it (--trust-model)"
            identified = replace(identified, notes=(*identified.notes, ran))
        return checkpoint, identified
    program = load_program(checkpoint)
    beside = sidecar_of(checkpoint.path).name
    listed = () if program.class_names is None else (NamedClasses(beside, program.class_names),)
    named = (*listed, *checkpoint.named)
    return replace(checkpoint, named=named), Identified(program.network, {}, "", program.notes)


def _write_notes(
    checkpoint: Checkpoint, arch: str | None, identified: Identified, transform: TransformSpec
) -> tuple[str, ...]:
    notes = list(identified.notes)
    casts = _list_casts(identified.state)
    if casts:
        notes.append(f"weights were cast from {', '.join(casts)} to float32")
    if arch and checkpoint.arch and _plain_name(arch) != _plain_name(checkpoint.arch):
        notes.append(f"--arch {arch} was used instead of the checkpoint's own {checkpoint.arch!r}")
    if checkpoint.left_out:
        shown = ", ".join(checkpoint.left_out[:N_LEFT_OUT]) + (", ..." if len(checkpoint.left_out) > N_LEFT_OUT else "")
        notes.append(f"objects beside the weights were left out unread, no code of theirs was run: {shown}")
    if checkpoint.sidecar.note is not None:
        notes.append(checkpoint.sidecar.note)
    if identified.network.default_source in transform.source:
        remedy = f"; {sidecar_of(checkpoint.path).name} beside it may say it ({', '.join(SETTINGS[:3])}, ...)"
        notes.append(
            f"how images are prepared is not all said by the checkpoint ({transform.source})"
            f"{'' if checkpoint.path.is_dir() else remedy}"
        )
    return tuple(notes)


def _list_casts(state: Mapping[str, torch.Tensor]) -> list[str]:
    kinds = {str(value.dtype) for value in state.values() if value.is_floating_point()} - {"torch.float32"}
    return [kind.removeprefix("torch.") for kind in sorted(kinds)]
