"""What else could tell how much a class depends on one thing, from simple to strong, for `ranking.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from cases import Case, Measured, from_maps, to_maps
from measures import probe_case
from torch import Tensor
from torch.nn import functional

from salve_audit.evidence.probe import hard_margin
from salve_audit.evidence.regions import attribute, fill_regions, to_grid, to_pixels
from salve_audit.evidence.search import SearchSettings, find_evidence
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.reliance.margins import find_margin_events, list_rivals, sort_coupling
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae

BATCH = 240
AREA = 0.2  # of an image, removed by saliency


def margins_of(case: Case) -> np.ndarray:
    return hard_margin(torch.from_numpy(case.logits), torch.from_numpy(case.labels)).numpy()


def by_class(case: Case, values: np.ndarray) -> np.ndarray:
    return np.array([values[case.labels == k].mean() for k in range(case.n_classes)])


def measure_accuracy(case: Case) -> Measured:
    return Measured(by_class(case, case.right.astype(float)), -margins_of(case), len(case.labels))


def measure_margin(case: Case) -> Measured:
    """A small margin as a sign of fragility."""
    return Measured(-by_class(case, margins_of(case)), -margins_of(case), len(case.labels))


def measure_head(case: Case) -> Measured:
    """α̂ at the head: the median strength at which the class's dominant latent flips an image, small is fragile."""
    with torch.no_grad():
        acts = case.net.pooled(case.net.before(case.images, len(case.net.stages))).numpy()
    layer = case.net.linear
    head = LinearHead(layer.weight.detach().numpy(), layer.bias.detach().numpy(), "head")
    settings = SaeSettings(variant="topk", n_latents=64, sparsity=8, n_seeds=1)
    sae = train_sae(acts, case.labels, head, settings).sae
    codes, dictionary = sae.encode(acts), sae.dictionary.astype(np.float64)
    reliance, sample = np.zeros(case.n_classes), np.zeros(len(acts))
    for k in range(case.n_classes):
        rows = case.labels == k
        latent = int(np.abs(codes[rows].mean(0)).argmax())
        coupling = sort_coupling(np.abs(dictionary[latent]))
        weight, bias = head.weight.astype(np.float64), head.bias.astype(np.float64)
        flip = find_margin_events(acts[rows].astype(np.float64), list_rivals(weight, bias, k), coupling).flip
        flip = np.nan_to_num(flip, nan=0.0, posinf=1e6)
        reliance[k], sample[rows] = -np.median(flip), -flip
    return Measured(reliance, sample, len(case.labels))


def _drop_directions(case: Case, stage: int, directions: Tensor, n_passes: float = 0) -> Measured:
    """Each direction's deviation from its mean removed at all positions; the one that hurts the class most."""
    with torch.no_grad():
        inner = case.net.before(case.images, stage)
        maps = to_maps(inner)
        mean = maps.mean((0, 2, 3)).view(1, -1, 1, 1)
        labels, least = torch.from_numpy(case.labels), []
        for direction in directions:
            code = torch.einsum("bdhw,d->bhw", maps - mean, direction)[:, None]
            changed = from_maps(maps - code * direction.view(1, -1, 1, 1), inner)
            least.append(_margins_after(case, changed, labels, stage))
    return _best_of(case, np.stack(least), n_passes + len(directions) * len(labels))


def _margins_after(case: Case, inner: Tensor, labels: Tensor, stage: int) -> np.ndarray:
    parts = range(0, len(inner), BATCH)
    logits = torch.cat([case.net.after(inner[i : i + BATCH], stage) for i in parts])
    return hard_margin(logits, labels).numpy()


def _best_of(case: Case, margins: np.ndarray, n_passes: float) -> Measured:
    """From margins (r, n) after each of r removals: per class the removal with the largest drop."""
    flipped = (margins <= 0) & case.right
    reliance, sample = np.zeros(case.n_classes), np.zeros(len(case.labels))
    for k in range(case.n_classes):
        rows = case.labels == k
        drops = flipped[:, rows].mean(1)
        best = int(drops.argmax())
        reliance[k], sample[rows] = drops[best], -margins[best, rows]
    return Measured(reliance, sample, n_passes)


def measure_channels(case: Case, stage: int = 2) -> Measured:
    """The best single channel of an early layer."""
    with torch.no_grad():
        n_channels = to_maps(case.net.before(case.images[:1], stage)).shape[1]
    return _drop_directions(case, stage, torch.eye(n_channels))


