"""Labelled images as they were found, and how they become a fit part and an audit part."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.data.sources.source import ImageSource
from salve_audit.inputs.names import words_of
from salve_audit.inputs.splitting import draw_from_class, split_class
from salve_audit.results.decisions import Decision

FIT_NAMES = ("train", "training", "fit")  # in order of preference
AUDIT_NAMES = ("val", "valid", "validation", "test", "testing", "t10k", "eval", "evaluation", "dev")
VALIDATION = frozenset({"val", "valid", "validation", "validate", "valset", "dev"})
ALSO_FIT = (*FIT_NAMES, "trn", "trainset", "trainval")
ALSO_AUDIT = (*AUDIT_NAMES, "validate", "valset", "testset", "tst", "holdout")
FEW = 30  # images of a class, below which hardly any number of it can be judged
AUDITED_PART = "audited part"
ClassKeys = Mapping[str, list[str]]  # class name -> sorted keys


@dataclass(frozen=True)
class Catalogue:
    """Labelled images before they are split.

    Attributes:
        root: file or folder, for messages and the report.
        source: reads the images.
        kind: what the data is, for instance ``one folder per class``.
        parts: split name as shown (``train/`` where it is a folder) -> class -> keys; ``""`` where there are no splits.
        classes: names in label order.
        indices: the outputs that the classes ask for, where labels are numbers.
        attributes: column -> key -> text.
        in_reading_order: images are best read in the order of their keys, not class by class.
        decisions: readings of the data that were chosen between.
    """

    root: Path
    source: ImageSource
    kind: str
    parts: Mapping[str, ClassKeys]
    classes: tuple[str, ...]
    indices: tuple[int, ...] | None = None
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    in_reading_order: bool = False
    decisions: tuple[Decision, ...] = ()


def find_role(name: str) -> str:
    """``fit`` or ``audit`` for the name of a split in any case, else empty."""
    plain = name.rstrip("/").lower()
    return "fit" if plain in FIT_NAMES else "audit" if plain in AUDIT_NAMES else ""


def guess_role(name: str) -> str:
    """`find_role`, else ``fit`` or ``audit`` for a longer name that has such a word: seg_train, PublicTest, val2017."""
    role = find_role(name)
    if role:
        return role
    words = words_of(name)
    is_fit, is_audit = bool(words & set(ALSO_FIT)), bool(words & set(ALSO_AUDIT))
    return "" if is_fit == is_audit else "fit" if is_fit else "audit"


def choose_audit_part(parts: Mapping[str, ClassKeys], among: Collection[str]) -> tuple[str, tuple[Decision, ...]]:
    """The part to audit out of those `among` the parts that are for it, and the decision where there are several.

    The usual order is validation before test; a part with hardly any images gives way to one that has them.
    """
    if not among:
        return "", ()
    ranked = sorted(among, key=_rank_audit)
    first, *others = ranked
    if not others:
        return first, ()
    sizes = {name: min((len(keys) for keys in parts[name].values() if keys), default=0) for name in ranked}
    largest = max(others, key=lambda name: sizes[name])
    if sizes[first] < FEW and sizes[largest] >= 2 * sizes[first] and sizes[largest] > 0:
        few = f"{first} has {sizes[first]} images in its smallest class"
        return largest, (Decision(AUDITED_PART, f"{largest} ({sizes[largest]} in its smallest class)", few),)
    kind, rest = _kind_of_audit(first), ", ".join(others)
    if kind == min(map(_kind_of_audit, others)):
        return first, (Decision(AUDITED_PART, first, f"the first of {', '.join(ranked)}"),)
    why = f"validation comes before {rest}" if kind == 0 else f"what serves as validation comes before {rest}"
    return first, (Decision(AUDITED_PART, first, why),)


def _kind_of_audit(name: str) -> int:
    """0 for a part for validation, 1 for the public part of a competition's test, 3 for the private one, else 2."""
    words = words_of(name)
    return 0 if words & VALIDATION else 1 if "public" in words else 3 if "private" in words else 2


def _rank_audit(name: str) -> tuple[int, int, str]:
    plain = name.rstrip("/").lower()
    return _kind_of_audit(name), AUDIT_NAMES.index(plain) if plain in AUDIT_NAMES else len(AUDIT_NAMES), name


