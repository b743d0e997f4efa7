"""ImageNet's outputs by their WordNet ids and names, from the lists that timm ships."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SUBSETS = {
    1000: "imagenet-1k",
    11221: "imagenet-21k-miil",
    11821: "imagenet-12k",
    21841: "imagenet-22k",
    21842: "imagenet-22k-ms",
    21843: "imagenet-21k-goog",
}
SYNSET = re.compile(r"n\d{8}")
AGREEMENT = 0.9  # share of a checkpoint's own labels that must be ImageNet's, in ImageNet's order


@dataclass(frozen=True)
class ImageNet:
    """The outputs of a model trained on ImageNet or a larger set of WordNet classes.

    Attributes:
        subset: timm's name of the list.
        synsets: WordNet ids in output order.
        names: one name per output, made unique by the id where two share one.
        lemmas: all names of each output, normalised.
    """

    subset: str
    synsets: tuple[str, ...]
    names: tuple[str, ...]
    lemmas: tuple[frozenset[str], ...]

    def by_synset(self) -> Mapping[str, int]:
        """WordNet id -> output."""
        return {synset: index for index, synset in enumerate(self.synsets)}

    def find_all(self, name: str) -> list[int]:
        """Every output that is called `name`, also where there are several."""
        return [index for index, lemmas in enumerate(self.lemmas) if normalise_name(name) in lemmas]

    def by_name(self) -> Mapping[str, int]:
        """Normalised name -> output, without names that several outputs have; a first name beats another's second."""
        first = Counter(normalise_name(name.partition(" (n")[0]) for name in self.names)
        every = Counter(lemma for lemmas in self.lemmas for lemma in lemmas)
        output_of = {}
        for index, lemmas in enumerate(self.lemmas):
            own = normalise_name(self.names[index].partition(" (n")[0])
            output_of.update({lemma: index for lemma in lemmas if every[lemma] == 1})
            if first[own] == 1:
                output_of[own] = index
        return output_of


def load_imagenet(n_outputs: int) -> ImageNet | None:
    """The list for a model of so many outputs; None where there is none."""
    if n_outputs not in SUBSETS:
        return None
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo(SUBSETS[n_outputs])
    synsets = tuple(info.label_names())  # type: ignore[no-untyped-call]
    words = [[lemma.strip() for lemma in info.label_name_to_description(synset).split(",")] for synset in synsets]
    shared = Counter(own[0] for own in words)
    names = tuple(
        f"{own[0]} ({synset})" if shared[own[0]] > 1 else own[0] for own, synset in zip(words, synsets, strict=True)
    )
    return ImageNet(SUBSETS[n_outputs], synsets, names, tuple(frozenset(map(normalise_name, own)) for own in words))


def is_synset(name: str) -> bool:
    """True for a WordNet id, for instance ``n01440764``."""
    return SYNSET.fullmatch(name) is not None


def agrees(imagenet: ImageNet, labels: Sequence[str] | None) -> bool:
    """True for labels of a checkpoint that are ImageNet's in ImageNet's order, and where it has none."""
    if labels is None:
        return True
    alike = sum(
        label == synset or bool(lemmas & {normalise_name(word) for word in label.split(",")})
        for label, synset, lemmas in zip(labels, imagenet.synsets, imagenet.lemmas, strict=True)
    )
    return alike >= AGREEMENT * len(imagenet.synsets)


def normalise_name(name: str) -> str:
    """A name without case, and with one space for every run of spaces, underscores and hyphens."""
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()
