"""What an audit is asked to do, validated once; errors name the key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salve_audit.errors import UsageError
from salve_audit.limits import Limits

FORMATS = ("html", "pdf", "json")
DEPTHS = ("auto", "off")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16")
MADE_PICTURES = ("auto", "off", "dominant", "all")
SAE_VARIANTS = (
    "auto",
    "linear-l1",
    "relu-l1",
    "topk",
    "signed-topk",
    "batchtopk",
    "matryoshka",
    "gated",
    "jumprelu",
    "supervised",
    "paper",
)
METHODS = (
    "salve",
    "steering",
    "rome",
    "rome-paper",
    "rome-cov",
    "ablation",
    "leace",
    "inlp",
    "mean-difference",
    "last-layer-retraining",
    "row-scaling",
    "null-permuted",
    "null-random",
)

DEEP_EDITS = ("auto", "off")


@dataclass(frozen=True)
class AuditConfig:
    """Options of an audit, with the names of the command line's flags.

    Attributes:
        model: the checkpoint file, or a file of arrays (activations, labels, head).
        data: the folder of labelled images; None where `model` is a file of arrays.
        arch: timm architecture name or ``FILE.py:FUNCTION``; None: as the checkpoint says.
        head: dotted path of the final linear layer; None: found by itself.
        weights: dotted path of the weights in the checkpoint, where it has several; None: the likeliest.
        trust_model: run the code in a checkpoint that cannot be read without it.
        classes: file that maps classes of the data to outputs by hand; None: by name, number or order.
        label: the label to audit, where the outputs do not exclude each other (multi-label); None: they do.
        out: folder for the results, written all or nothing; None: nothing is written.
        format: which of html, pdf, json are rendered; samples.parquet and sae.safetensors are always written.
        seed: of the split, the SAE and every resampling.
        limit: at most so many images per class and split; None: all.
        batch_size: of the backbone pass.
        workers: processes that decode pictures; None: chosen by cores and device.
        device: auto, cpu or cuda.
        precision: of the backbone pass: auto (fp32 on the CPU), fp32 or bf16.
        sae: variant of the autoencoder; ``auto``: several are trained, the best is taken.
        n_latents: its number of latents; None: chosen.
        sae_seeds: autoencoders trained with other seeds side by side; 1: stability is not measured. None: 5 (paper: 1).
        concepts: columns of the manifest that ``supervised`` knows beside the classes; None: all of them.
        interventions: methods to compare.
        deep_edits: auto: beside SALVE and steering, where both are compared and the architecture is known; or off.
        depth: reliance at depth: ``auto`` (where there are pictures and a spatial layer) or ``off``.
        depth_layers: modules at which concepts are looked at; the first tells them apart. Empty: the first block.
        fail_under: smallest acceptable alpha-hat flip median, or None.
        fail_under_redundancy: smallest acceptable redundancy at depth, or None.
        fail_over_reliance: largest acceptable reliance at depth, in 0..1, or None.
        cache: folder of cached activations; None: the user's cache folder. `use_cache` False: none is kept.
        keep_activations: also write activations.safetensors.
        images: show pictures and heat maps; False: audit.json and the report hold no pixel of the data.
        saliency_layer: module whose output heat maps are made of; None: the last spatial layer, found by itself.
        activation_maximisation: features that pictures are made for from noise: off, dominant or all of those shown;
            auto: dominant ones where there is a GPU.
        progress: show a progress bar on a terminal.
    """

    model: str | Path
    data: str | Path | None = None
    arch: str | None = None
    head: str | None = None
    weights: str | None = None
    trust_model: bool = False
    classes: str | Path | None = None
    label: str | None = None
    out: str | Path | None = None
    format: tuple[str, ...] = FORMATS
    seed: int = 0
    limit: int | None = None
    batch_size: int = 128
    workers: int | None = None
    device: str = "auto"
    precision: str = "auto"
    sae: str = "auto"
    n_latents: int | None = None
    sae_seeds: int | None = None
    concepts: tuple[str, ...] | None = None
    interventions: tuple[str, ...] = METHODS
    deep_edits: str = "auto"
    depth: str = "auto"
    depth_layers: tuple[str, ...] = ()
    fail_under: float | None = None
    fail_under_redundancy: int | None = None
    fail_over_reliance: float | None = None
    cache: str | Path | None = None
    use_cache: bool = True
    keep_activations: bool = False
    images: bool = True
    saliency_layer: str | None = None
    activation_maximisation: str = "auto"
    progress: bool = False

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_numbers(self)


def _check_choices(config: AuditConfig) -> None:
    choices = {"depth": DEPTHS, "device": DEVICES, "precision": PRECISIONS, "sae": SAE_VARIANTS}
    choices |= {"deep_edits": DEEP_EDITS, "activation_maximisation": MADE_PICTURES}
    for key, allowed in choices.items():
        value = getattr(config, key)
        if value not in allowed:
            raise UsageError(key, f"{value!r} is not one of {', '.join(allowed)}")
    for key, allowed in {"format": FORMATS, "interventions": METHODS}.items():
        for value in getattr(config, key):
            if value not in allowed:
                raise UsageError(key, f"{value!r} is not one of {', '.join(allowed)}")
    if config.concepts is not None and config.sae != "supervised":
        raise UsageError("concepts", f"{config.sae} knows no concepts", hint="only --sae supervised does")
    if config.depth_layers and config.depth == "off":
        raise UsageError("depth_layers", "are named, but depth is off")
    if not config.format:
        raise UsageError("format", "name at least one of " + ", ".join(FORMATS))


def _check_numbers(config: AuditConfig) -> None:
    least = {"limit": 1, "batch_size": 1, "workers": 0, "n_latents": 2, "sae_seeds": 1, "seed": 0}
    for key, minimum in least.items():
        value = getattr(config, key)
        if value is not None and value < minimum:
            raise UsageError(key, f"{value} is below {minimum}")
    most = {"seed": 2**62, "n_latents": 2**20, "sae_seeds": 100}
    for key, maximum in most.items():
        value = getattr(config, key)
        if value is not None and value > maximum:
            raise UsageError(key, f"{value} is above {maximum}")
    if limits_of(config).at_depth and config.depth == "off":
        raise UsageError("depth", "is off, but a limit on redundancy or reliance at depth needs it")


def limits_of(config: AuditConfig) -> Limits:
    """The limits that the configuration asks for."""
    return Limits(config.fail_under, config.fail_under_redundancy, config.fail_over_reliance)


def config_keys() -> tuple[str, ...]:
    """The keys a configuration file may have."""
    return tuple(f.name for f in dataclasses.fields(AuditConfig) if f.name not in ("model", "data"))


def described(config: AuditConfig) -> Mapping[str, Any]:
    """The settings that change what is measured, for provenance: no paths, no speed knobs."""
    without = {
        "model",
        "data",
        "classes",
        "out",
        "format",
        "workers",
        "cache",
        "use_cache",
        "keep_activations",
        "progress",
    }
    values = {key: value for key, value in dataclasses.asdict(config).items() if key not in without}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
