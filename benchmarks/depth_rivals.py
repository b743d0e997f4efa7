"""What else could tell how much a class rests on one thing, from simple to strong, for `depth.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from depth_cases import Case, Found, from_maps, to_maps
from depth_measures import probe_case
from torch import Tensor
from torch.nn import functional

from salve_audit.inputs.head import LinearHead
from salve_audit.reliance.depth.attribution import attribute, to_grid
from salve_audit.reliance.depth.evidence import SearchSettings, find_evidence
from salve_audit.reliance.depth.filling import fill_regions
from salve_audit.reliance.depth.network import hard_margin
from salve_audit.reliance.depth.regions import to_pixels
from salve_audit.reliance.margins import find_margin_events, sort_coupling
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae

BATCH = 240
AREA = 0.2  # of a picture, taken out by saliency


def margins_of(case: Case) -> np.ndarray:
    return hard_margin(torch.from_numpy(case.logits), torch.from_numpy(case.labels)).numpy()


def by_class(case: Case, values: np.ndarray) -> np.ndarray:
    return np.array([values[case.labels == k].mean() for k in range(case.n_classes)])


def measure_accuracy(case: Case) -> Found:
    return Found(by_class(case, case.right.astype(float)), -margins_of(case), len(case.labels))


def measure_margin(case: Case) -> Found:
    """A small margin as a sign of fragility."""
    return Found(-by_class(case, margins_of(case)), -margins_of(case), len(case.labels))


def measure_head(case: Case) -> Found:
    """α̂ at the head: the median strength at which the class's dominant latent flips a picture, small is fragile."""
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
        flip = find_margin_events(acts[rows].astype(np.float64), weight, bias, coupling, k).flip
        flip = np.nan_to_num(flip, nan=0.0, posinf=1e6)
        reliance[k], sample[rows] = -np.median(flip), -flip
    return Found(reliance, sample, len(case.labels))


def _drop_directions(case: Case, stage: int, directions: Tensor, n_passes: float = 0) -> Found:
    """Each direction's deviation from its mean taken out at all positions; the one that hurts the class most."""
    with torch.no_grad():
        inner = case.net.before(case.images, stage)
        maps = to_maps(inner)
        mean = maps.mean((0, 2, 3)).view(1, -1, 1, 1)
        labels, least = torch.from_numpy(case.labels), []
        for one in directions:
            code = torch.einsum("bdhw,d->bhw", maps - mean, one)[:, None]
            changed = from_maps(maps - code * one.view(1, -1, 1, 1), inner)
            least.append(_margins_after(case, changed, labels, stage))
    return _best_of(case, np.stack(least), n_passes + len(directions) * len(labels))


def _margins_after(case: Case, inner: Tensor, labels: Tensor, stage: int) -> np.ndarray:
    parts = range(0, len(inner), BATCH)
    logits = torch.cat([case.net.after(inner[i : i + BATCH], stage) for i in parts])
    return hard_margin(logits, labels).numpy()


def _best_of(case: Case, margins: np.ndarray, n_passes: float) -> Found:
    """From margins (r, n) after each of r removals: per class the removal with the largest drop."""
    turned = (margins <= 0) & case.right
    reliance, sample = np.zeros(case.n_classes), np.zeros(len(case.labels))
    for k in range(case.n_classes):
        rows = case.labels == k
        drops = turned[:, rows].mean(1)
        best = int(drops.argmax())
        reliance[k], sample[rows] = drops[best], -margins[best, rows]
    return Found(reliance, sample, n_passes)


def measure_channels(case: Case, stage: int = 2) -> Found:
    """The best single channel of an early layer."""
    with torch.no_grad():
        n_channels = to_maps(case.net.before(case.images[:1], stage)).shape[1]
    return _drop_directions(case, stage, torch.eye(n_channels))


def measure_components(case: Case, stage: int = 2, n: int = 16) -> Found:
    """The best principal direction of an early layer's positions."""
    with torch.no_grad():
        points = to_maps(case.net.before(case.images, stage)).movedim(1, -1).flatten(0, 2)
    covariance = torch.cov(points.T)
    return _drop_directions(case, stage, torch.linalg.eigh(covariance)[1].flip(1).T[:n])


def measure_dictionaries(case: Case, stage: int = 2, n_latents: int = 20, n_active: int = 2, n_seeds: int = 6) -> Found:
    """Coarse TopK dictionaries of an early layer's positions, the best latent of all seeds, its error term kept."""
    with torch.no_grad():
        inner = case.net.before(case.images, stage)
    maps, labels, least = to_maps(inner), torch.from_numpy(case.labels), []
    points = maps.movedim(1, -1).flatten(0, 2)
    for seed in range(n_seeds):
        rows, bias, encoder, offset = _train_topk(points, n_latents, n_active, seed)
        with torch.no_grad():
            pre = (points - bias) @ encoder + offset
            top = pre.topk(n_active, dim=1)
            codes = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
            grid = codes.view(len(maps), *maps.shape[2:], n_latents)
            for latent in range(n_latents):
                part = grid[..., latent][:, None] * rows[latent].view(1, -1, 1, 1)
                least.append(_margins_after(case, from_maps(maps - part, inner), labels, stage))
    return _best_of(case, np.stack(least), len(least) * len(labels))


