"""The stages of the line, in order: what each reads, and what it is for.

`StageRunner` gives a stage the settings and the earlier results that are named here and nothing else, and makes its key
in the cache of them.
"""

from __future__ import annotations

import dataclasses

from salve_audit.audit.stage_runner import Given, Stage
from salve_audit.audit.stages import (
    Autoencoder,
    check_images,
    describe_compared,
    edit_deeply,
    find_image_reliance,
    gather_comparison,
    measure_sensitivity,
    show_features,
    stress_compared,
    train_autoencoder,
)
from salve_audit.audit.subject import Subject
from salve_audit.evidence.stage import EvidenceOutcome
from salve_audit.interventions.comparison import Comparison, ComparisonSettings
from salve_audit.interventions.matched import compare_interventions
from salve_audit.reliance.assess import Reliance
from salve_audit.results import DataCheck, DeepComparison, Seeing
from salve_audit.stress.stage import StressOutcome

PASSING = ("memory", "failed", "read")  # words of reasons that may be gone another time


def _may_pass(why_absent: str) -> bool:
    return any(word in why_absent for word in PASSING)


def _has_network_and_images(subject: Subject) -> bool:
    return subject.classifier is not None and subject.images is not None


AUTOENCODER = Stage(
    "autoencoder",
    "finds the features that activations are made of",
    Autoencoder,
    train_autoencoder,
    reads=("sae", "n_latents", "sae_seeds", "sae_budget", "seed", "device"),
)
RELIANCE = Stage(
    "reliance",
    "how far each class's main feature can be suppressed before predictions flip",
    Reliance,
    lambda given: measure_sensitivity(given, given[AUTOENCODER]),
    reads=("seed",),
    after=(AUTOENCODER,),
)


def _compare(given: Given) -> Comparison:
    compared = gather_comparison(given.subject, given[AUTOENCODER], given[RELIANCE])
    settings = ComparisonSettings(methods=given.config.interventions, seed=given.config.seed)
    outcome = compare_interventions(settings, compared, given.advance)
    return dataclasses.replace(outcome, notes=(*describe_compared(given.subject), *outcome.notes))


INTERVENTIONS = Stage(
    "interventions",
    "what other ways of suppressing a class cost the others",
    Comparison,
    _compare,
    reads=("interventions", "seed"),
    after=(AUTOENCODER, RELIANCE),
)


def _stress(given: Given) -> StressOutcome:
    trained, reliance = given[AUTOENCODER], given[RELIANCE]
    compared = gather_comparison(given.subject, trained, reliance)
    return stress_compared(given, trained, reliance, (compared, given[INTERVENTIONS]))


STRESS = Stage(
    "stress",
    "edits enhanced, combined and undone",
    StressOutcome,
    _stress,
    reads=("seed",),
    after=(AUTOENCODER, RELIANCE, INTERVENTIONS),
)


def _edit_deeply(given: Given) -> DeepComparison | None:
    trained = given[AUTOENCODER]
    compared = gather_comparison(given.subject, trained, given[RELIANCE])
    return edit_deeply(given, trained, compared)


DEEP_EDITS = Stage(
    "deep edits",
    "the same edits in layers before the head",
    DeepComparison,
    _edit_deeply,
    reads=("deep_edits", "interventions", "seed", "device"),
    after=(AUTOENCODER, RELIANCE),
    settled=lambda compared: compared is None or not _may_pass(compared.reason),
    happens=lambda subject, config: _has_network_and_images(subject) and config.deep_edits != "off",
)
SALIENCY = Stage(
    "saliency",
    "images that features respond to, with heat maps",
    Seeing,
    lambda given: show_features(given, given[AUTOENCODER], given[RELIANCE], given[STRESS].features),
    reads=("images", "saliency_layer", "activation_maximisation", "seed", "device"),
    after=(AUTOENCODER, RELIANCE, STRESS),
    settled=lambda seeing: not seeing.unreadable and not _may_pass(seeing.why_absent),
    happens=lambda subject, config: _has_network_and_images(subject) and config.images,
)
DATA_CHECK = Stage(
    "data check",
    "what the images give away of their labels without a model, and images that are there twice",
    DataCheck,
    check_images,
    settled=lambda check: not check.unread,
    happens=lambda subject, config: _has_network_and_images(subject),
)
IMAGE_RELIANCE = Stage(
    "image reliance",
    "what each class depends on in its images, by removing it from them",
    EvidenceOutcome,
    lambda given: find_image_reliance(given, given[RELIANCE]),
    reads=("evidence", "evidence_layer", "evidence_budget", "evidence_needed", "images", "seed", "device"),
    after=(RELIANCE,),
    settled=lambda outcome: not _may_pass(outcome.evidence.why_absent),
    happens=lambda subject, config: _has_network_and_images(subject) and config.evidence != "off",
)
LINE = (AUTOENCODER, RELIANCE, INTERVENTIONS, STRESS, DEEP_EDITS, SALIENCY, DATA_CHECK, IMAGE_RELIANCE)
