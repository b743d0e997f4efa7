"""The adapters between stages, in the order of the line: what each stage is given, or why it is left out."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from salve_audit.activations.device import choose_device, choose_workers
from salve_audit.activations.room import reserve
from salve_audit.activations.spread import spread_rows
from salve_audit.activations.store import Activations, ActivationSplit
from salve_audit.audit.disk_needs import MOST_CODES
from salve_audit.audit.stage_runner import Given
from salve_audit.audit.subject import Subject
from salve_audit.config import AuditConfig
from salve_audit.data_check.duplicates import Split
from salve_audit.data_check.stage import DataCheckInputs, check_data
from salve_audit.evidence.second_look import look_again
from salve_audit.evidence.stage import (
    TRACED,
    EvidenceInputs,
    EvidenceOutcome,
    absent_evidence,
    choose_evidence_layer,
    measure_evidence,
    read_first_images,
)
from salve_audit.inputs.data.masks import find_masks
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.interventions.comparison import Comparison, ComparisonInputs, SeedFeatures
from salve_audit.interventions.deep.comparison import DeepInputs, compare_deep_edits
from salve_audit.interventions.registry import METHODS
from salve_audit.machine import available_memory
from salve_audit.mapped_pages import release_pages
from salve_audit.reliance.assess import Reliance, RelianceInputs, assess_reliance
from salve_audit.reliance.features import FeatureUse, describe_blocks
from salve_audit.reliance.scaling import Samples
from salve_audit.reliance.spread import OtherSeed
from salve_audit.results import DataCheck, DeepComparison, FeatureInfo, SaeFidelity, SaeInfo, Seeing, nothing_seen
from salve_audit.sae.metrics import measure_quality
from salve_audit.sae.models import CHUNK_ROWS, TrainedSae
from salve_audit.sae.normalisation import read_rows
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import SaeOutcome, train_sae
from salve_audit.sae.supervised_concepts import gather_concepts
from salve_audit.sae.variant_names import PAPER, SUPERVISED
from salve_audit.saliency.drawing import DrawingInputs, find_layer
from salve_audit.saliency.gallery import choose_images
from salve_audit.saliency.shown_source import shown_source
from salve_audit.saliency.stage import SeeingInputs, see_features
from salve_audit.saliency.visualisation import VisualisationInputs, add_visualisations
from salve_audit.stress.stage import StressInputs, StressOutcome, stress_edits
from salve_audit.tasks import map_threads

TRANSFORMERS = ("vit", "deit", "beit", "eva", "cait", "swin", "maxvit", "flexivit")  # by the start of timm's names
SAE_BUDGET = 60.0  # seconds
CODES_SHARE = 0.125  # of the memory that is left which codes may take
MOST_COMPARED = 1.2e8  # activations and logits that edits are compared on, 1 GB in float64
PAPER_BATCH_TRANSFORMER = 16  # docs/method.md §1: 32 for convolutional networks
NO_IMAGES = "activations were audited, and there are no images of them"
LEFT_OUT = "images are kept out of this report (--no-images)"


def check_layers(config: AuditConfig, subject: Subject) -> None:
    """Checks before the long stages that the layers named by the user can be used.

    Raises:
        LayerError: one of them cannot; names similar ones.
        DataError: no image can be read.
    """
    classifier, images = subject.classifier, subject.images
    if classifier is None or images is None:
        return
    if config.saliency_layer is not None:
        find_layer(classifier, images, config.saliency_layer, subject.layers.trace)
    if config.evidence_layer is not None:
        first = read_first_images(classifier, images, images.audit.paths, TRACED)
        choose_evidence_layer(classifier, first, config.evidence_layer, subject.layers.trace)


@dataclass(frozen=True)
class Autoencoder:
    """The chosen autoencoder in use.

    Attributes:
        outcome: of its training, with the other seeds.
        info: for audit.json.
        use: how the classes use its latents on the fit split.
        other_seeds: dominant features by the other seeds.
        anew: the same by autoencoders that audits with other seeds would choose.
    """

    outcome: SaeOutcome
    info: SaeInfo
    use: FeatureUse
    other_seeds: tuple[SeedFeatures, ...]
    anew: tuple[SeedFeatures, ...]
    _codes: dict[int, Float[np.ndarray, "n m"]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def sae(self) -> TrainedSae:
        return self.outcome.sae

    def encode(self, split: ActivationSplit) -> Float[np.ndarray, "n m"]:
        """Codes of a split, computed once: they are large, and quicker to compute than to keep."""
        if id(split.acts) not in self._codes:
            n_values = len(split.acts) * self.sae.n_latents
            most = min(MOST_CODES, int(CODES_SHARE * available_memory()) // 4)
            encode = self.sae.encode if n_values <= most else self._encode_to_disk
            self._codes[id(split.acts)] = encode(split.acts)
        return self._codes[id(split.acts)]

    def _encode_to_disk(self, acts: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Codes in a file that nobody else sees and that goes with the array; those of a latent lie side by side."""
        folder = Path(tempfile.gettempdir())
        shape = (len(acts), self.sae.n_latents)
        with tempfile.TemporaryFile(dir=folder) as file:
            reserve(file.fileno(), 4 * shape[0] * shape[1], folder)
            codes = np.memmap(file, np.float32, "w+", shape=shape, order="F")
        for start in range(0, len(acts), CHUNK_ROWS):
            codes[start : start + CHUNK_ROWS] = self.sae.encode(acts[start : start + CHUNK_ROWS])
            release_pages(acts)
        return codes


