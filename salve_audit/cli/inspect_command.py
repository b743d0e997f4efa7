"""``salve-audit inspect MODEL [DATA]``: what the tool sees; runs no model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from salve_audit.cli.options import verbosity_options
from salve_audit.cli.printing import plain, set_up_logging
from salve_audit.errors import UsageError

if TYPE_CHECKING:
    from salve_audit.inputs import Classifier

MAX_NAMES = 12


@click.command("inspect")
@click.argument("model")
@click.argument("data", required=False)
@click.option("--arch", metavar="NAME|FILE.py:FUNCTION", help="Architecture, where the file does not say it.")
@click.option("--head", metavar="MODULE", help="The final linear layer, where it is not found.")
@click.option("--weights", metavar="KEY", help="Dotted path of the weights in MODEL, where it has several.")
@click.option("--trust-model", is_flag=True, help="Run the code in MODEL, if it needs that to load.")
@click.option("--classes", metavar="FILE", help="Lines 'class,output' that map classes of DATA to outputs by hand.")
@click.option(
    "--label", metavar="NAME", help="The label to show, where arrays have labels that do not exclude each other."
)
@click.option("--seed", type=int, default=0, help="Of the split  [default: 0]")
@verbosity_options
def command(model: str, data: str | None, verbose: int, quiet: bool, **flags: Any) -> int:
    """Show format, architecture, head, transform, classes and counts of MODEL and DATA."""
    set_up_logging(verbose, quiet)
    from salve_audit.inputs.arrays import is_array_file

    lines = _describe_arrays(model, data, flags) if is_array_file(Path(model)) else _describe_model(model, data, flags)
    width = max(map(len, lines))
    for name, value in lines.items():
        click.echo(f"{name.ljust(width)}  {plain(value)}")
    return 0


def _describe_arrays(model: str, data: str | None, flags: dict[str, Any]) -> dict[str, str]:
    from salve_audit.inputs.arrays import load_arrays

    if data is not None:
        raise UsageError("DATA", f"{model} holds activations, labels and head; nothing else is read")
    arrays = load_arrays(Path(model), flags["seed"], label=flags["label"])
    lines = {
        "arrays": str(arrays.path),
        "format": arrays.format,
        "head": f"{arrays.head.module}: {arrays.head.d} -> {arrays.head.n_classes}",
        "layout": arrays.layout,
        "samples": f"{len(arrays.fit.labels):,} to fit, {len(arrays.audit.labels):,} to audit",
        "classes": f"{len(arrays.classes)}: {_some(arrays.classes)}",
        "sha256": arrays.sha256,
    }
    return lines | {f"note {number}": note for number, note in enumerate(arrays.notes, 1)}


def _describe_model(model: str, data: str | None, flags: dict[str, Any]) -> dict[str, str]:
    from salve_audit.inputs import load_classifier

    classifier = load_classifier(
        Path(model), arch=flags["arch"], head=flags["head"], weights=flags["weights"], trust=flags["trust_model"]
    )
    spec = classifier.transform
    n_parameters = sum(p.numel() for p in classifier.model.parameters())
    size = "x".join(str(side) for side in spec.input_size)
    lines = {
        "model": str(classifier.path),
        "format": classifier.format,
        "weights": classifier.weights_key or "at the top level",
        "architecture": classifier.architecture,
        "parameters": f"{n_parameters:,}",
        "head": classifier.reader.describe(classifier.model),
        "input": f"{size}, {spec.interpolation}, crop {spec.crop_pct:g}, from: {spec.source}",
        "mean, std": f"{_numbers(spec.mean)}; {_numbers(spec.std)}",
        "class names": _some(classifier.class_names) if classifier.class_names else "not in the file",
        "sha256": classifier.sha256,
    }
    for number, note in enumerate(classifier.notes, 1):
        lines[f"note {number}"] = note
    if data is not None:
        lines.update(_describe_data(data, flags, classifier))
    return lines


def _describe_data(data: str, flags: dict[str, Any], classifier: Classifier) -> dict[str, str]:
    from salve_audit.inputs import load_images, match_classes
    from salve_audit.inputs.enlarged import describe_enlarged

    images = load_images(data, seed=flags["seed"])
    images = match_classes(images, classifier.n_outputs, classifier.class_names, flags["classes"])
    occupied = sorted({*images.fit.labels, *images.audit.labels})
    pairs = tuple(f"{images.classes[index]} = {index}" for index in occupied)
    lines = {
        "data": str(images.root),
        "layout": images.layout,
        "pictures": f"{len(images.fit.paths):,} to fit, {len(images.audit.paths):,} to audit",
        "classes": f"{len(images.classes)}, output 0 to {len(images.classes) - 1}: {_some(images.classes)}",
        "mapping": f"{images.mapping}: {_some(pairs)}",
    }
    if images.attributes:
        lines["attributes"] = _some(tuple(images.attributes))
    enlarged = describe_enlarged(classifier, images)
    return lines if enlarged is None else {**lines, "warning": enlarged}


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
