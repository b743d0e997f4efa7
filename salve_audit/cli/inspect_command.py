"""``salve-audit inspect MODEL [DATA]``: what the tool sees; runs no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from salve_audit.cli.arguments import check_subject
from salve_audit.cli.options import SectionedCommand, shared_option, verbosity_options
from salve_audit.cli.printing import set_up_logging
from salve_audit.errors import UsageError
from salve_audit.results.plain_text import plain

if TYPE_CHECKING:
    from salve_audit.inputs.model.classifier import Classifier
    from salve_audit.results import Decision

MAX_NAMES = 12
SHOWN_ELSEWHERE = ("num_classes", "in_chans")
MAX_NAME, MAX_ARGUMENTS = 48, 160  # characters


@click.command("inspect", cls=SectionedCommand)
@click.argument("model", type=click.Path())
@click.argument("data", required=False, type=click.Path())
@shared_option("arch")
@shared_option("head")
@shared_option("weights")
@shared_option("trust_model")
@shared_option("classes")
@shared_option("follow_links")
@shared_option("orientation")
@shared_option("label", help="The label to show, where arrays have labels that do not exclude each other.")
@shared_option("seed", help="Seed of the split  [default: 0]")
@verbosity_options
def command(model: str, data: str | None, verbose: int, quiet: bool, **flags: Any) -> int:
    """Show format, architecture, head, transform, classes and counts of MODEL and DATA."""
    set_up_logging(verbose, quiet)
    check_subject("salve-audit inspect", model, data)
    from salve_audit.inputs.arrays.array_file import is_array_file

    lines = _describe_arrays(model, data, flags) if is_array_file(Path(model)) else _describe_model(model, data, flags)
    width = max(map(len, lines))
    for name, value in lines.items():
        click.echo(f"{name.ljust(width)}  {plain(value)}")
    return 0


def _describe_arrays(model: str, data: str | None, flags: dict[str, Any]) -> dict[str, str]:
    from salve_audit.inputs.arrays.arrayset import load_arrays
    from salve_audit.inputs.labels.label import LabelNeededError

    inapplicable = {"DATA": data, **{f"--{name}": flags[name] for name in ("arch", "head", "weights", "classes")}}
    for option, value in inapplicable.items():
        if value is not None:
            raise UsageError(option, f"{model} holds activations, labels and head; nothing else is read")
    labels: tuple[str, ...] = ()
    try:
        arrays = load_arrays(Path(model), flags["seed"], label=flags["label"])
    except LabelNeededError as needed:
        labels = needed.names
        arrays = load_arrays(Path(model), flags["seed"], label=labels[0])
    names = labels or arrays.classes
    each = " labels that do not exclude each other, --label NAME chooses one"
    lines = {
        "arrays": str(arrays.path),
        "format": arrays.format,
        "head": f"{arrays.head.module}: {arrays.head.d} -> {len(labels) or arrays.head.n_classes}",
        "layout": arrays.layout,
        "samples": f"{len(arrays.fit.labels):,} to fit, {len(arrays.audit.labels):,} to audit",
        "classes": f"{len(names)}{each if labels else ''}: {_some(tuple(map(_short, names)))}",
        "sha256": arrays.sha256,
    }
    notes = arrays.notes[:-1] if labels else arrays.notes  # the last is about the label that stands for all
    return lines | {f"note {number}": note for number, note in enumerate(notes, 1)}


def _describe_model(model: str, data: str | None, flags: dict[str, Any]) -> dict[str, str]:
    from salve_audit.inputs.model.checkpoint import load_classifier

    classifier = load_classifier(
        Path(model), arch=flags["arch"], head=flags["head"], weights=flags["weights"], trust=flags["trust_model"]
    )
    if flags["orientation"] != "auto":
        classifier = classifier.with_orientation(flags["orientation"], "--orientation")
    spec = classifier.transform
    n_parameters = sum(p.numel() for p in classifier.model.parameters())
    size = "x".join(str(side) for side in spec.input_size)
    lines = {
        "model": str(classifier.path),
        "format": classifier.format,
        "weights": classifier.weights_key or "at the top level",
        "architecture": classifier.architecture,
        **_arguments(classifier),
        "parameters": f"{n_parameters:,}",
        "head": classifier.reader.describe(classifier.model),
        "input": f"{size}, {spec.interpolation}, {spec.crop_mode} crop {spec.crop_pct:g}, from: {spec.source}",
        "mean, std": f"{_numbers(spec.mean)}; {_numbers(spec.std)}",
        "class names": _some(tuple(map(_short, classifier.class_names)))
        if classifier.class_names
        else "not in the file",
        "sha256": classifier.sha256,
    }
    for number, note in enumerate(classifier.notes, 1):
        lines[f"note {number}"] = note
    if data is None:
        return lines | _describe_decisions(classifier.decisions)
    return lines | _describe_data(data, flags, classifier)


def _describe_data(data: str, flags: dict[str, Any], classifier: Classifier) -> dict[str, str]:
    from salve_audit.inputs.data.datasets import load_images
    from salve_audit.inputs.labels.matching import match_classes
    from salve_audit.inputs.model.decisions import list_decisions
    from salve_audit.inputs.model.enlarged import describe_enlarged

    images = load_images(data, seed=flags["seed"], follow_links=flags["follow_links"])
    images = match_classes(
        images, classifier.n_outputs, classifier.class_names, flags["classes"], classifier.class_order
    )
    pairs = tuple(
        f"{_short(name)} = {output}{f' ({_short(own)})' if (own := images.classes[output]) != name else ''}"
        for name, output in sorted(images.pairs, key=lambda pair: pair[1])
    )
    n_occupied, n = len({output for _, output in images.pairs}), len(images.classes)
    share = f"{n:,}, all outputs" if n_occupied == n else f"{n_occupied:,} of {n:,} outputs"
    lines = {
        "data": str(images.root),
        "layout": images.layout,
        "images": f"{len(images.fit.paths):,} to fit, {len(images.audit.paths):,} to audit",
        "classes": f"{share}: {_some(pairs)}",
        "mapping": images.mapping.partition("; ")[0],
    }
    if images.attributes:
        lines["attributes"] = _some(tuple(map(_short, images.attributes)))
    lines |= _describe_decisions(list_decisions(classifier, images))
    enlarged = describe_enlarged(classifier, images)
    return lines if enlarged is None else {**lines, "warning": enlarged}


def _describe_decisions(decisions: Sequence[Decision]) -> dict[str, str]:
    """A row for each choice between readings; those that something contradicts are warnings."""
    rows = {}
    for number, decision in enumerate(decisions, 1):
        rows[f"{'warning' if decision.conflict else 'taken'} {number}"] = str(decision)
    return rows


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _short(name: str, longest: int = MAX_NAME) -> str:
    return name if len(name) <= longest else f"{name[: longest // 2]}…{name[-longest // 2 + 1 :]}"


def _arguments(classifier: Classifier) -> dict[str, str]:
    """The arguments of the architecture besides those that other rows show."""
    shown = ", ".join(f"{name}={value}" for name, value in classifier.kwargs.items() if name not in SHOWN_ELSEWHERE)
    return {"arguments": _short(shown, MAX_ARGUMENTS)} if shown else {}


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