def choose_budget(seconds: float | None, device: torch.device) -> float | None:
    """Seconds for the search of the autoencoder; None: no limit, as by default on a graphics card."""
    return SAE_BUDGET if seconds is None and device.type == "cpu" else seconds


def train_autoencoder(given: Given) -> Autoencoder:
    """The autoencoder of the fit split, and how the classes use it."""
    config, subject = given.config, given.subject
    activations, device = subject.activations, choose_device(config.device)
    fit, concepts = activations.fit, None
    if config.sae == SUPERVISED:
        concepts = gather_concepts(subject.data_root, fit.paths, fit.labels, subject.classes, subject.attributes)
    transformer = subject.model.architecture.startswith(TRANSFORMERS)
    settings = SaeSettings(
        variant=config.sae,
        n_latents=config.n_latents,
        n_seeds=config.sae_seeds,
        seed=config.seed,
        device=str(device),
        budget=choose_budget(config.sae_budget, device),
        progress=given.advance,
        kept=None if given.parts is None else given.parts("trainings"),
        tasks=given.tasks,
        batch_size=PAPER_BATCH_TRANSFORMER if config.sae == PAPER and transformer else None,
    )
    outcome = train_sae(fit.acts, fit.labels, activations.head, settings, concepts)
    return Autoencoder(
        outcome,
        dataclasses.replace(outcome.info, on_audit=_measure_fidelity(outcome.sae, activations)),
        _describe_use(outcome.sae, activations),
        tuple(_describe_seed(seed, activations) for seed in outcome.seeds[1:]),
        tuple(_describe_seed(seed, activations) for seed in outcome.anew),
    )


def _measure_fidelity(sae: TrainedSae, activations: Activations) -> SaeFidelity:
    """The autoencoder on the audit split, which had no part in choosing it."""
    audit = activations.audit
    quality = measure_quality(sae, audit.acts, audit.labels, activations.head)
    return SaeFidelity(quality.r2, quality.accuracy_original, quality.accuracy_reconstructed, quality.logit_kl)


def _describe_use(sae: TrainedSae, activations: Activations) -> FeatureUse:
    """The use of the latents by the classes on the fit split, block by block."""
    fit = activations.fit
    starts = range(0, len(fit.labels), CHUNK_ROWS)
    blocks = ((sae.encode(fit.acts[i : i + CHUNK_ROWS]), fit.labels[i : i + CHUNK_ROWS]) for i in starts)
    return describe_blocks(blocks, sae.dictionary, activations.head)


def _describe_seed(sae: TrainedSae, activations: Activations) -> SeedFeatures:
    """The dominant feature of each class by another seed, and all that edits with it need."""
    use = _describe_use(sae, activations)
    return SeedFeatures(use.dominant, sae.dictionary, use.mean_codes, use.alive)


def measure_sensitivity(given: Given, trained: Autoencoder) -> Reliance:
    """Features and thresholds at the head."""
    config, subject = given.config, given.subject
    audit, head = subject.activations.audit, subject.activations.head
    return assess_reliance(
        RelianceInputs(
            use=trained.use,
            dictionary=trained.sae.dictionary,
            audit=Samples(np.asarray(audit.acts), audit.labels, head),
            classes=subject.classes,
            seed=config.seed,
            other_seeds=_as_other_seeds(trained.other_seeds),
            anew=_as_other_seeds(trained.anew),
            tasks=given.tasks or map_threads,
        )
    )


