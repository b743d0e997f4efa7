"""Feature visualisation by activation maximisation: images optimised so that a latent fires strongly.

    maximise  s z_l / r_l  −  λ₂ mean (x − ½)²  −  λ_tv mean |∇x|

over views of x under a grey frame, shift, scale, rotation and centre crop, from noise (SALVE, arXiv 2512.15938, A.5.1;
docs/method.md §6). z_l is the latent's pre-activation, so that latents kept silent by a threshold or by stronger ones
have a gradient too; s the direction in which the class uses it; r_l the strongest real code, which makes the weights λ
mean the same for every latent. Penalties are means over pixels and count from the frame's grey, whatever the image's
size.

Such images are often unlike any photograph, and a latent may fire on them far beyond all real images. How strongly
it fires on what is shown, rounded to 8 bits and unmoved, is measured and returned with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.trace import watch_inputs
from salve_audit.inputs.reasons import summarise_error
from salve_audit.sae.models import TrainedSae
from salve_audit.saliency.parametrisation import PARAMETRISATIONS, Parametrisation
from salve_audit.saliency.random_views import GREY, ViewSettings, draw_views

MAX_PIXELS = 48 * 224 * 224  # optimised at once: bounds memory; with six starts 98 features at 64 px, 8 at 224 px
Encoder = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MaximisationSettings:
    """Settings of the optimisation of feature visualisations.

    Attributes:
        parametrisation: a name out of `PARAMETRISATIONS`.
        n_steps: of the optimiser, one view of every image in each.
        n_starts: noises to begin with, of which the one on which the latent fires most after `n_scouting` steps is
            taken further: from a single one about a tenth of the latents never begin to fire (ResNet-18, 64 px).
        n_scouting: of the `n_steps`.
        n_retries: from other noise, for the latents that do not come to fire as on the strongest real image.
        learning_rate: of Adam; None: that of the parametrisation.
        l2, tv: λ₂ and λ_tv.
        views: the random views.
    """

    parametrisation: str = "pixels"
    n_steps: int = 128
    n_starts: int = 6
    n_scouting: int = 24
    n_retries: int = 1
    learning_rate: float | None = None
    l2: float = 4.0
    tv: float = 8.0
    views: ViewSettings = field(default_factory=ViewSettings)


@dataclass(frozen=True)
class FeatureTarget:
    """A latent to maximise, its direction and scale.

    Attributes:
        feature: the latent.
        sign: 1.0 or -1.0: of the class's mean code; the latent is driven in that direction.
        real_maximum: largest ``sign x code`` over real images; where it is not positive, the unit is 1.
    """

    feature: int
    sign: float
    real_maximum: float

    @property
    def unit(self) -> float:
        return self.real_maximum if self.real_maximum > 0 else 1.0


@dataclass(frozen=True, eq=False)
class Visualisation:
    """A feature visualisation: an image optimised for a latent.

    Attributes:
        target: what was maximised.
        pixels: (h, w, c) in 0..1, multiples of 1/255: the image as it is shown.
        code: the latent's code on exactly these pixels, unmoved.
    """

    target: FeatureTarget
    pixels: Float[np.ndarray, "h w c"]
    code: float

    @property
    def ratio(self) -> float | None:
        """The code as a multiple of the strongest real one; None where no real image makes it fire that way."""
        if self.target.real_maximum <= 0:
            return None
        return self.target.sign * self.code / self.target.real_maximum


def choose_targets(
    codes: Float[np.ndarray, "n m"], mean_codes: Sequence[tuple[int, float]]
) -> tuple[FeatureTarget, ...]:
    """Targets of latents with the mean code of the class that they stand for.

    Args:
        codes: of real images.
        mean_codes: (latent, mean code) each; its sign is the direction.
    """
    signs = [(feature, -1.0 if mean < 0 else 1.0) for feature, mean in mean_codes]
    return tuple(
        FeatureTarget(feature, sign, float((sign * codes[:, feature]).max(initial=0.0))) for feature, sign in signs
    )


def maximise_features(
    network: tuple[Classifier, torch.device],
    sae: TrainedSae,
    targets: Sequence[FeatureTarget],
    settings: MaximisationSettings,
    generator: torch.Generator,
) -> tuple[Visualisation, ...]:
    """An image for every target, optimised together; the classifier is left untouched.

    Args:
        network: the classifier whose head's inputs the autoencoder reads, and the device to run it on.
        sae: the autoencoder.
        targets: what to maximise; may be none.
        settings: how.
        generator: on the CPU, of noise and views: the same seed gives the same bytes on the same machine.

    Raises:
        CheckpointError: the network cannot be differentiated (an ONNX file), or its pass fails.
    """
    size = network[0].transform.input_size
    n_together = max(1, MAX_PIXELS // (settings.n_starts * size[1] * size[2]))
    settings = replace(settings, views=settings.views.fitted(min(size[1:])))
    visualisations: list[Visualisation] = []
    with _reading(*network) as read:
        optimiser = _Optimiser(read, size, settings, generator)
        for start in range(0, len(targets), n_together):
            part = targets[start : start + n_together]
            visualisations.extend(_measure(read, sae, part, optimiser.run(sae, part)))
    return tuple(visualisations)


def _rows(sae: TrainedSae, targets: Sequence[FeatureTarget]) -> tuple[Tensor, Tensor]:
    """Weights (b, d) and offsets (b,) that give ``sign x pre-activation / unit`` of each target."""
    chosen = [target.feature for target in targets]
    factor = np.array([target.sign / target.unit for target in targets], dtype=np.float32)
    weights, offsets = sae.encoder_weight[chosen] * factor[:, None], sae.encoder_bias[chosen] * factor
    return torch.from_numpy(weights), torch.from_numpy(offsets)


@dataclass(frozen=True)
class _Optimiser:
    """Makes images of one size; `read` gives the head's inputs for images."""

    read: Encoder
    size: tuple[int, int, int]
    settings: MaximisationSettings
    generator: torch.Generator

    def run(self, sae: TrainedSae, targets: Sequence[FeatureTarget]) -> Float[Tensor, "b c h w"]:
        """Images in 0..1, rounded to 8 bits; those of latents that stay weak are tried again."""
        pixels, reached = self._attempt(_rows(sae, targets))
        for _ in range(self.settings.n_retries):
            weak = [row for row, target in enumerate(targets) if target.real_maximum > 0 and reached[row] < 1]
            if not weak:
                break
            again = self._attempt(_rows(sae, [targets[row] for row in weak]))
            better = [(place, row) for place, row in enumerate(weak) if again[1][place] > reached[row]]
            for place, row in better:
                pixels[row], reached[row] = again[0][place], again[1][place]
        return pixels

    def _attempt(self, rows: tuple[Tensor, Tensor]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
        """Images from the best of several noises, and how strongly each latent fired on its last views."""
        b, settings = len(rows[0]), self.settings
        shape = (settings.n_starts * b, *self.size)
        made = PARAMETRISATIONS[settings.parametrisation](shape, self.generator)
        repeated = rows[0].repeat(settings.n_starts, 1), rows[1].repeat(settings.n_starts)
        reached = self._climb(made, repeated, settings.n_scouting)
        made.keep(reached.view(settings.n_starts, b).argmax(0) * b + torch.arange(b))
        reached = self._climb(made, rows, settings.n_steps - settings.n_scouting)
        return (made.images().detach() * 255).round() / 255, reached

    def _climb(self, made: Parametrisation, rows: tuple[Tensor, Tensor], n_steps: int) -> Float[Tensor, " b"]:
        """Moves the parameters; returns how strongly each latent fired in the last steps, in its unit."""
        (weights, offsets), settings = rows, self.settings
        adam = torch.optim.Adam([made.parameters], lr=settings.learning_rate or made.learning_rate)
        reached = torch.zeros(len(weights))
        for _ in range(n_steps):
            images = made.images()
            acts = self.read(draw_views(images, settings.views, self.generator))
            fires = (acts * weights).sum(1) + offsets
            penalty = settings.l2 * mean_square_from_grey(images) + settings.tv * mean_variation(images)
            # counted in full before the latent fires, the penalties would keep some images grey for good
            loss = (fires.detach().clamp(0, 1).square() * penalty - fires).sum()
            (made.parameters.grad,) = torch.autograd.grad(loss, [made.parameters])
            adam.step()
            reached = torch.lerp(reached, fires.detach(), 0.3)  # views differ
        return reached


def mean_square_from_grey(images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Mean squared distance from the frame's grey."""
    return (images - GREY).square().mean((1, 2, 3))


def mean_variation(images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Total variation per pixel: mean absolute step downwards plus mean absolute step to the right."""
    return images.diff(dim=2).abs().mean((1, 2, 3)) + images.diff(dim=3).abs().mean((1, 2, 3))


@torch.no_grad()
def _measure(
    read: Encoder, sae: TrainedSae, targets: Sequence[FeatureTarget], pixels: Float[Tensor, "b c h w"]
) -> Iterator[Visualisation]:
    codes = sae.encode(read(pixels).numpy())
    for row, (target, image) in enumerate(zip(targets, pixels, strict=True)):
        yield Visualisation(target, image.permute(1, 2, 0).numpy().copy(), float(codes[row, target.feature]))


@contextmanager
def _reading(classifier: Classifier, device: torch.device) -> Iterator[Encoder]:
    """A differentiable function from images in 0..1 (b, c, h, w) to the head's inputs (b, d), both on the CPU."""
    model = copy.deepcopy(classifier.model).to(device)
    model = model.to(memory_format=torch.channels_last)
    spec, path = classifier.transform, str(classifier.path)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    inputs: dict[str, list[Tensor]] = {}
    hooks = [watch_inputs(model, name, inputs) for name in classifier.reader.modules]

    def read(images: Tensor) -> Tensor:
        inputs.clear()
        batch = ((images - mean) / std).to(device, memory_format=torch.channels_last)
        try:
            model(batch)
        except Exception as error:  # the network's own code may raise anything
            why = f"a forward pass of {' x '.join(map(str, batch.shape))} failed ({summarise_error(error)})"
            raise CheckpointError(path, why) from error
        acts = classifier.reader.read(inputs, len(images), path).cpu()
        if images.requires_grad and not acts.requires_grad:
            why = f"a network read as {classifier.format} cannot be differentiated"
            raise CheckpointError(path, why, hint="use the checkpoint that it was made from")
        return acts

    try:
        with _repeatable_convolutions():
            yield read
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _repeatable_convolutions() -> Iterator[None]:
    """On a GPU float32 shall mean float32, and sums shall have one order; small differences would grow over steps."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = False, True, False
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
