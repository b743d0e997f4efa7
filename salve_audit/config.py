"""The options of an audit: every option is one field of `AuditConfig`.

A field's type, default and `Option` are the single place where an option is described. Flags, TOML keys, the settings
in audit.json and docs/options.md are derived from them, and errors name the key.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from salve_audit.errors import UsageError
from salve_audit.gate.policy import Policy, tighten
from salve_audit.gate.policy_file import load_policy
from salve_audit.gate.rules import MISMATCHES, SHORTHANDS, check_limit
from salve_audit.interventions.registry import METHODS
from salve_audit.options import (
    ARGUMENT,
    LIBRARY,
    OldSpelling,
    Option,
    check_options,
    declared_options,
    name_unknown,
)
from salve_audit.sae.variant_names import AUTO, SUPERVISED, VARIANT_NAMES

FORMATS = ("html", "pdf", "json")
DEVICES = ("auto", "cpu", "cuda")
DEFAULT_OUT = "salve-report"  # of the command line; the library writes nothing unless it is told where

# The headings under which help and documentation list the options, in this order.
SECTIONS = AUDITED, MEASURED, WRITTEN, LIMITS, MACHINE = (
    "What is audited",
    "What is measured",
    "What is written",
    "Limits",
    "Machine",
)


@name_unknown
@dataclass(frozen=True)
class AuditConfig:
    """Options of an audit, validated once and named as the flags of the command line.

    docs/options.md lists them with the help texts below.

    Raises:
        UsageError: a value has the wrong type, is out of range, or excludes another option; names the option.

    >>> import salve_audit
    >>> salve_audit.AuditConfig(model="model.pt", data="data/", limit=200).seed
    0
    >>> salve_audit.AuditConfig(model="model.pt", limit="60")
    Traceback (most recent call last):
    salve_audit.errors.UsageError: limit: expected int, got str
    """

    model: Annotated[
        str | Path,
        Option(
            "The checkpoint, or a file of arrays (activations, labels, head).",
            AUDITED,
            place=ARGUMENT,
            provenance=False,
        ),
    ]
    data: Annotated[
        str | Path | None,
        Option(
            "The labelled images; none for a file of arrays. Class folders and manifests may lie under a URL (s3://, "
            "gs://).",
            AUDITED,
            place=ARGUMENT,
            provenance=False,
        ),
    ] = None
    arch: Annotated[
        str | None,
        Option(
            "Architecture, where the file does not say it: a timm name or a function of your own.",
            AUDITED,
            metavar="NAME|FILE.py:FUNCTION",
        ),
    ] = None
    head: Annotated[
        str | None, Option("Dotted path of the final linear layer, where it is not found.", AUDITED, metavar="MODULE")
    ] = None
    weights: Annotated[
        str | None,
        Option(
            "Dotted path of the weights in MODEL, where it has several.", AUDITED, metavar="KEY", unset="the likeliest"
        ),
    ] = None
    trust_model: Annotated[
        bool,
        Option(
            "Run the code in MODEL, if it needs that to load: pickled modules, torch.export, TorchScript (deprecated).",
            AUDITED,
        ),
    ] = False
    classes: Annotated[
        str | Path | None,
        Option(
            "Lines 'class,output' that map classes of DATA to outputs by hand.",
            AUDITED,
            metavar="FILE",
            unset="by name, number or order",
            provenance=False,
        ),
    ] = None
    follow_links: Annotated[bool, Option("Read what links in DATA lead to outside of it.", AUDITED)] = False
    orientation: Annotated[
        str,
        Option(
            "EXIF orientation of images: stored ignores it, as torchvision's and timm's loaders do, upright turns "
            "images by it; auto is stored, and upright for a model of Hugging Face's.",
            AUDITED,
            choices=("auto", "stored", "upright"),
        ),
    ] = "auto"
    label: Annotated[
        str | None, Option("The label to audit, where outputs do not exclude each other.", AUDITED, metavar="NAME")
    ] = None
    out: Annotated[
        str | Path | None,
        Option(
            "Folder for the results, written all or nothing; - with --format json writes to stdout.",
            WRITTEN,
            metavar="DIR",
            unset=DEFAULT_OUT,
            provenance=False,
        ),
    ] = None
    format: Annotated[
        tuple[str, ...],
        Option(
            "What is rendered; samples.parquet and sae.safetensors are always written.",
            WRITTEN,
            metavar="html,pdf,json",
            choices=FORMATS,
            provenance=False,
        ),
    ] = FORMATS
    pdf: Annotated[
        str,
        Option(
            "How much the PDF holds; short leaves the appendix out.",
            WRITTEN,
            choices=("full", "short"),
            provenance=False,
        ),
    ] = "full"
    paper: Annotated[str, Option("Paper of the PDF.", WRITTEN, choices=("a4", "letter"), provenance=False)] = "a4"
    lang: Annotated[str, Option("Language of the report.", WRITTEN, choices=("en", "de"), provenance=False)] = "en"
    anonymise: Annotated[
        bool,
        Option(
            "Keep names of classes, files and folders out of the results; a key lies beside the folder, never in it.",
            WRITTEN,
            provenance=False,
        ),
    ] = False
    seed: Annotated[
        int,
        Option("Seed of the split, the autoencoder and every resampling.", MEASURED, metavar="N", least=0, most=2**62),
    ] = 0
    limit: Annotated[
        int | None, Option("At most N images per class and split.", AUDITED, metavar="N", least=1, unset="all")
    ] = None
    sample: Annotated[
        int | None,
        Option(
            "Audit a stratified sample of about N images, the same share of every class; intervals are those of the "
            "sample.",
            AUDITED,
            metavar="N",
            least=4,
            unset="all",
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        Option("Batch size of the backbone pass.", MACHINE, metavar="N", least=1, unset="by image size, at most 128"),
    ] = None
    workers: Annotated[
        int | None,
        Option(
            "Processes that decode images; on a CPU the threads of the pass do.",
            MACHINE,
            metavar="N",
            least=0,
            unset="by cores and device",
            provenance=False,
        ),
    ] = None
    device: Annotated[str, Option("Device of the networks.", MACHINE, choices=DEVICES)] = "auto"
    engine: Annotated[
        str,
        Option(
            "Who runs the backbone pass, trainings by seed, thresholds by class and image reliance: this process, or a "
            "Ray cluster (docs/scale.md).",
            MACHINE,
            choices=("local", "ray"),
            provenance=False,
        ),
    ] = "local"
    ray_address: Annotated[
        str | None,
        Option(
            "Address of the Ray cluster; auto is one that runs on this machine.",
            MACHINE,
            metavar="ADDRESS",
            unset="one is started for the audit",
            provenance=False,
        ),
    ] = None
    precision: Annotated[
        str,
        Option(
            "Precision of the backbone pass and of image reliance; auto is bf16 where a long pass on a CPU with units "
            "for it is faster and predicts the same.",
            MACHINE,
            choices=("auto", "fp32", "bf16"),
        ),
    ] = "auto"
    sae: Annotated[
        str,
        Option(
            "Variant of the autoencoder; auto tries several and takes the best.",
            MEASURED,
            metavar="VARIANT",
            choices=(AUTO, *VARIANT_NAMES),
        ),
    ] = AUTO
    n_latents: Annotated[
        int | None,
        Option("Latents of the autoencoder.", MEASURED, metavar="N", least=2, most=2**20, unset="chosen"),
    ] = None
    sae_seeds: Annotated[
        int | None,
        Option(
            "Autoencoders trained with other seeds side by side; with 1, stability is not measured and auto takes the "
            "sparsest variant.",
            MEASURED,
            metavar="N",
            least=1,
            most=100,
            unset="5, paper: 1",
        ),
    ] = None
    sae_budget: Annotated[
        float | None,
        Option(
            "Seconds after which the search for the autoencoder ends with what it has; the report says so.",
            MEASURED,
            metavar="SECONDS",
            least=1,
            unset="60, no limit on a GPU",
        ),
    ] = None
    attributes: Annotated[
        tuple[str, ...] | None,
        Option(
            "Columns of the manifest that the variant supervised knows besides the classes: a,b or none.",
            MEASURED,
            metavar="COLUMNS",
            unset="all",
            empty="none",
            old=OldSpelling("concepts", empty="none"),
        ),
    ] = None
    interventions: Annotated[
        tuple[str, ...],
        Option("Methods to compare.", MEASURED, metavar="LIST", choices=METHODS),
    ] = tuple(METHODS)
    deep_edits: Annotated[
        str,
        Option(
            "Edits of layers before the head, where SALVE and steering are compared and the architecture is known; "
            "auto leaves out those that take long.",
            MEASURED,
            choices=("auto", "on", "off"),
        ),
    ] = "auto"
    evidence: Annotated[
        str,
        Option(
            "Measure what the network depends on in the image; auto does where there are images and a spatial layer.",
            MEASURED,
            choices=("auto", "off"),
            old=OldSpelling("depth"),
        ),
    ] = "auto"
    evidence_layer: Annotated[
        str | None,
        Option(
            "The layer whose activations distinguish evidence regions.",
            MEASURED,
            metavar="MODULE",
            unset="the first block",
            old=OldSpelling("depth_layers", only="only one layer is looked at now", empty="auto"),
        ),
    ] = None
    evidence_budget: Annotated[
        int,
        Option(
            "Seconds for image reliance: the most fragile classes first, what is not finished by then is left out. A "
            "limit on image reliance or redundancy lifts it.",
            MEASURED,
            metavar="SECONDS",
            least=1,
        ),
    ] = 240
    fail_under: Annotated[
        float | None,
        Option("Exit 1 when the interval of a class's alpha_hat flip median lies below X.", LIMITS, metavar="X"),
    ] = None
    fail_under_redundancy: Annotated[
        int | None,
        Option("Exit 1 when the interval of a class's redundancy in the image lies below N.", LIMITS, metavar="N"),
    ] = None
    fail_over_reliance: Annotated[
        float | None,
        Option(
            "Exit 1 when the interval of a class's image reliance lies above X, in 0..1, and beyond chance.",
            LIMITS,
            metavar="X",
        ),
    ] = None
    policy: Annotated[
        str | Path | None,
        Option(
            "Policy that the audit is judged under: rules, severities, overrides of classes, exceptions.",
            LIMITS,
            metavar="FILE",
            unset="[tool.salve-audit.gate], if there is one",
            provenance=False,
        ),
    ] = None
    baseline: Annotated[
        str | Path | None,
        Option(
            "An earlier audit, for the policy's rules on losses.",
            LIMITS,
            metavar="AUDIT",
            unset="as the policy says",
            provenance=False,
        ),
    ] = None
    allow_mismatch: Annotated[
        tuple[str, ...],
        Option(
            "What audit and baseline need not share.",
            LIMITS,
            metavar="LIST",
            choices=MISMATCHES,
            provenance=False,
        ),
    ] = ()
    decide: Annotated[
        bool,
        Option(
            "Examine more images of the classes that the policy leaves undecided, for at most --evidence-budget.",
            LIMITS,
        ),
    ] = False
    cache: Annotated[
        str | Path | None,
        Option(
            "Folder, or URL (s3://, gs://), where activations and results of stages are kept for the next audit.",
            MACHINE,
            metavar="DIR",
            unset="the user's cache folder",
            provenance=False,
        ),
    ] = None
    cache_limit: Annotated[
        float,
        Option(
            "Size of the cache; beyond it the least recently used results are removed, never those in use.",
            MACHINE,
            metavar="GB",
            least=0,
            provenance=False,
        ),
    ] = 5.0
    use_cache: Annotated[
        bool,
        Option(
            "Keep results for the next audit, and use those kept.", MACHINE, negative="--no-cache", provenance=False
        ),
    ] = True
    keep_activations: Annotated[bool, Option("Also write activations.safetensors.", WRITTEN, provenance=False)] = False
    images: Annotated[
        bool, Option("Show images in the results; --no-images keeps every one out.", WRITTEN, negative="--no-images")
    ] = True
    saliency_layer: Annotated[
        str | None,
        Option(
            "The layer whose output heat maps are made of.", MEASURED, metavar="MODULE", unset="the last spatial one"
        ),
    ] = None
    activation_maximisation: Annotated[
        str,
        Option(
            "Feature visualisations, optimised from noise: of dominant features or of all that are shown; auto makes "
            "those of dominant features where there is a GPU.",
            MEASURED,
            choices=("auto", "off", "dominant", "all"),
        ),
    ] = "auto"
    progress: Annotated[
        bool, Option("Show a progress bar on a terminal.", MACHINE, place=LIBRARY, provenance=False)
    ] = False

    def __post_init__(self) -> None:
        if hasattr(self.model, "named_parameters"):
            hint = "audit_model(model, train, val) audits a module in memory"
            raise UsageError("model", f"expected str or Path, got {type(self.model).__name__}", hint=hint)
        check_options(AuditConfig, self)
        _check_combinations(self)

    @property
    def evidence_needed(self) -> bool:
        """True if a rule judges what is measured in the image, so that its cost is no reason to leave it out."""
        return policy_of(self).in_image


def _check_combinations(config: AuditConfig) -> None:
    if config.attributes is not None and config.sae != SUPERVISED:
        raise UsageError("attributes", f"{config.sae} knows no attributes", hint="only --sae supervised does")
    if config.ray_address is not None and config.engine != "ray":
        raise UsageError("ray_address", "is named, but the engine is local", hint="--engine ray")
    if config.evidence_layer is not None and config.evidence == "off":
        raise UsageError("evidence_layer", "is named, but evidence is off")
    if config.anonymise and (config.keep_activations or config.sae == SUPERVISED):
        what = "keep_activations" if config.keep_activations else "sae"
        raise UsageError("anonymise", f"{what} would write names", hint="leave one of the two out")
    if not config.format:
        raise UsageError("format", "name at least one of " + ", ".join(FORMATS))
    policy = policy_of(config)
    if policy.in_image and config.evidence == "off":
        needs = f" ({policy.source})" if policy.file else ""
        raise UsageError("evidence", f"is off, but a limit on redundancy or image reliance needs it{needs}")
    if config.decide and not policy.in_image:
        hint = "name a policy with --policy, or a limit such as --fail-over-reliance X"
        raise UsageError("decide", "there is no rule on what is measured in the image", hint=hint)


def policy_of(config: AuditConfig) -> Policy:
    """The policy file of the configuration, tightened by its limits; an empty one where there is neither.

    Raises:
        UsageError: the file cannot be read or has a wrong key, or a limit is out of range.
    """
    own = load_policy(config.policy) if config.policy is not None else Policy()
    return tighten(own, limits_of(config))


def limits_of(config: AuditConfig) -> dict[str, float]:
    """The limits that the configuration sets, by the names of their options.

    Raises:
        UsageError: one of them is out of range.
    """
    given = {name: getattr(config, name) for name in SHORTHANDS}
    return {name: check_limit(name, limit) for name, limit in given.items() if limit is not None}


@functools.cache
def measured_settings() -> frozenset[str]:
    """Names of the options that change what is measured; limits only change how it is judged."""
    options = declared_options(AuditConfig).items()
    return frozenset(name for name, option in options if option.about.provenance and option.about.section != LIMITS)


@functools.cache
def idle_settings() -> frozenset[str]:
    """Names of the options that change nothing in a result: places, formats, speed."""
    return frozenset(name for name, option in declared_options(AuditConfig).items() if not option.about.provenance)


def described(config: AuditConfig) -> Mapping[str, Any]:
    """The settings that change what is measured, for provenance: no paths, no speed knobs."""
    recorded = [name for name, option in declared_options(AuditConfig).items() if option.about.provenance]
    values = {name: getattr(config, name) for name in recorded}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