def split_catalogue(catalogue: Catalogue, seed: int, limit: int | None = None) -> ImageSet:
    """The image set: by the splits' names, or 60/40 per class by `seed` where there is only one part.

    Args:
        catalogue: what was found.
        seed: of the split, and of the choice under `limit`.
        limit: at most so many images per class and split.

    Raises:
        DataError: one class only, unlike classes in the splits, or a class with one image that has to be split.
    """
    fit_name, audit_name, decisions = _choose_parts(catalogue)
    if fit_name != audit_name:
        fit, audit = catalogue.parts[fit_name], catalogue.parts[audit_name]
        _check_same_classes(catalogue.root, (fit_name, fit), (audit_name, audit))
        layout = f"{fit_name} to fit, {audit_name} to audit"
        layout = layout if fit_name.endswith("/") else f"{catalogue.kind}, {layout}"
    else:
        fit, audit = _split(catalogue, catalogue.parts[fit_name], seed)
        layout = f"{catalogue.kind}, {f'{fit_name} alone, ' if fit_name else ''}split 60/40 per class by seed {seed}"
        decisions += _describe_split(fit_name)
    if limit is not None:
        layout += f", at most {limit} images per class and split"
    splits = [_to_split(catalogue, _choose(part, limit, seed, number)) for number, part in ((1, fit), (2, audit))]
    chosen = {key for split in splits for key in split.paths} if catalogue.attributes else set()
    return ImageSet(
        root=catalogue.root,
        classes=catalogue.classes,
        fit=splits[0],
        audit=splits[1],
        layout=layout,
        source=catalogue.source,
        indices=catalogue.indices,
        attributes={
            column: {key: text for key, text in values.items() if key in chosen}
            for column, values in catalogue.attributes.items()
        },
        decisions=(*catalogue.decisions, *decisions),
    )


def _describe_split(part: str) -> tuple[Decision, ...]:
    """Says that images which a model was trained on flatter it, where only such a part is there."""
    if find_role(part) != "fit":
        return ()
    conflict = f"a model that was trained on {part} looks better there than it is"
    return (Decision(AUDITED_PART, f"40 % of {part}", "there is no other part with labels", conflict),)


def _choose_parts(catalogue: Catalogue) -> tuple[str, str, tuple[Decision, ...]]:
    """Names of the parts to fit and to audit, the same twice where one part has to be split; and why these."""
    parts = {name: keys for name, keys in catalogue.parts.items() if any(keys.values())}
    if not parts:
        raise DataError(str(catalogue.root), "no images")
    role_of = {name: guess_role(name) for name in parts}
    if not any(role_of.values()) and len(parts) > 1:
        names = ", ".join(repr(name) for name in sorted(parts)[:5])
        raise DataError(str(catalogue.root), f"splits called {names}", hint="call them train and val or test")
    fit = _first([name for name in parts if role_of[name] == "fit"])
    audit, decisions = choose_audit_part(parts, [name for name in parts if role_of[name] == "audit"])
    chosen = fit or audit or next(iter(parts))
    if len(catalogue.classes) < 2:
        raise DataError(str(catalogue.root), f"one class only ({catalogue.classes[0]!r}), an audit needs two or more")
    if fit and not audit and len(parts) > 1:
        raise DataError(str(catalogue.root), f"has {fit} but no val, test or other part to audit")
    return (fit, audit, decisions) if fit and audit else (chosen, chosen, ())


def _first(names: Collection[str]) -> str:
    """The name that is most usual for a part to fit; empty where there is none."""
    order = {name: rank for rank, name in enumerate(FIT_NAMES)}
    return min(names, key=lambda name: (order.get(name.rstrip("/").lower(), len(order)), name), default="")


def _check_same_classes(root: Path, *parts: tuple[str, ClassKeys]) -> None:
    for (having, here), (lacking, there) in (parts, parts[::-1]):
        for name in sorted(name for name in here if here[name] and not there.get(name)):
            raise DataError(str(root), f"the class {name!r} is in {having} but not in {lacking}")


def _split(catalogue: Catalogue, keys: ClassKeys, seed: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Splits the images 60/40 per class; every class keeps an image on both sides."""
    fit, audit = {}, {}
    for index, name in enumerate(catalogue.classes):
        own = keys.get(name, [])
        if len(own) < 2:
            why = f"the class {name!r} has {len(own)} image{'' if len(own) == 1 else 's'}, too few for two parts"
            raise DataError(str(catalogue.root), why, hint="add images, or give train and val")
        fit[name], audit[name] = (sorted(own[i] for i in rows) for rows in split_class(len(own), seed, index))
    return fit, audit


def _choose(files: ClassKeys, limit: int | None, seed: int, part: int) -> ClassKeys:
    """At most `limit` keys per class, drawn without replacement, kept in order."""
    if limit is None:
        return files
    chosen = {}
    for index, name in enumerate(files):
        rows = draw_from_class(len(files[name]), limit, seed, part, index)
        chosen[name] = sorted(files[name][i] for i in rows)
    return chosen


def _to_split(catalogue: Catalogue, files: ClassKeys) -> ImageSplit:
    pairs: Iterator[tuple[str, int]] | list[tuple[str, int]]
    pairs = ((key, index) for index, name in enumerate(catalogue.classes) for key in files.get(name, ()))
    if catalogue.in_reading_order:
        pairs = sorted(pairs)
    both = list(pairs)
    return ImageSplit(tuple(key for key, _ in both), tuple(index for _, index in both))
