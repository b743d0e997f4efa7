"""Whether a heat map shows what the score depends on: its hottest fifth is removed, and inserted, against random ones.

Of a faithful map, the score (a feature's code, a class's logit) falls when the hottest fifth of the pixels is blurred
away, and comes back when only that fifth is left of the blurred image. Both are shares of what blurring everything
costs; a map's number is their mean, and random fifths of the same image, as blobby as maps are, say what is chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from salve_audit.saliency.heat import find_hottest, share_in_hottest

N_RANDOM = 2  # fifths
AT_ONCE = 16  # images a pass
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
        maps: of these images.
        seeds: (b,) of each image's random fifths.
    """
    size = (int(images.shape[2]), int(images.shape[3]))
    chosen = sorted({each.place for each in maps})
    blurred = blur_away(images[chosen])
    position = {place: at for at, place in enumerate(chosen)}
    gone = dict(zip(chosen, _read(run, [blurred]), strict=True))  # (d,) each
    drawn = [_draw_fifths(size, seeds[place]) for place in chosen]
    marked = [_mark_hottest(each.heat, size)[None] for each in maps]
    places = chosen + [each.place for each in maps]
    tried = (
        _put(images[place], blurred[position[place]], masks)
        for place, masks in zip(places, drawn + marked, strict=True)
    )
    answers = _read(run, tried)  # in the order of places
    sizes = [2 * len(masks) for masks in drawn + marked]
    pairs = [np.split(part, 2) for part in np.split(answers, np.cumsum(sizes)[:-1])]
    random, own = dict(zip(chosen, pairs, strict=False)), pairs[len(chosen) :]
    return [
        _score(acts[each.place], gone[each.place], each, pair, random[each.place])
        for each, pair in zip(maps, own, strict=True)
    ]


def _score(
    clean: Float[np.ndarray, " d"],
    gone: Float[np.ndarray, " d"],
    scored: ScoredMap,
    own: Sequence[Float[np.ndarray, "m d"]],
    random: Sequence[Float[np.ndarray, "r d"]],
) -> Faithfulness | None:
    ends = float(clean @ scored.direction), float(gone @ scored.direction)
    if share_in_hottest(scored.heat) is None or abs(ends[0] - ends[1]) < LEAST_RANGE * max(abs(ends[0]), 1e-6):
        return None
    return Faithfulness(*(_share(pair, scored.direction, *ends) for pair in (own, random)))


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


def _put(
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
    answers, waiting = list[np.ndarray](), list[Tensor]()

    def flush() -> None:
        with torch.no_grad():
            images = torch.cat(waiting)
            answers.extend(run(some).double().cpu().numpy() for some in torch.split(images, AT_ONCE))
        waiting.clear()

    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= AT_ONCE:
            flush()
    if waiting:
        flush()
    return np.concatenate(answers)
