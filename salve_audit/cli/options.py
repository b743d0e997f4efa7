"""Options of an audit, and their merge: flag beats --config file beats [tool.salve-audit] beats default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from salve_audit.config import (
    DEEP_EDITS,
    DEPTHS,
    DEVICES,
    FORMATS,
    MADE_PICTURES,
    METHODS,
    PRECISIONS,
    SAE_VARIANTS,
    AuditConfig,
)
from salve_audit.config_file import read_settings

DEFAULT_OUT = "salve-report"


class CommaList(click.ParamType):  # type: ignore[type-arg]  # older clicks cannot be subscripted
    """A comma-separated list out of fixed words."""

    name = "list"

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        chosen = tuple(word.strip() for word in value.split(",") if word.strip())
        for word in chosen:
            if word not in self.words:
                self.fail(f"{word!r} is not one of {', '.join(self.words)}", param, ctx)
        return chosen


class Names(click.ParamType):  # type: ignore[type-arg]
    """A comma-separated list of any names; one word stands for the empty list."""

    name = "names"

    def __init__(self, empty: str) -> None:
        self.empty = empty

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip()) if value != self.empty else ()


_OPTIONS = [
    click.option("--arch", metavar="NAME|FILE.py:FUNCTION", help="Architecture, where the file does not say it."),
    click.option("--head", metavar="MODULE", help="The final linear layer, where it is not found."),
    click.option("--weights", metavar="KEY", help="Dotted path of the weights in MODEL, where it has several."),
    click.option("--trust-model", is_flag=True, default=None, help="Run the code in MODEL, if it needs that to load."),
    click.option("--classes", metavar="FILE", help="Lines 'class,output' that map classes of DATA to outputs by hand."),
    click.option("--label", metavar="NAME", help="The label to audit, where outputs do not exclude each other."),
    click.option("--out", metavar="DIR", help=f"Where results go  [default: {DEFAULT_OUT}; - with --format json]"),
    click.option("--format", type=CommaList(FORMATS), metavar="html,pdf,json", help="What is rendered  [default: all]"),
    click.option("--seed", type=int, help="Of split, autoencoder and resampling  [default: 0]"),
    click.option("--limit", type=int, metavar="N", help="At most N images per class and split."),
    click.option("--batch-size", type=int, metavar="N", help="Of the backbone pass  [default: 128]"),
    click.option("--workers", type=int, metavar="N", help="Processes that decode pictures  [default: by cores]"),
    click.option("--device", type=click.Choice(DEVICES), help="[default: auto]"),
    click.option("--precision", type=click.Choice(PRECISIONS), help="Of the backbone pass  [default: auto]"),
    click.option("--sae", type=click.Choice(SAE_VARIANTS), help="Autoencoder variant  [default: auto]"),
    click.option("--n-latents", type=int, metavar="N", help="Of the autoencoder  [default: chosen]"),
    click.option("--sae-seeds", type=int, metavar="N", help="1: auto takes the sparsest variant  [default: 5]"),
    click.option(
        "--concepts", type=Names("none"), metavar="COLUMNS", help="Of DATA, for supervised: a,b or none  [default: all]"
    ),
    click.option(
        "--interventions", type=CommaList(METHODS), metavar="LIST", help=f"Out of {', '.join(METHODS)}  [default: all]"
    ),
    click.option("--depth", type=click.Choice(DEPTHS), help="What classes rest on in the picture  [default: auto]"),
    click.option(
        "--depth-layers",
        type=Names("auto"),
        metavar="auto|NAME,...",
        help="Layers that concepts are told apart at (the first) and taken out of.",
    ),
    click.option("--deep-edits", type=click.Choice(DEEP_EDITS), help="Of layers before the head  [default: auto]"),
    click.option("--fail-under", type=float, metavar="X", help="Exit 1 when a class's alpha_hat flip median is below."),
    click.option("--fail-under-redundancy", type=int, metavar="N", help="Exit 1 when a redundancy at depth is below."),
    click.option("--fail-over-reliance", type=float, metavar="X", help="Exit 1 when a reliance at depth is above."),
    click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML file with these options."),
    click.option("--cache", metavar="DIR", help="Folder of cached activations  [default: the user's cache]"),
    click.option("--no-cache", is_flag=True, default=None, help="Keep no activations."),
    click.option("--keep-activations", is_flag=True, default=None, help="Also write activations.safetensors."),
    click.option("--no-images", is_flag=True, default=None, help="Keep all pictures out of the results."),
    click.option("--saliency-layer", metavar="MODULE", help="For heat maps  [default: the last spatial one]"),
    click.option(
        "--activation-maximisation", type=click.Choice(MADE_PICTURES), help="Pictures made from noise  [default: auto]"
    ),
]


def audit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All options of an audit."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return verbosity_options(command)


def verbosity_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--quiet and -v."""
    command = click.option("-v", "--verbose", count=True, help="Say more; tracebacks of errors.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Only results, warnings and errors.")(command)


def build_config(model: str, data: str | None, flags: dict[str, Any]) -> AuditConfig:
    """The configuration from flags, files and defaults.

    Raises:
        UsageError: a file has an unknown key or a value of the wrong type; names file and key.
    """
    file = flags.pop("config")
    settings = read_settings(file)
    no_cache = flags.pop("no_cache")
    if no_cache:
        settings["use_cache"] = False
    if flags.pop("no_images"):
        settings["images"] = False
    settings.update({key: value for key, value in flags.items() if value is not None})
    settings.setdefault("out", DEFAULT_OUT)
    return AuditConfig(model=model, data=data, **settings)
