"""Checkpoint file to Classifier: read safely, built, filled and frozen, with its head and its transform."""

from __future__ import annotations

from pathlib import Path

from salve_audit.inputs.classifier import Classifier, TransformSpec
from salve_audit.inputs.heads.search import find_head
from salve_audit.inputs.keys import align_prefix, load_state
from salve_audit.inputs.network import build_network
from salve_audit.inputs.transform import FROM_CHECKPOINT, resolve_transform
from salve_audit.inputs.weights import Checkpoint, read_checkpoint


def load_classifier(path: str | Path, arch: str | None = None, head: str | None = None) -> Classifier:
    """The classifier in the checkpoint `path`.

    Args:
        path: a timm-style checkpoint (architecture, state_dict, args) or a bare state_dict.
        arch: timm name, or ``FILE.py:FUNCTION`` (naming the file is the consent to run it). None: as the
            checkpoint says.
        head: dotted path of the final linear layer; None: found by itself.

    Raises:
        CheckpointError: the file cannot be read or does not fit its architecture.
        HeadError: no final linear layer is found, or `head` names none.
    """
    checkpoint = read_checkpoint(path)
    network = build_network(checkpoint, arch)
    model = network.model.float().cpu()
    prefix, state = align_prefix(checkpoint.state, model)
    load_state(str(path), network.architecture, model, state, network.kwargs)
    model.eval().requires_grad_(False)
    transform = resolve_transform(checkpoint, network)
    reader = find_head(model, transform.input_size, str(path), head)
    return Classifier(
        model=model,
        architecture=network.architecture,
        format=checkpoint.format,
        path=checkpoint.path,
        sha256=checkpoint.sha256,
        head_name=reader.name,
        head_reader=reader,
        transform=transform,
        class_names=checkpoint.class_names,
        trusted_code=network.trusted_code,
        notes=(*_write_notes(checkpoint, arch, prefix, transform), *reader.notes),
        build_key=network.build_key,
    )


def _write_notes(checkpoint: Checkpoint, arch: str | None, prefix: str, transform: TransformSpec) -> tuple[str, ...]:
    notes = []
    if prefix:
        notes.append(f"the prefix {prefix!r} was stripped from the weights' names")
    casts = sorted({str(v.dtype) for v in checkpoint.state.values() if v.is_floating_point()} - {"torch.float32"})
    if casts:
        notes.append(f"weights were cast from {', '.join(casts).replace('torch.', '')} to float32")
    if arch and checkpoint.arch and arch != checkpoint.arch:
        notes.append(f"--arch {arch} was used instead of the checkpoint's own {checkpoint.arch!r}")
    if transform.source != FROM_CHECKPOINT:
        notes.append(f"how pictures are prepared is not all said by the checkpoint ({transform.source})")
    return tuple(notes)
