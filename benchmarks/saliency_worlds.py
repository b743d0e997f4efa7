"""Networks and images whose answers are known, for `saliency.py`: a small CNN and a small ViT on the demo's world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from salve_audit.demo.images import class_keys, draw, draw_split
from salve_audit.demo.training import NetworkRecipe, normalise_pixels, one_thread, train_network
from salve_audit.demo.world import Planted, PlantedClassSpec, World, demo_world
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.inputs.model.head.search import find_head
from salve_audit.reliance.features import describe_use
from salve_audit.results.transform import TransformSpec
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.map_layers import last_spatial_layer

SINGLE = ("chapel", "ember", "ripple")  # classes with one cue
VIT = {"img_size": 48, "patch_size": 6, "embed_dim": 96, "depth": 4, "num_heads": 3}
AVERAGED = {"global_pool": "avg", "class_token": False}
ARCH = "vit_tiny_patch16_224"
RECIPES = {  # recipe, images per class
    "CNN": (NetworkRecipe(), 400),
    "ViT": (NetworkRecipe(arch=ARCH, model_kwargs=VIT, epochs=8, learning_rate=1e-3, weight_decay=0.05), 1000),
    "ViT, averaged": (
        NetworkRecipe(arch=ARCH, model_kwargs={**VIT, **AVERAGED}, epochs=8, learning_rate=1e-3, weight_decay=0.05),
        1000,
    ),
}


@dataclass(frozen=True)
class KnownImages:
    """Images (n, c, h, w), the class whose feature is asked for, and where its cue is, (n, h, w)."""

    images: Float[Tensor, "n c h w"]
    labels: Int[np.ndarray, " n"]
    masks: Bool[np.ndarray, "n h w"]


@dataclass(frozen=True)
class KnownNetwork:
    """A trained network with its classes' dominant features.

    Attributes:
        classifier: the network.
        head: its head.
        latents: (k, d) encoder row of each class's dominant latent, turned so that it is positive on the class.
        accuracy: on images that it was not trained on.
    """

    classifier: Classifier
    head: LinearHead
    latents: Float[Tensor, "k d"]
    accuracy: float


def as_classifier(model: nn.Module, size: int) -> Classifier:
    """A network in memory as the audit knows it."""
    model = model.eval().requires_grad_(False)
    reader = find_head(model, (3, size, size))
    spec = TransformSpec((3, size, size), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0, "benchmark")
    return Classifier(
        model, "benchmark", "benchmark", Path("model"), "", reader.name, spec, None, False, (), head_reader=reader
    )


def make_network(kind: str, work: Path, seed: int) -> KnownNetwork:
    """Trained, or taken from an earlier run in `work`; its autoencoder is the audit's own choice."""
    world, (recipe, n_train) = demo_world(), RECIPES[kind]
    path = work / f"{kind.replace(', ', '_')}_{seed}.pt"
    if path.is_file():
        model = timm.create_model(recipe.arch, num_classes=len(world.classes), **recipe.model_kwargs)
        model.load_state_dict(torch.load(path, weights_only=True))
    else:
        drawn = draw_split(world, "train", n_train, seed)
        model = train_network(drawn.pixels, drawn.labels, recipe, seed)
        torch.save(model.state_dict(), path)
    classifier = as_classifier(model.to(memory_format=torch.contiguous_format), world.size)
    head = classifier.reader.fold(classifier.model)
    fit, val = draw_split(world, "train", 200, seed), draw_split(world, "val", 50, seed)
    acts = _run(classifier, fit.pixels)
    with one_thread():
        sae = train_sae(acts, fit.labels, head, SaeSettings(seed=seed)).sae
    use = describe_use(sae.encode(acts), fit.labels, sae.dictionary, head)
    signs = np.sign(use.mean_codes[np.arange(head.n_classes), use.dominant]).astype(np.float32)
    latents = torch.from_numpy(sae.encoder_weight[use.dominant] * signs[:, None])
    predicted = (_run(classifier, val.pixels) @ head.weight.T + head.bias).argmax(1)
    return KnownNetwork(classifier, head, latents, float((predicted == val.labels).mean()))


def draw_single(n: int, seed: int) -> KnownImages:
    """`n` images of each class that one cue causes."""
    world = demo_world()
    return _gather(world, [(world.class_names.index(name), name, world) for name in SINGLE], n, seed)


def draw_several(n: int, seed: int) -> KnownImages:
    """`n` images with the cues of all those classes in each; a map has to tell its own from the others."""
    world = demo_world()
    cues = tuple(Planted(world.own_cues(world.class_names.index(name))[0]) for name in SINGLE if name != "chapel")
    mixed = World("mixed", world.size, world.cues, (PlantedClassSpec("mixed", (Planted("tower"), *cues)),))
    return _gather(mixed, [(world.class_names.index(name), name, world) for name in SINGLE], n, seed)


def _gather(world: World, plantings: Sequence[tuple[int, str, World]], n: int, seed: int) -> KnownImages:
    pixels, labels, masks = [], [], []
    for label, name, origin in plantings:
        (cue,) = (own_cue.cue for own_cue in origin.classes[origin.class_names.index(name)].cues)
        for key in class_keys("val", 0 if len(world.classes) == 1 else label, n, seed):
            image = draw(world, key)
            pixels.append(image.pixels)
            labels.append(label)
            masks.append(image.masks[cue])
    images = normalise_pixels(torch.from_numpy(np.stack(pixels))).contiguous()
    return KnownImages(images, np.array(labels), np.stack(masks))


def _run(classifier: Classifier, pixels: np.ndarray) -> Float[np.ndarray, "n d"]:
    images = normalise_pixels(torch.from_numpy(pixels)).contiguous()
    layer = last_spatial_layer(classifier, images[:4])
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        return torch.cat([cut.run(part).acts for part in images.split(200)]).numpy()
