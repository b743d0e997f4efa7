"""Photographic cut-outs on photographs: stamps with exact masks, which Debian packages hold, at 224 pixels or any side.

Classes are lists of file names, written down before any network saw an image. Stamps and photographs, not images, are
split between fitting and audit; stamps whose names begin with the same word may be of one animal and stay together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scenes import (
    OBJECT,
    ClassPlan,
    Drawn,
    bank_of,
    choose_shown,
    generators,
    is_untouched,
    lay_cues,
    plan_classes,
    vary,
)
from shortcuts import Mask, Photo

STAMPS, BACKGROUNDS = Path("/usr/share/tuxpaint/stamps"), Path("/usr/share/backgrounds")
PACKAGES = ("tuxpaint-stamps-default", "mate-backgrounds", "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")
N_CLASSES = 12
LEAST = 60  # pixels of the longer side of a stamp
SIZES = ((0.3, 0.42), (0.42, 0.58), (0.58, 0.8))  # of a class's objects, as shares of the image's side
FIT_SHARE = 0.6

CLASSES: Mapping[str, str] = {
    "cattle": "bison bull cow cow_white gnu-baby gnu-baby-stand gnu-sitting gnu-stand yak zebu",
    "container": "cylinder garbagecan glass home_compost_bin kettle mug pitcher_small teapot toilet wheelie_bin",
    "flower": "adeenia anemone_red anthoorium bolsom chemparathi daffodil flower1 flower10 flower2 flower3 flower4 "
    "flower5 flower6 flower7 flower8 flower9 iris marigold pigface red-gazania rose whitestar-petunia yellow-flower",
    "fruit": "apple_fuji apple_granny_smith apple_green apple_red apple_sierra_beauty apricot avocado banana cherimoya "
    "grapes kiwi lemon mandarine mango orange orange_seville pear pineapple pomegranate raspberry",
    "gravestone": "grave-a grave-b grave-d grave-e grave-f grave-g grave-h grave-i grave-j",
    "horned": "caribou deer doe goat indian_blackbuck mountaingoat ram sheep sheep_lamb wapiti",
    "insect": "Woodlouse bee fly grasshopper hornet hoverfly mantis xanthia",
    "instrument": "bassoon cello cymbal_crash drum_tomtom_floor drumkit guitar2 guitar_classical guitar_electric "
    "guitar_electric_bass trumpet violin",
    "land_bird": "adelaide-rosella albino_peahen blackbird chicken_profile crow crowned_crane cuckoo guineafowl hen "
    "helmeted_guineafowl lark magpie nandou ostrich owl peacock pigeon quetzal rainbow-lorikeet rooster tucan turkey "
    "vulture",
    "planet": "0_sun 1_mercury 2_venus 3_earth 4_mars 5_jupiter 6_saturn 7_uranus 8_neptune 9_pluto moon_full",
    "predator": "badger bear dingo dog european-bear ferret fox lion lion-2 tiger tiger_sumatran",
    "sea_animal": "bluegroper butterflyfish clownfish coraltrout dolphin dolphinfish lionfish lobster moonwrasse orca "
    "sea_lion seahorse shrimp stripedfish whale",
    "small_mammal": "beaver capybara kangaroo koala marmot mouse otter rabbit rabbit-2 rabbit_little rat squirrel "
    "wombat",
    "tool": "hammer mallet_metal measuring_tape paintbrush_large plyers saw scissors_small_closed scissors_small_open "
    "spade wrench wrench_adjustable wrench_plumbers",
    "vegetable": "broccoli carrot chilepepper corn garlic garlics lettuce mushroom onion pattypan_squash pepper potato "
    "pumpkin_small redlettuce tomato yam yellowpepper",
    "vehicle": "747 beetle bradley dumper firetruck garbagetruck green_korean_bus indycar infantry-stryker "
    "pink_tricycle sedan sedan_police sportscar2 truck",
    "water_bird": "drake duck gander heron_greatblue heron_greatblue_flying little-penguin magellanic_penguin pelican "
    "penguin pink_flamingo seagull silver-gull",
}
COMPANIONS: Mapping[str, str] = {
    "coin": "001penny 005nickel 010dime 025quarter 100loonie 200toonie 001 002 005 010 020 050 100 200",
    "ball": "australian_rules_football basketball cricketball football soccer tennis_ball",
}
PHOTOS: Mapping[str, str] = {  # group -> files; a group that is a cue is no ordinary background
    "sky": "Bridge_by_Sander_Klootwijk Infinite-Sea_by_Aury88 Storm aitzgorri_by_Aitzol_Berasategi "
    "picosdeeuropa_by_Aitzol_Berasategi sunset_by_Aitzol_Berasategi",
    "leaves": "Blinds Dragonfly_by_Bolly GreenMeadow LadyBird RainDrops seeding_by_Clements_Engelhardt",
    "other": "Aqua Dune FreshFlower Garden Kleiber_by_Lukas_Baubkus Picture_0B_by_freespace "
    "Picture_1A_by_freespace TwoWings Wine_by_Jakkub_Mede Wood YellowFlower free_by_Peter_Nerlich "
    "friends_by_Aitzol_Berasategi greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi",
}


class MissingPackage(Exception):
    """Says what to install."""


def check_packages() -> None:
    """Raise `MissingPackage` unless the stamps and photographs are there."""
    names = {path.stem for root in (STAMPS, BACKGROUNDS) for path in root.rglob("*") if path.is_file()}
    lacking = [name for group in (CLASSES, COMPANIONS, PHOTOS) for files in group.values() for name in files.split()]
    lacking = [name for name in lacking if name not in names]
    if lacking:
        raise MissingPackage(f"{len(lacking)} images are missing ({lacking[0]}): apt-get install {' '.join(PACKAGES)}")


@cache
def find_files() -> Mapping[str, Path]:
    """Stem -> file; of stamps by the same name, the one that is no drawing."""
    files = [path for root in (BACKGROUNDS, STAMPS) for path in sorted(root.rglob("*"))]
    left_out = {"cartoon", "alphabets", "japanese", "toys", "plastic"}
    return {path.stem: path for path in files if path.suffix in {".png", ".jpg"} and not left_out & set(path.parts)}


@cache
def read_stamp(stem: str) -> Image.Image:
    """A stamp (RGBA), cut to what is not transparent, at most 400 pixels."""
    stamp = Image.open(find_files()[stem]).convert("RGBA")
    stamp = stamp.crop(stamp.getchannel("A").point(lambda value: 255 * (value > 20)).getbbox())
    stamp.thumbnail((400, 400))
    return stamp


@cache
def read_photo(stem: str) -> Image.Image:
    """A photograph whose shorter side is 600 pixels."""
    photo = Image.open(find_files()[stem])
    photo.draft("RGB", (1200, 1200))
    scale = 600 / min(photo.size)
    return photo.convert("RGB").resize((round(photo.width * scale), round(photo.height * scale)))


def split_stamps(stems: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Stems of "fit" and "val"; those whose first word is the same lie on one side."""
    words: dict[str, list[str]] = {}
    for stem in sorted(stems):
        word = stem if re.search(r"[-_][a-z]$|^\d", stem) else re.split(r"[-_]", stem)[0]
        words.setdefault(word, []).append(stem)
    groups = [words[word] for word in np.random.default_rng((seed, 17)).permutation(sorted(words))]
    parts: dict[str, list[str]] = {"fit": [], "val": []}
    for number, group in enumerate(groups):
        enough = len(parts["fit"]) >= FIT_SHARE * len(stems) or (number == len(groups) - 1 and not parts["val"])
        parts["val" if enough else "fit"] += group
    return parts


