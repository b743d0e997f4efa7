"""Whether a heat map shows what the score depends on: its hottest fifth is removed, and inserted, against random ones.

Of a faithful map, the score (a feature's code, a class's logit) falls when the hottest fifth of the pixels is blurred
away, and comes back when only that fifth is left of the blurred image. Both are shares of what blurring everything
costs; a map's number is their mean, and random fifths of the same image, as blobby as maps are, say what is chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from salve_audit.activations.streams import fit_batch
from salve_audit.saliency.heat import find_hottest, share_in_hottest

N_RANDOM = 2  # fifths
AT_ONCE, PIXELS_AT_ONCE = 16, 2**18  # images a pass, and pixels of theirs: passes run beside each other
BLOBS = 6  # cells of a random field's side
BLURRED = 4  # cells of the side that blurring leaves
LEAST_RANGE = 0.05  # of the clean score: where blurring everything costs less, nothing can be said
CHANCE_OVERLAP = 1 / 9  # of two random fifths, intersection over union
Run = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b d"]]  # images -> head's inputs


@dataclass(frozen=True)
class Faithfulness:
    """How faithful a map is, and random places in its image; 1: the hottest fifth is all that the score depends on."""

    score: float
    random: float


@dataclass(frozen=True)
class ScoredMap:
    """One map of one image, and the direction that its score is read along.

    Attributes:
        place: of the image in the batch.
        heat: (y, x) at any size.
        direction: (d,) of the head's inputs.
    """

    place: int
    heat: Float[np.ndarray, "y x"]
    direction: Float[np.ndarray, " d"]


def score_maps(
    run: Run,
    images: Float[Tensor, "b c h w"],
    acts: Float[np.ndarray, "b d"],
    maps: Sequence[ScoredMap],
    seeds: Sequence[int],
) -> list[Faithfulness | None]:
    """Score maps; None where the map is flat, or where blurring the whole image leaves the score as it is.

    Args:
        run: the network up to the head's inputs.
        images: prepared.
        acts: what the head is given of them.
        maps: of these images, at least one.
        seeds: (b,) of each image's random fifths.
    """
    chosen = sorted({each.place for each in maps})
    soft = blur_away(images[chosen])
    blurred, gone = dict(zip(chosen, soft, strict=True)), dict(zip(chosen, _read(run, [soft]), strict=True))
    ends = [tuple(float(part[each.place] @ each.direction) for part in (acts, gone)) for each in maps]
    scored = [i for i, each in enumerate(maps) if _can_be_scored(each, *ends[i])]
    if not scored:
        return [None] * len(maps)
    size, places = (int(images.shape[2]), int(images.shape[3])), sorted({maps[i].place for i in scored})
    tried = [(place, _draw_fifths(size, seeds[place])) for place in places]
    tried += [(maps[i].place, _mark_hottest(maps[i].heat, size)[None]) for i in scored]
    answers = _read(run, (_mask_both_ways(images[place], blurred[place], masks) for place, masks in tried))
    stops = np.cumsum([2 * len(masks) for _, masks in tried])
    pairs = [np.split(part, 2) for part in np.split(answers, stops[:-1])]
    random, own = dict(zip(places, pairs, strict=False)), dict(zip(scored, pairs[len(places) :], strict=True))
    return [
        Faithfulness(*(_share(pair, each.direction, *ends[i]) for pair in (own[i], random[each.place])))
        if i in own
        else None
        for i, each in enumerate(maps)
    ]


def _can_be_scored(scored: ScoredMap, clean: float, gone: float) -> bool:
    """Whether the map has a hottest fifth, and blurring the whole image changes the score."""
    return share_in_hottest(scored.heat) is not None and abs(clean - gone) >= LEAST_RANGE * max(abs(clean), 1e-6)


def overlap_hottest(a: Float[np.ndarray, "y x"], b: Float[np.ndarray, "y x"]) -> float | None:
    """Intersection over union of two maps' hottest fifths; None where one of them is flat."""
    first, second = find_hottest(a), find_hottest(b)
    if not first.any() or not second.any():
        return None
    return float((first & second).sum() / (first | second).sum())


def blur_away(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The images with nothing left but a few soft patches of colour."""
    size = (int(images.shape[2]), int(images.shape[3]))
    cells = functional.adaptive_avg_pool2d(images, BLURRED)
    return functional.interpolate(cells, size, mode="bilinear", align_corners=False)


def _mark_hottest(heat: Float[np.ndarray, "y x"], size: tuple[int, int]) -> Float[Tensor, "1 h w"]:
    resized = functional.interpolate(torch.from_numpy(np.ascontiguousarray(heat)).float()[None, None], size,
                                     mode="bilinear", align_corners=False)  # fmt: skip
    return torch.from_numpy(find_hottest(resized[0, 0].numpy()))[None].float()


def _draw_fifths(size: tuple[int, int], seed: int) -> Float[Tensor, "m 1 h w"]:
    rng = np.random.default_rng(seed)
    fields = [rng.random((BLOBS, BLOBS)).astype(np.float32) for _ in range(N_RANDOM)]
    return torch.stack([_mark_hottest(field, size) for field in fields])


def _mask_both_ways(
    image: Float[Tensor, "c h w"], blank: Float[Tensor, "c h w"], masks: Float[Tensor, "m 1 h w"]
) -> Float[Tensor, "2m c h w"]:
    """The image with the masked pixels removed, then with them alone."""
    masks = masks.to(image)
    return torch.cat([image * (1 - masks) + blank * masks, image * masks + blank * (1 - masks)])


def _share(
    acts: Sequence[Float[np.ndarray, "m d"]],
    direction: Float[np.ndarray, " d"],
    clean: float,
    gone: float,
) -> float:
    """Mean of what is lost without and of what comes back with the pixels, as shares of what blurring costs."""
    without, alone = (float((part @ direction).mean()) for part in acts)
    lost, back = (clean - without) / (clean - gone), (alone - gone) / (clean - gone)
    return float(np.clip((lost + back) / 2, -1, 2))


def _read(run: Run, parts: Iterable[Float[Tensor, "m c h w"]]) -> Float[np.ndarray, "b d"]:
    """What the head is given of all images, some of which are run at a time."""
    answers, waiting, size = list[Float[np.ndarray, "m d"]](), list[Tensor](), AT_ONCE
    for part in itertools.chain(parts, [None]):  # the last flushes what is waiting
        if part is not None:
            waiting.append(part)
            size = fit_batch(AT_ONCE, PIXELS_AT_ONCE, (part.shape[2], part.shape[3]))
        if waiting and (part is None or sum(map(len, waiting)) >= size):
            with torch.no_grad():
                answers += [run(some).double().cpu().numpy() for some in torch.split(torch.cat(waiting), size)]
            waiting.clear()
    return np.concatenate(answers)
