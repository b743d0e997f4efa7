"""Where maps point, in images whose cause is known, and what they cost beside the `grad-cam` library.

    python benchmarks/saliency.py                        trains two small networks first (some minutes); a second run
                                                         with the same --work finds them there
    python benchmarks/saliency.py --cifar MODEL DATA     adds deletion and insertion curves on a checkpoint
    python benchmarks/saliency.py --only cost

Pointing game: is the hottest pixel on the cue? IoU: of the cue and the hottest fifth of the pixels (its best is given).
"alone": images of classes that one cue causes. "of three": images with three classes' cues in each, and the map of
one class's feature has to point at that class's own.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from saliency_curves import compare_curves
from saliency_rivals import Library, gradient_times_activation, product_of_norms
from saliency_worlds import RECIPES, KnownImages, KnownNetwork, as_classifier, draw_several, draw_single, make_network
from torch import Tensor
from torch.nn import functional

from salve_audit.inputs.model.classifier import Classifier
from salve_audit.saliency.enlarge import enlarge_maps
from salve_audit.saliency.gradients import Directions
from salve_audit.saliency.localisation import best_overlap, bootstrap_mean, hits, overlap
from salve_audit.saliency.maps import compute_grad_cam, compute_grad_fam, compute_integrated
from salve_audit.spatial.alignment import measure_alignment
from salve_audit.spatial.cut import CutNetwork, CutPass
from salve_audit.spatial.layers import SpatialLayer
from salve_audit.spatial.map_layers import last_spatial_layer, measure_share, middle_spatial_layer

Draw = Callable[[Directions, CutPass], Tensor]
BATCH = 50
WORK = Path(tempfile.gettempdir()) / "salve_saliency_networks"


def localise(network: KnownNetwork, sets: dict[str, KnownImages], seed: int) -> None:
    """Prints one line per map."""
    classifier, images = network.classifier, sets["alone"].images
    last, middle = last_spatial_layer(classifier, images[::40]), middle_spatial_layer(classifier, images[::40])
    for where, layer in (("last", last), ("middle", middle)):
        with CutNetwork(classifier.model, layer, classifier.reader) as cut:
            share = measure_share(cut, images)
        print(f"  {where} layer {layer.name}: {100 * share:.0f} % of what the head sees passes through its positions")
    weights = torch.from_numpy(network.head.weight)
    plans: list[tuple[str, SpatialLayer, Tensor, Draw]] = [
        ("Grad-FAM", last, network.latents, compute_grad_fam),
        ("integrated, middle layer", middle, network.latents, compute_integrated),
        ("integrated, last layer", last, network.latents, compute_integrated),
        ("gradient x activation, middle", middle, network.latents, gradient_times_activation),
        ("norms, middle layer", middle, network.latents, product_of_norms),
        ("Grad-CAM of the class", last, weights, compute_grad_cam),
        ("integrated, of the class", middle, weights, compute_integrated),
    ]
    for name, layer, vectors, draw in plans:
        alignment = measure_alignment(classifier, layer, images[::40])
        maps = {
            key: torch.cat(
                [
                    enlarge_maps(own_maps, images.shape[2:], alignment)
                    for own_maps in _own(network, layer, vectors, draw, given)
                ]
            )
            for key, given in sets.items()
        }
        _print_scores(name, maps, sets, seed)
        if name == "Grad-FAM":
            maps = {
                key: torch.cat(
                    [_plainly(own_maps, images.shape[2]) for own_maps in _own(network, layer, vectors, draw, given)]
                )
                for key, given in sets.items()
            }
            _print_scores("Grad-FAM, bilinear, centred", maps, sets, seed)
    for name, vectors in (
        ("grad-cam library, of the latent", network.latents),
        ("grad-cam library, of the class", weights),
    ):
        library = Library(classifier, last, vectors)
        maps = {key: _by_library(library, given) for key, given in sets.items()}
        library.close()
        _print_scores(name, maps, sets, seed)
    noise = torch.Generator().manual_seed(seed)
    _print_scores(
        "random", {key: torch.rand(given.masks.shape, generator=noise) for key, given in sets.items()}, sets, seed
    )


def _own(
    network: KnownNetwork, layer: SpatialLayer, vectors: Tensor, draw: Draw, given: KnownImages
) -> Iterator[Tensor]:
    """Maps (n, h, w) of each image's own class, batch by batch."""
    labels = torch.from_numpy(given.labels)
    with CutNetwork(network.classifier.model, layer, network.classifier.reader) as cut:
        directions = Directions(cut, vectors)
        for start in range(0, len(labels), BATCH):
            rows = slice(start, start + BATCH)
            maps = draw(directions, cut.run(given.images[rows]))
            yield maps[torch.arange(len(maps)), labels[rows]]


