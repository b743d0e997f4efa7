"""Which features get a visualisation, and what stands in the report where none does."""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import io
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from salve_audit.results import FeatureEffects, FeatureGallery, FeatureInfo, Seeing
from salve_audit.sae.activation import Activation
from salve_audit.saliency.visualisation import VisualisationInputs, add_visualisations


def load_neighbour(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_for_synthetic", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


small = load_neighbour("test_activation_maximisation")
CLASSES = ("a", "b", "c")


def make_info(index: int, mean_code: tuple[float, ...], dominant_for: tuple[str, ...]) -> FeatureInfo:
    return FeatureInfo(
        index=index, norm=1.0, coupling_max=0.5, classes=(), affected=(), dominant_for=dominant_for, cross_class=False,
        entangled=False, mean_code=mean_code, effect=FeatureEffects((), ()),
    )  # fmt: skip


@pytest.fixture
def seeing() -> Seeing:
    galleries = tuple(FeatureGallery(latent, ()) for latent in (4, 1, 6))
    return Seeing(layer="layer4", grid=(2, 2), features=galleries, fragile=(), images={})


@pytest.fixture
def inputs() -> VisualisationInputs:
    features = [make_info(4, (0.1, -0.7, 0.9), ("b",)), make_info(1, (0.2, 0.1, 0.0), ())]
    codes = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    return VisualisationInputs(
        classifier=small.make_classifier(),
        sae=small.make_sae(Activation()),
        codes=codes,
        features=features,
        classes=CLASSES,
        which="dominant",
        seed=0,
        device=torch.device("cpu"),
        settings=small.QUICK,
    )


def test_dominant_features_or_all_that_are_shown(seeing: Seeing, inputs: VisualisationInputs) -> None:
    visualised = add_visualisations(seeing, inputs)
    assert [gallery.synthetic is not None for gallery in visualised.features] == [True, False, False]
    assert visualised.why_no_synthetic == ""
    every = add_visualisations(seeing, dataclasses.replace(inputs, which="all"))
    assert [gallery.synthetic is not None for gallery in every.features] == [True, True, True]
    for gallery in every.features:
        photo = gallery.synthetic.image
        with Image.open(io.BytesIO(base64.b64decode(photo.jpeg))) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (photo.width, photo.height), "RGB")
    again = add_visualisations(seeing, dataclasses.replace(inputs, which="all"))
    assert again == every


def test_the_direction_is_that_of_the_class_it_is_dominant_for(seeing: Seeing, inputs: VisualisationInputs) -> None:
    """Feature 4 is dominant for b, where its mean code is negative, though it is larger and positive for c."""
    made = add_visualisations(seeing, inputs).features[0].synthetic
    most_negative = float(-inputs.codes[:, 4].min())
    assert made.ratio == pytest.approx(-made.code / most_negative)


def test_reasons_where_there_are_none(seeing: Seeing, inputs: VisualisationInputs) -> None:
    off = add_visualisations(seeing, dataclasses.replace(inputs, which="off"))
    assert off.why_no_synthetic == "Feature visualisations were not computed (--activation-maximisation off)."
    auto = add_visualisations(seeing, dataclasses.replace(inputs, which="auto"))
    assert "Without a GPU" in auto.why_no_synthetic
    assert "--activation-maximisation dominant" in auto.why_no_synthetic
    assert off.features == auto.features == seeing.features

    class Blind(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(small.D, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.fc(images.detach().flatten(1)[:, : small.D])

    blind = add_visualisations(seeing, dataclasses.replace(inputs, classifier=small.make_classifier(model=Blind())))
    assert "cannot be differentiated" in blind.why_no_synthetic
    assert blind.features == seeing.features
