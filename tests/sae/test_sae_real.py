"""On activations of the real ResNet-18 in ../shared/data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from salve_audit.activations.extraction import ExtractSettings, extract
from salve_audit.activations.store import Activations
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import SaeOutcome, train_sae

pytestmark = [pytest.mark.slow, pytest.mark.shared_data]


@pytest.fixture(scope="module")
def activations(shared_data: Path, cifar10: Path) -> Activations:
    """100 images of each class and split."""
    classifier = load_classifier(shared_data / "resnet18_cifar10_64.pt")
    return extract(classifier, load_images(cifar10, seed=0, limit=100), ExtractSettings(workers=0))


@pytest.fixture(scope="module")
def outcome(activations: Activations) -> SaeOutcome:
    settings = SaeSettings("linear-l1", n_latents=64, n_seeds=1)
    return train_sae(activations.fit.acts, activations.fit.labels, activations.head, settings)


def test_the_rule_is_satisfied(outcome: SaeOutcome):
    info = outcome.info
    assert info.satisfied
    assert info.r2 >= 0.9
    assert info.accuracy_reconstructed >= 0.99 * info.accuracy_original > 0.8
    assert info.l0 < 64


def test_every_class_has_a_dominant_latent_of_its_own(outcome: SaeOutcome, activations: Activations):
    codes, labels = outcome.sae.encode(activations.fit.acts), activations.fit.labels
    means = np.stack([codes[labels == k].mean(axis=0) for k in range(10)])
    dominant = np.abs(means).argmax(axis=1)
    assert len(set(dominant)) == 10
    assert (means[np.arange(10), dominant] > 0).all()


def test_dominant_latents_fire_on_their_class_in_images_never_seen(outcome: SaeOutcome, activations: Activations):
    codes, labels = outcome.sae.encode(activations.fit.acts), activations.fit.labels
    unseen, unseen_labels = outcome.sae.encode(activations.audit.acts), activations.audit.labels
    for k in range(10):
        latent = np.abs(codes[labels == k].mean(axis=0)).argmax()
        on_class, elsewhere = (unseen[mask, latent] for mask in (unseen_labels == k, unseen_labels != k))
        auroc = (on_class[:, None] > elsewhere[None]).mean()
        assert auroc > 0.85, f"class {k}: latent {latent} has AUROC {auroc:.3f}"
