"""Whether a heat map shows what the score depends on: its hottest fifth is removed, and inserted, against random ones.

Of a faithful map, the score (a feature's code, a class's logit) falls when the hottest fifth of the pixels is blurred
away, and comes back when only that fifth is left of the blurred image. Both are shares of what blurring everything
costs; a map's number is their mean, and random fifths of the same image, as blobby as maps are, say what is chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from salve_audit.saliency.heat import find_hottest, share_in_hottest

N_RANDOM = 3  # fifths
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
    run: Run, images: Float[Tensor, "b c h w"], maps: Sequence[ScoredMap], seeds: Sequence[int]
) -> list[Faithfulness | None]:
    """Score maps; None where the map is flat, or where blurring the whole image leaves the score as it is.

    Args:
        run: the network up to the head's inputs.
        images: prepared.
        maps: of these images.
        seeds: (b,) of each image's random fifths.
    """
    size = (int(images.shape[2]), int(images.shape[3]))
    blurred = blur_away(images)
    ends = [_read(run, part) for part in (images, blurred)]  # (b, d) each
    chosen = sorted({each.place for each in maps})
    random = {place: _try(run, images, blurred, place, _draw_fifths(size, seeds[place])) for place in chosen}
    scores: list[Faithfulness | None] = []
    for each in maps:
        clean, gone = (float(end[each.place] @ each.direction) for end in ends)
        if share_in_hottest(each.heat) is None or abs(clean - gone) < LEAST_RANGE * max(abs(clean), 1e-6):
            scores.append(None)
            continue
        own = _try(run, images, blurred, each.place, _mark_hottest(each.heat, size)[None])
        share = [_share(pair, each.direction, clean, gone) for pair in (own, random[each.place])]
        scores.append(Faithfulness(*share))
    return scores


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


def _try(
    run: Run, images: Tensor, blurred: Tensor, place: int, masks: Float[Tensor, "m 1 h w"]
) -> tuple[Float[np.ndarray, "m d"], Float[np.ndarray, "m d"]]:
    """What the head is given with the masked pixels removed, and with them alone."""
    image, blank, masks = images[place], blurred[place], masks.to(images)
    changed = torch.cat([image * (1 - masks) + blank * masks, image * masks + blank * (1 - masks)])
    acts = _read(run, changed)
    return acts[: len(masks)], acts[len(masks) :]


def _share(
    acts: tuple[Float[np.ndarray, "m d"], Float[np.ndarray, "m d"]],
    direction: Float[np.ndarray, " d"],
    clean: float,
    gone: float,
) -> float:
    """Mean of what is lost without and of what comes back with the pixels, as shares of what blurring costs."""
    without, alone = (float((part @ direction).mean()) for part in acts)
    lost, back = (clean - without) / (clean - gone), (alone - gone) / (clean - gone)
    return float(np.clip((lost + back) / 2, -1, 2))


def _read(run: Run, images: Float[Tensor, "b c h w"]) -> Float[np.ndarray, "b d"]:
    with torch.no_grad():
        return run(images).double().cpu().numpy()
