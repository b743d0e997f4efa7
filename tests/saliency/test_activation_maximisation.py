"""Images made for latents, on a small untrained network: what counts is that they are what they claim to be."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.results.transform import TransformSpec
from salve_audit.sae.activation import Activation
from salve_audit.sae.models import TrainedSae
from salve_audit.saliency.activation_maximisation import (
    FeatureTarget,
    MaximisationSettings,
    choose_targets,
    maximise_features,
    mean_variation,
)
from salve_audit.saliency.parametrisation import PARAMETRISATIONS
from salve_audit.saliency.random_views import ViewSettings, draw_views

D, SIDE = 32, 32
CPU = torch.device("cpu")
QUICK = MaximisationSettings(n_steps=24, n_starts=2, n_scouting=4, n_retries=0)


def make_classifier(n_channels: int = 3, model: nn.Module | None = None) -> Classifier:
    if model is None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            kwargs = {"channels": (8, 8, 16, D), "stem_width": 8, "in_chans": n_channels}
            model = timm.create_model("resnet10t", num_classes=3, zero_init_last=False, **kwargs)
    mean, std = (0.4, 0.5, 0.6)[:n_channels], (0.2, 0.25, 0.3)[:n_channels]
    spec = TransformSpec((n_channels, SIDE, SIDE), mean, std, "bilinear", 1.0, "test")
    model = model.eval().requires_grad_(False)
    return Classifier(model, "resnet10t", "timm checkpoint", Path("m.pt"), "0", "fc", spec, None, False, ())


def make_sae(activation: Activation) -> TrainedSae:
    rng = np.random.default_rng(0)
    dictionary = rng.standard_normal((8, D)).astype(np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    bias, zeros = np.full(8, 0.01, np.float32), np.zeros(D, np.float32)
    return TrainedSae("linear-l1", dictionary, dictionary.copy(), bias, zeros, {}, activation)


def forward(classifier: Classifier, pixels: np.ndarray) -> np.ndarray:
    """The head's inputs by timm itself, for images (b, h, w, c) in 0..1."""
    spec = classifier.transform
    images = torch.from_numpy(((pixels - np.array(spec.mean)) / np.array(spec.std)).astype(np.float32))
    with torch.no_grad():
        features = classifier.model.forward_features(images.permute(0, 3, 1, 2))
        return classifier.model.forward_head(features, pre_logits=True).numpy()


ACTIVATIONS = {
    "linear": Activation(),
    "topk": Activation("topk", k=1),
    "threshold": Activation("threshold", threshold=np.full(8, 1e3, np.float32)),
}


@pytest.mark.parametrize("parametrisation", sorted(PARAMETRISATIONS))
@pytest.mark.parametrize("kind", sorted(ACTIVATIONS))
def test_latents_fire_more_than_on_noise_in_the_direction_asked_for(parametrisation: str, kind: str) -> None:
    classifier, sae = make_classifier(), make_sae(ACTIVATIONS[kind])
    rng, rows = np.random.default_rng(1), (sae.encoder_weight.T, sae.encoder_bias)
    faint = forward(classifier, rng.normal(0.5, 0.02, (64, SIDE, SIDE, 3))) @ rows[0] + rows[1]  # at the start
    strong = forward(classifier, rng.random((64, SIDE, SIDE, 3))) @ rows[0] + rows[1]
    signs = np.sign(strong.mean(0) - faint.mean(0))  # an untrained network's latents go one way only
    targets = tuple(FeatureTarget(latent, float(signs[latent]), 0.0) for latent in (0, 3, 5))
    settings = MaximisationSettings(parametrisation, n_steps=24, n_starts=2, n_scouting=4, l2=0.0, tv=0.0)
    made = maximise_features((classifier, CPU), sae, targets, settings, torch.Generator().manual_seed(0))
    for image in made:
        before = image.target.sign * faint[:, image.target.feature]
        after = (forward(classifier, image.pixels[None]) @ rows[0] + rows[1])[0, image.target.feature]
        assert image.target.sign * after > before.max() + 5 * before.std(), image.target
        assert image.pixels.shape == (SIDE, SIDE, 3)
        assert image.pixels.min() >= 0
        assert image.pixels.max() <= 1
    if kind == "threshold":  # latents that never reach it are maximised all the same, and said to be silent
        assert [image.code for image in made] == [0.0, 0.0, 0.0]