def _train_topk(points: Tensor, m: int, k: int, seed: int, n_steps: int = 400) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    bias = points.mean(0)
    start = points[torch.randperm(len(points), generator=generator)[:m]] - bias
    rows = torch.nn.Parameter(functional.normalize(start, dim=1))
    encoder = torch.nn.Parameter(rows.detach().T.clone())
    offset = torch.nn.Parameter(torch.zeros(m))
    optimiser = torch.optim.Adam([rows, encoder, offset], lr=3e-3)
    for _ in range(n_steps):
        batch = points[torch.randint(len(points), (1024,), generator=generator)] - bias
        pre = batch @ encoder + offset
        top = pre.topk(k, dim=1)
        codes = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
        loss = (codes @ functional.normalize(rows, dim=1) - batch).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return functional.normalize(rows, dim=1).detach(), bias, encoder.detach(), offset.detach()


def _fill_mean(images: Tensor, regions: Tensor) -> Tensor:
    return images * (1 - regions) + images.mean((2, 3), keepdim=True) * regions


FILLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": _fill_mean, "around": fill_regions}


def _any_of(case: Case, masks: Iterator[Tensor], fill: str, extra: float = 0) -> Found:
    """Removals picture by picture: a picture counts where any of them changes its prediction."""
    labels, least, n = torch.from_numpy(case.labels), np.full(len(case.labels), np.inf), 0
    with torch.no_grad():
        for mask in masks:
            parts = range(0, len(labels), BATCH)
            regions = mask.expand(len(labels), 1, *case.images.shape[2:])
            pictures = [FILLS[fill](case.images[i : i + BATCH], regions[i : i + BATCH]) for i in parts]
            logits = torch.cat([case.net.after(one, 0) for one in pictures])
            least = np.minimum(least, hard_margin(logits, labels).numpy())
            n += len(labels)
    turned = (least <= 0) & case.right
    return Found(by_class(case, turned.astype(float)), -least, n + extra)


def measure_occlusion(case: Case, sides: tuple[int, ...], fill: str, *, to_edges: bool = False) -> Found:
    """A square slid over the picture by half its side; the place that hurts most, picture by picture.

    Args:
        to_edges: also where the last step would leave part of the picture uncovered.
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


def measure_scaled_occlusion(case: Case) -> Found:
    """The size that did best in pictures of 32 pixels, in pictures of any size."""
    return measure_occlusion(case, (round(3 / 8 * case.images.shape[-1]),), "around", to_edges=True)


def measure_gradcam(case: Case, stage: int = 3) -> Found:
    """The strongest fifth of the picture by Grad-CAM taken out."""
    labels = torch.from_numpy(case.labels)
    inner = case.net.before(case.images, stage).detach().requires_grad_(True)
    logits = case.net.after(inner, stage)
    (gradient,) = torch.autograd.grad(logits[torch.arange(len(labels)), labels].sum(), inner)
    maps, slopes = to_maps(inner).detach(), to_maps(gradient)
    heat = (maps * slopes.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu()
    heat = functional.interpolate(heat, case.images.shape[2:], mode="bilinear", align_corners=False)
    return _any_of(case, iter([_top(heat)]), "around", 3 * len(labels))


def measure_gradients(case: Case) -> Found:
    """The strongest fifth by integrated gradients taken out: attribution without pieces."""
    heat = attribute(probe_case(case), case.images, torch.from_numpy(case.labels), 2)
    heat = to_grid(heat, (case.images.shape[2], case.images.shape[3]), 1.0)
    return _any_of(case, iter([_top(heat)]), "around", 6 * len(case.labels))


def _top(heat: Tensor) -> Tensor:
    least = heat.flatten(1).quantile(1 - AREA, dim=1).view(-1, 1, 1, 1)
    return (heat > least).float()


def measure_random(case: Case, settings: SearchSettings) -> Found:
    """The pieces' own shapes at random places: what taking out that much of a picture does by itself."""
    labels = torch.from_numpy(case.labels)
    found = find_evidence(probe_case(case), case.images, labels, settings)
    rng = np.random.default_rng(0)
    moved = []
    for region in found.regions[:, 0].float():
        shift = [int(rng.integers(side)) for side in region.shape]
        moved.append(region.roll(shift, (0, 1)))
    mask = to_pixels(torch.stack(moved)[:, None], (case.images.shape[2], case.images.shape[3]))
    return _any_of(case, iter([mask]), "around", found.n_passes)