def measure_components(case: Case, stage: int = 2, n: int = 16) -> Measured:
    """The best principal direction of an early layer's positions."""
    with torch.no_grad():
        points = to_maps(case.net.before(case.images, stage)).movedim(1, -1).flatten(0, 2)
    covariance = torch.cov(points.T)
    return _drop_directions(case, stage, torch.linalg.eigh(covariance)[1].flip(1).T[:n])


def _fill_mean(images: Tensor, regions: Tensor) -> Tensor:
    return images * (1 - regions) + images.mean((2, 3), keepdim=True) * regions


FILLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": _fill_mean, "around": fill_regions}


def _any_of(case: Case, masks: Iterator[Tensor], fill: str, extra: float = 0) -> Measured:
    """Removals image by image: an image counts where any of them changes its prediction."""
    labels, least, n = torch.from_numpy(case.labels), np.full(len(case.labels), np.inf), 0
    with torch.no_grad():
        for mask in masks:
            parts = range(0, len(labels), BATCH)
            regions = mask.expand(len(labels), 1, *case.images.shape[2:])
            images = [FILLS[fill](case.images[i : i + BATCH], regions[i : i + BATCH]) for i in parts]
            logits = torch.cat([case.net.after(image, 0) for image in images])
            least = np.minimum(least, hard_margin(logits, labels).numpy())
            n += len(labels)
    flipped = (least <= 0) & case.right
    return Measured(by_class(case, flipped.astype(float)), -least, n + extra)


def measure_occlusion(case: Case, sides: tuple[int, ...], fill: str, *, to_edges: bool = False) -> Measured:
    """A square slid over the image by half its side; the place that hurts most, image by image.

    Args:
        to_edges: also where the last step would leave part of the image uncovered.
    """

    def masks() -> Iterator[Tensor]:
        size = case.images.shape[-1]
        for side in sides:
            starts = {*range(0, size - side + 1, side // 2), *([size - side] if to_edges else [])}
            for top in starts:
                for left in starts:
                    mask = torch.zeros(1, 1, size, size)
                    mask[..., top : top + side, left : left + side] = 1
                    yield mask

    return _any_of(case, masks(), fill)


def measure_scaled_occlusion(case: Case) -> Measured:
    """The size that did best in images of 32 pixels, in images of any size."""
    return measure_occlusion(case, (round(3 / 8 * case.images.shape[-1]),), "around", to_edges=True)


def measure_gradcam(case: Case, stage: int = 3) -> Measured:
    """The strongest fifth of the image by Grad-CAM removed."""
    labels = torch.from_numpy(case.labels)
    inner = case.net.before(case.images, stage).detach().requires_grad_(True)
    logits = case.net.after(inner, stage)
    (gradient,) = torch.autograd.grad(logits[torch.arange(len(labels)), labels].sum(), inner)
    maps, slopes = to_maps(inner).detach(), to_maps(gradient)
    heat = (maps * slopes.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
    heat = functional.interpolate(heat, case.images.shape[2:], mode="bilinear", align_corners=False)
    return remove_strongest(case, heat, 3 * len(labels))


def measure_gradients(case: Case) -> Measured:
    """The strongest fifth by integrated gradients removed: attribution without evidence regions."""
    heat = attribute(probe_case(case), case.images, torch.from_numpy(case.labels), 2)
    heat = to_grid(heat, (case.images.shape[2], case.images.shape[3]), 1.0)
    return remove_strongest(case, heat, 6 * len(case.labels))


def remove_strongest(case: Case, heat: Tensor, n_passes: float) -> Measured:
    """The strongest fifth by (n, 1, h, w) removed, which was found in so many passes of all images together."""
    return _any_of(case, iter([_top(heat)]), "around", n_passes)


def _top(heat: Tensor) -> Tensor:
    least = heat.flatten(1).quantile(1 - AREA, dim=1).view(-1, 1, 1, 1)
    return (heat > least).float()


def measure_random(case: Case, settings: SearchSettings) -> Measured:
    """Evidence regions moved to random places: what removing that much of an image does by itself."""
    labels = torch.from_numpy(case.labels)
    evidence = find_evidence(probe_case(case), case.images, labels, settings)
    rng = np.random.default_rng(0)
    moved = []
    for region in evidence.regions[:, 0].float():
        shift = [int(rng.integers(side)) for side in region.shape]
        moved.append(region.roll(shift, (0, 1)))
    mask = to_pixels(torch.stack(moved)[:, None], (case.images.shape[2], case.images.shape[3]))
    return _any_of(case, iter([mask]), "around", evidence.n_passes)