def test_strengths_are_those_of_the_very_pixels() -> None:
    classifier, sae = make_classifier(), make_sae(ACTIVATIONS["topk"])
    targets = tuple(FeatureTarget(latent, 1.0, 2.0) for latent in range(3))
    made = maximise_features((classifier, CPU), sae, targets, QUICK, torch.Generator().manual_seed(0))
    pixels = np.stack([image.pixels for image in made])
    np.testing.assert_allclose(pixels * 255, np.rint(pixels * 255), atol=1e-4)
    codes = sae.encode(forward(classifier, pixels))
    for row, image in enumerate(made):
        assert image.code == pytest.approx(codes[row, row], abs=1e-4)
        assert image.ratio == pytest.approx(image.code / 2.0)


def test_the_same_seed_gives_the_same_bytes_and_the_model_stays_as_it_was() -> None:
    classifier, sae = make_classifier(), make_sae(ACTIVATIONS["linear"])
    before = copy.deepcopy(classifier.model.state_dict())
    targets = (FeatureTarget(1, 1.0, 1.0), FeatureTarget(2, -1.0, 1.0))
    runs = [
        maximise_features((classifier, CPU), sae, targets, QUICK, torch.Generator().manual_seed(s)) for s in (3, 3, 4)
    ]
    first, again, other = ([image.pixels.tobytes() for image in run] for run in runs)
    assert first == again
    assert first != other
    after = classifier.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in classifier.model.modules())
    assert maximise_features((classifier, CPU), sae, (), QUICK, torch.Generator()) == ()


def test_many_features_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "salve_audit.saliency.activation_maximisation.MAX_PIXELS"
    monkeypatch.setattr(module, 2 * QUICK.n_starts * SIDE * SIDE)
    classifier, sae = make_classifier(), make_sae(ACTIVATIONS["linear"])
    targets = tuple(FeatureTarget(latent, 1.0, 1.0) for latent in range(5))
    made = maximise_features((classifier, CPU), sae, targets, QUICK, torch.Generator().manual_seed(0))
    assert [image.target.feature for image in made] == [0, 1, 2, 3, 4]


def test_a_grey_network_gives_grey_images() -> None:
    classifier, sae = make_classifier(n_channels=1), make_sae(ACTIVATIONS["linear"])
    for parametrisation in PARAMETRISATIONS:
        settings = MaximisationSettings(parametrisation, n_steps=4, n_starts=1, n_scouting=1)
        made = maximise_features((classifier, CPU), sae, [FeatureTarget(0, 1.0, 1.0)], settings, torch.Generator())
        assert made[0].pixels.shape == (SIDE, SIDE, 1)


def test_a_network_without_gradient_is_refused_by_name() -> None:
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(D, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.from_numpy(images.detach().numpy()).flatten(1)[:, :D])

    sae = make_sae(ACTIVATIONS["linear"])
    with pytest.raises(CheckpointError, match="a network read as timm checkpoint cannot be differentiated"):
        maximise_features(
            (make_classifier(model=Blind()), CPU), sae, [FeatureTarget(0, 1.0, 1.0)], QUICK, torch.Generator()
        )


def test_penalties_flatten_the_image() -> None:
    classifier, sae = make_classifier(), make_sae(ACTIVATIONS["linear"])
    variation = []
    for weight in (0.0, 50.0):
        settings = MaximisationSettings(n_steps=40, n_starts=1, n_scouting=1, l2=weight, tv=weight)
        (image,) = maximise_features((classifier, CPU), sae, [FeatureTarget(0, -1.0, 0.1)], settings, torch.Generator())
        variation.append(float(mean_variation(torch.from_numpy(image.pixels).permute(2, 0, 1)[None])))
    assert variation[1] < 0.5 * variation[0]