def _as_other_seeds(seeds: tuple[SeedFeatures, ...]) -> tuple[OtherSeed, ...]:
    return tuple(OtherSeed(seed.dictionary, seed.features, seed.alive) for seed in seeds)


def order_by_fragility(reliance: Reliance, head: LinearHead) -> Float[np.ndarray, " k"]:
    """Flip medians by output, nan where not reached: the order in which classes are compared if not all can be."""
    medians = np.full(head.n_classes, np.nan)
    for class_info in reliance.classes:
        if class_info.alpha_hat.flip.median is not None:
            medians[class_info.index] = class_info.alpha_hat.flip.median
    return medians


def rows_to_compare(activations: Activations) -> Int[np.ndarray, " some"] | None:
    """Rows of the audit split on which edits are compared, the same share of every class; None: all of them.

    Edits of a class are measured on all others' samples, held as (n, d) and (k, n) in float64.
    """
    labels, head = activations.audit.labels, activations.head
    most = int(MOST_COMPARED / (head.d + head.n_classes))
    if len(labels) <= most:
        return None
    order = np.argsort(labels, kind="stable")
    return np.sort(order[spread_rows(np.arange(len(labels)), most)])


def describe_compared(subject: Subject) -> tuple[str, ...]:
    """A note where edits are compared on a part of the images."""
    rows, n = rows_to_compare(subject.activations), len(subject.activations.audit.labels)
    if rows is None:
        return ()
    return (
        f"Edits are compared on {len(rows):,} of the {n:,} images to audit, spread evenly over the classes; "
        "their intervals are those of so many images.",
    )


def gather_comparison(subject: Subject, trained: Autoencoder, reliance: Reliance) -> ComparisonInputs:
    """All that edits of the head are compared on."""
    activations = subject.activations
    rows = rows_to_compare(activations)
    audit_acts, audit_labels = activations.audit.acts, activations.audit.labels
    return ComparisonInputs(
        head=activations.head,
        class_names=subject.classes,
        features=reliance.use.dominant,
        dictionary=trained.sae.dictionary,
        mean_codes=reliance.use.mean_codes,
        alive=reliance.use.alive,
        fit_acts=activations.fit.acts,
        fit_labels=activations.fit.labels,
        audit_acts=audit_acts if rows is None else read_rows(audit_acts, rows),
        audit_labels=audit_labels if rows is None else audit_labels[rows],
        other_seeds=trained.other_seeds,
        fragility=order_by_fragility(reliance, activations.head),
    )


def stress_compared(
    given: Given, trained: Autoencoder, reliance: Reliance, comparison: tuple[ComparisonInputs, Comparison]
) -> StressOutcome:
    """Enhancement, composition and recovery of the edits that were compared."""
    config, subject = given.config, given.subject
    compared, outcome = comparison
    return stress_edits(
        StressInputs(
            compared=compared,
            results=outcome.results,
            classes=reliance.classes,
            features=reliance.features,
            encoder=trained.sae.encoder_weight,
            audit=subject.activations.audit,
            codes=trained.encode(subject.activations.audit),
            seed=config.seed,
        ),
        given.advance,
    )


def edit_deeply(given: Given, trained: Autoencoder, compared: ComparisonInputs) -> DeepComparison | None:
    """The comparison of deep edits; None where it is not wanted, or where SALVE and steering are not compared.

    Args:
        given: settings, network and images.
        trained: the autoencoder, whose encoder is projected out.
        compared: what the edits of the head were compared on.
    """
    config, subject = given.config, given.subject
    needed = {key for key, method in METHODS.items() if method.beside and not method.yardstick}
    if config.deep_edits == "off" or not needed <= {*config.interventions}:
        return None
    if subject.classifier is None or subject.images is None:
        return DeepComparison("", "arrays hold no network")
    device = choose_device(config.device)
    inputs = DeepInputs(
        classifier=subject.classifier,
        images=subject.images,
        audit=subject.activations.audit,
        compared=compared,
        encoder=trained.sae.encoder_weight,
        seed=config.seed,
        device=device,
        workers=choose_workers(config.workers, device),
        asked_for=config.deep_edits == "on",
        advance=given.advance,
    )
    return compare_deep_edits(inputs)