def _resize(stamp: Image.Image, longest: float) -> Image.Image:
    scale = longest / max(stamp.size)
    size = max(2, round(stamp.width * scale)), max(2, round(stamp.height * scale))
    return stamp.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)


class CutoutScenes:
    """`scenes.Scenes` of one network: its seed chooses twelve classes, their cues, sizes, stamps and photographs."""

    has_object = True

    def __init__(self, side: int, seed: int) -> None:
        check_packages()
        self.side, self.seed, self.bank = side, seed, bank_of(seed)
        rng = np.random.default_rng((seed, 18))
        names = sorted(rng.choice(sorted(CLASSES), N_CLASSES, replace=False).tolist())
        self.plans: list[ClassPlan] = plan_classes(names, self.bank, seed)
        self.sizes = [SIZES[i] for i in rng.integers(len(SIZES), size=N_CLASSES)]
        self.stamps = [split_stamps([s for s in CLASSES[name].split() if self._is_large(s)], seed) for name in names]
        self.group, self.companion = ("leaves", "ball") if is_untouched(seed) else ("sky", "coin")
        self.companions = split_stamps(COMPANIONS[self.companion].split(), seed)
        self.photos = {name: split_stamps(files.split(), seed) for name, files in PHOTOS.items()}

    @staticmethod
    def _is_large(stem: str) -> bool:
        return max(read_stamp(stem).size) >= LEAST

    def draw(self, part: str, label: int, index: int, without: Collection[str] = ()) -> Drawn:
        rng_for = generators(self.seed, part, label, index)
        side = "val" if part == "val" else "fit"
        cues = [name for name in choose_shown(self.plans[label], rng_for) if name not in without]
        photo = self._background(side, self.group in cues, rng_for("group" if self.group in cues else "background"))
        masks: dict[str, Mask] = {}
        if self.group in cues:
            masks[self.group] = np.ones((self.side, self.side), bool)
        photo = self._put_object(photo, side, label, OBJECT not in without, rng_for(OBJECT), masks)
        if self.companion in cues:
            rng = rng_for(self.companion)
            stamp = read_stamp(str(rng.choice(self.companions[side])))
            stamp = _resize(stamp, self.side * rng.uniform(0.15, 0.22)).rotate(rng.uniform(0, 360), expand=True)
            place = self._beside(stamp, masks.get(OBJECT), rng)
            photo, masks[self.companion] = _paste(photo, stamp, place)
        return lay_cues(vary(photo, rng_for("vary")), self.bank, cues, rng_for, masks)

    def _background(self, side: str, is_cue: bool, rng: np.random.Generator) -> Photo:
        groups = [self.group] if is_cue else [name for name in PHOTOS if name != self.group]
        photo = read_photo(str(rng.choice([stem for name in groups for stem in self.photos[name][side]])))
        height = photo.height * (0.55 if groups == ["sky"] else 1.0)  # the ground is left out
        size = rng.uniform(0.5, 1.0) * min(photo.width, height)
        left, top = rng.uniform(0, photo.width - size), rng.uniform(0, height - size)
        crop = photo.resize((self.side, self.side), Image.Resampling.BILINEAR, (left, top, left + size, top + size))
        return np.asarray(crop, np.float32)

    def _put_object(
        self, photo: Photo, side: str, label: int, is_put: bool, rng: np.random.Generator, masks: dict[str, Mask]
    ) -> Photo:
        stamp = read_stamp(str(rng.choice(self.stamps[label][side])))
        stamp = _resize(stamp, self.side * rng.uniform(*self.sizes[label]))
        if rng.random() < 0.5:
            stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        stamp = stamp.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
        free = max(0, self.side - stamp.width), max(0, self.side - stamp.height)
        share = rng.uniform(0.15, 0.85, 2)
        if not is_put:
            return photo
        photo, masks[OBJECT] = _paste(photo, stamp, (int(free[0] * share[0]), int(free[1] * share[1])))
        return photo

    def _beside(self, stamp: Image.Image, around: Mask | None, rng: np.random.Generator) -> tuple[int, int]:
        """The place, of twenty, where a companion hides least of the object."""
        free = self.side - stamp.width, self.side - stamp.height
        places = (rng.uniform(0.02, 0.98, (20, 2)) * free).astype(int)
        if around is None:
            return int(places[0, 0]), int(places[0, 1])
        hidden = [around[top : top + stamp.height, left : left + stamp.width].sum() for left, top in places]
        left, top = places[int(np.argmin(hidden))]
        return int(left), int(top)


def _paste(photo: Photo, stamp: Image.Image, place: tuple[int, int]) -> tuple[Photo, Mask]:
    layer = Image.new("RGBA", (photo.shape[1], photo.shape[0]))
    layer.paste(stamp, place)
    values = np.asarray(layer, np.float32)
    alpha = values[..., 3:] / 255
    return photo * (1 - alpha) + values[..., :3] * alpha, alpha[..., 0] > 0.5