def test_targets_follow_the_sign_of_the_mean_code() -> None:
    codes = np.array([[1.0, -3.0, 0.0], [2.0, 1.0, -1.0]], np.float32)
    up, down, silent = choose_targets(codes, [(0, 0.5), (1, -0.2), (2, 0.1)])
    assert (up.sign, up.real_maximum) == (1.0, 2.0)
    assert (down.sign, down.real_maximum) == (-1.0, 3.0)
    assert (silent.real_maximum, silent.unit) == (0.0, 1.0)


def test_a_view_without_chance_is_the_image() -> None:
    images = torch.rand(2, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    still = ViewSettings(jitter=0, scales=(1, 1), degrees=0)
    # A place is off by a few roundings of a coordinate up to 28, and a value changes by 1 at most from pixel to pixel.
    atol = 8 * 28 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(draw_views(images, still, torch.Generator()), images, atol=atol, rtol=0)


def test_views_shift_turn_and_scale_about_the_centre_under_a_grey_frame() -> None:
    """A single bright pixel far from the centre is found where geometry says, and grey comes in from outside."""
    size = 65
    image = torch.zeros(1, 1, size, size)
    image[..., 32, 52] = 1.0  # 20 to the right of the centre
    turned = draw_views(image, ViewSettings(jitter=0, scales=(1.5, 1.5), degrees=0), torch.Generator())
    assert divmod(int(turned[0, 0, 20:45, 40:].argmax()), 25) == (12, 22)  # 30 to the right
    generator = torch.Generator().manual_seed(0)
    places = []
    for _ in range(40):
        view = draw_views(image, ViewSettings(jitter=0, scales=(1, 1), degrees=10), generator)[0, 0]
        row, column = divmod(int((view * (view != 0.5)).nan_to_num()[8:57, 8:57].argmax()), 49)
        places.append((row + 8 - 32, column + 8 - 32))
    radii, rows = [np.hypot(*place) for place in places], [place[0] for place in places]
    assert max(abs(radius - 20) for radius in radii) < 1
    assert min(rows) < -2  # sin 10° of 20 is 3.5
    assert max(rows) > 2
    shifted = draw_views(image, ViewSettings(jitter=8, scales=(1, 1), degrees=0), generator)
    assert float(shifted.max()) <= 1
    assert 0.45 < float(shifted[0, 0][:, [0, -1]].max()) <= 0.55  # the frame, at one side at least


def test_shifts_are_smaller_in_small_images() -> None:
    assert ViewSettings().fitted(32).jitter == 4
    assert ViewSettings().fitted(224).jitter == 8


def test_a_spectrum_is_smooth_and_of_little_colour() -> None:
    shape = (4, 3, 32, 32)
    noise = {
        name: PARAMETRISATIONS[name](shape, torch.Generator().manual_seed(0)).images() for name in ("pixels", "fourier")
    }
    deviation = {name: float(tensor.detach().std()) for name, tensor in noise.items()}
    assert deviation["fourier"] == pytest.approx(deviation["pixels"], rel=0.3)
    neighbours = {name: float((tensor.diff(dim=3).std() / tensor.std()).detach()) for name, tensor in noise.items()}
    assert neighbours["fourier"] < 0.7 * neighbours["pixels"]
    flat = noise["fourier"].detach().permute(1, 0, 2, 3).flatten(1)
    assert float(torch.corrcoef(flat)[0, 1]) > 0.6


def test_latents_that_stay_silent_are_tried_again() -> None:
    """With another noise; the better of the two images is kept, and others stay as they were."""
    classifier, sae = make_classifier(), make_sae(ACTIVATIONS["linear"])
    targets = (FeatureTarget(0, -1.0, 1e-6), FeatureTarget(3, 1.0, 50.0), FeatureTarget(5, 1.0, 50.0))
    once, twice = (
        maximise_features((classifier, CPU), sae, targets, dataclasses.replace(QUICK, n_retries=n), torch.Generator())
        for n in (0, 1)
    )
    assert once[0].pixels.tobytes() == twice[0].pixels.tobytes()
    changed = [
        first.pixels.tobytes() != second.pixels.tobytes() for first, second in zip(once[1:], twice[1:], strict=True)
    ]
    assert any(changed)