def _plainly(maps: Tensor, side: int) -> Tensor:
    return functional.interpolate(maps[:, None], size=(side, side), mode="bilinear")[:, 0]


def _by_library(library: Library, given: KnownImages) -> Tensor:
    maps = torch.zeros(given.masks.shape)
    for label in np.unique(given.labels):
        rows = np.flatnonzero(given.labels == label)
        for part in np.array_split(rows, max(1, len(rows) // BATCH)):
            maps[part] = library(given.images[part], int(label))
    return maps


def _print_scores(name: str, maps_of: dict[str, Tensor], sets: dict[str, KnownImages], seed: int) -> None:
    rng, cells = np.random.default_rng(seed), []
    for key, given in sets.items():
        maps = maps_of[key].numpy()
        for values in (hits(maps, given.masks), overlap(maps, given.masks)):
            mean, low, high = bootstrap_mean(values, rng)
            cells.append(f"{mean:5.3f} [{low:5.3f}, {high:5.3f}]")
    print(f"  {name:32s} {'  '.join(cells)}", flush=True)


def measure_cost(n_images: int, n_features: int, n_streamed: int) -> None:
    """Images per second on a ResNet-18 and a ViT at 64 px beside the library, and memory while images stream by."""
    print(f"\n{n_features} features, {n_images} images of 64 px, {torch.get_num_threads()} threads")
    for name, kwargs in (("resnet18", {}), ("vit_tiny_patch16_224", {"img_size": 64, "patch_size": 8})):
        torch.manual_seed(0)
        classifier = as_classifier(timm.create_model(name, num_classes=10, **kwargs), 64)
        images = torch.randn(n_images, 3, 64, 64)
        layer = last_spatial_layer(classifier, images[:4])
        alignment = measure_alignment(classifier, layer, images[:4])
        width = int(classifier.reader.weigh(classifier.model)[0].shape[1])
        vectors = torch.randn(n_features, width) / width**0.5
        began = time.perf_counter()
        with CutNetwork(classifier.model, layer, classifier.reader) as cut:
            directions = Directions(cut, vectors)
            for part in images.split(BATCH):
                enlarge_maps(compute_grad_fam(directions, cut.run(part)), (64, 64), alignment)
        ours = n_images / (time.perf_counter() - began)
        library, began = Library(classifier, layer, vectors), time.perf_counter()
        for part in images.split(BATCH):
            for index in range(n_features):
                library(part, index)
        theirs = n_images / (time.perf_counter() - began)
        library.close()
        print(
            f"  {name:22s} Grad-FAM {ours:8.1f} images/s   grad-cam library {theirs:8.1f}   {ours / theirs:.1f} times"
        )
        _stream(classifier, layer, vectors, n_streamed)


def _stream(classifier: Classifier, layer: SpatialLayer, vectors: Tensor, n_streamed: int) -> None:
    marks = {n_streamed // 10, n_streamed // 2, n_streamed}
    peaks = []
    with CutNetwork(classifier.model, layer, classifier.reader) as cut:
        directions = Directions(cut, vectors)
        for done in range(BATCH, n_streamed + 1, BATCH):
            compute_grad_fam(directions, cut.run(torch.randn(BATCH, 3, 64, 64)))
            if done in marks:
                peaks.append(f"{done:,}: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.3f} GiB")
    print(f"    peak memory after images: {', '.join(peaks)}", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="trained networks are kept there")
    parser.add_argument("--images", type=int, default=100, help="per class with one cue")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", nargs="*", default=["CNN", "ViT"], choices=list(RECIPES))
    parser.add_argument("--cifar", nargs=2, metavar=("MODEL", "DATA"))
    parser.add_argument("--streamed", type=int, default=10_000)
    parser.add_argument("--only", choices=["places", "curves", "cost"])
    options = parser.parse_args()
    if options.only in (None, "places"):
        options.work.mkdir(parents=True, exist_ok=True)
        sets = {
            "alone": draw_single(options.images, options.seed),
            "of three": draw_several(options.images, options.seed),
        }
        best = {key: float(best_overlap(given.masks).mean()) for key, given in sets.items()}
        print(f"{len(sets['alone'].labels)} images each; best possible IoU {best['alone']:.3f}, {best['of three']:.3f}")
        for kind in options.networks:
            network = make_network(kind, options.work, options.seed)
            print(
                f"\n{kind}, accuracy {network.accuracy:.3f}{'':25s}alone: pointing, IoU{'':24s}of three: pointing, IoU"
            )
            localise(network, sets, options.seed)
    if options.cifar and options.only in (None, "curves"):
        compare_curves(Path(options.cifar[0]), Path(options.cifar[1]), options.seed)
    if options.only in (None, "cost"):
        measure_cost(200, 10, options.streamed)


if __name__ == "__main__":
    main()