def show_features(given: Given, trained: Autoencoder, reliance: Reliance, features: Sequence[FeatureInfo]) -> Seeing:
    """Galleries of dominant and shared features, and of the images that flip first.

    Args:
        given: settings, network, images and activations.
        trained: the autoencoder.
        reliance: classes and thresholds.
        features: described ones, with what the later stages know of them.
    """
    config, subject = given.config, given.subject
    if not config.images:
        return nothing_seen(LEFT_OUT)
    if subject.classifier is None or subject.images is None:
        return nothing_seen(NO_IMAGES)
    drawing = _gather_drawing(given, subject.classifier, trained, (reliance, features))
    seeing = see_features(SeeingInputs(drawing, reliance.samples, subject.classes))
    if seeing.why_absent:
        return seeing
    visualised = VisualisationInputs(
        classifier=subject.classifier,
        sae=trained.sae,
        codes=trained.encode(subject.activations.audit),
        features=features,
        classes=subject.classes,
        which=config.activation_maximisation,
        seed=config.seed,
        device=drawing.device,
    )
    return add_visualisations(seeing, visualised)


def _gather_drawing(
    given: Given,
    classifier: Classifier,
    trained: Autoencoder,
    described: tuple[Reliance, Sequence[FeatureInfo]],
) -> DrawingInputs:
    """All that heat maps are drawn from; `described`: the classes with their thresholds, and the features."""
    config, subject = given.config, given.subject
    assert subject.images is not None, "there are images"
    (reliance, features), audit = described, subject.activations.audit
    codes = trained.encode(audit)
    return DrawingInputs(
        classifier=classifier,
        images=subject.images,
        audit=audit,
        head=subject.activations.head,
        sae=trained.sae,
        codes=codes,
        chosen=choose_images(reliance.classes, features, codes, reliance.samples, audit.labels),
        layer=config.saliency_layer,
        device=choose_device(config.device),
        trace=subject.layers.trace,
        advance=given.advance,
    )


def check_images(given: Given) -> DataCheck:
    """What the images give away of their labels without a model, or why that was not looked at."""
    subject = given.subject
    if subject.images is None or subject.classifier is None:
        return DataCheck(why_absent=NO_IMAGES)
    source = shown_source(subject.images.reader, subject.classifier.transform)
    fit, audit = (
        Split(part.paths, part.labels, part.acts) for part in (subject.activations.fit, subject.activations.audit)
    )
    return check_data(DataCheckInputs(source, fit, audit, subject.classes, given.advance))


def find_image_reliance(given: Given, reliance: Reliance) -> EvidenceOutcome:
    """Image reliance of every class that can be afforded, or a record that says why it was not measured.

    Args:
        given: settings, network, images and activations.
        reliance: classes with their thresholds; the most fragile ones are examined first.
    """
    if given.config.evidence == "off":
        return absent_evidence(reliance.classes, "it was turned off (--evidence off)")
    if given.subject.classifier is None or given.subject.images is None:
        return absent_evidence(reliance.classes, NO_IMAGES)
    return measure_evidence(_gather_evidence_inputs(given, reliance), reliance.classes)


def examine_further(
    given: Given, reliance: Reliance, first: EvidenceOutcome, sizes: Mapping[str, int]
) -> EvidenceOutcome:
    """Image reliance with some classes examined again on more images, for as long as the budget lasts.

    Args:
        given: as for the first look.
        reliance: classes with their thresholds.
        first: outcome of the first look.
        sizes: images by name of the class, the first classes first.
    """
    places = {name: i for i, name in enumerate(given.subject.classes)}
    inputs = _gather_evidence_inputs(given, reliance)
    wanted = {places[name]: n for name, n in sizes.items()}
    return look_again(dataclasses.replace(inputs, sizes=wanted, seconds=given.config.evidence_budget), first)


def _gather_evidence_inputs(given: Given, reliance: Reliance) -> EvidenceInputs:
    config, subject = given.config, given.subject
    assert subject.classifier is not None, "there is a network"
    assert subject.images is not None, "there are images"
    device, audit = choose_device(config.device), subject.activations.audit
    return EvidenceInputs(
        classifier=subject.classifier,
        images=subject.images,
        paths=audit.paths,
        labels=audit.labels,
        head=subject.activations.head,
        classes=subject.classes,
        fragility=order_by_fragility(reliance, subject.activations.head),
        device=device,
        workers=choose_workers(config.workers, device),
        seed=config.seed,
        layer=config.evidence_layer,
        seconds=None if config.evidence_needed else config.evidence_budget,
        precision=subject.activations.precision.name if subject.activations.precision else "fp32",
        with_images=config.images,
        masks=find_masks(subject.images),
        trace=subject.layers.trace,
        advance=given.advance,
        parts=given.parts,
        actors=given.actors,
    )
