"""Labelled images as they were found, and how they become a fit part and an audit part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.data.sources.source import ImageSource
from salve_audit.inputs.splitting import draw_from_class, split_class

FIT_NAMES = ("train", "training", "fit")  # in order of preference
AUDIT_NAMES = ("val", "valid", "validation", "test", "testing", "t10k", "eval", "evaluation", "dev")
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
    """

    root: Path
    source: ImageSource
    kind: str
    parts: Mapping[str, ClassKeys]
    classes: tuple[str, ...]
    indices: tuple[int, ...] | None = None
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    in_reading_order: bool = False


def find_role(name: str) -> str:
    """``fit`` or ``audit`` for the name of a split in any case, else empty."""
    plain = name.rstrip("/").lower()
    return "fit" if plain in FIT_NAMES else "audit" if plain in AUDIT_NAMES else ""


def split_catalogue(catalogue: Catalogue, seed: int, limit: int | None = None) -> ImageSet:
    """The image set: by the splits' names, or 60/40 per class by `seed` where there is only one part.

    Args:
        catalogue: what was found.
        seed: of the split, and of the choice under `limit`.
        limit: at most so many images per class and split.

    Raises:
        DataError: one class only, unlike classes in the splits, or a class with one image that has to be split.
    """
    fit_name, audit_name = _choose_parts(catalogue)
    if fit_name != audit_name:
        fit, audit = catalogue.parts[fit_name], catalogue.parts[audit_name]
        _check_same_classes(catalogue.root, (fit_name, fit), (audit_name, audit))
        layout = f"{fit_name} to fit, {audit_name} to audit"
        layout = layout if fit_name.endswith("/") else f"{catalogue.kind}, {layout}"
    else:
        fit, audit = _split(catalogue, catalogue.parts[fit_name], seed)
        layout = f"{catalogue.kind}, {f'{fit_name} alone, ' if fit_name else ''}split 60/40 per class by seed {seed}"
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
    )


def _choose_parts(catalogue: Catalogue) -> tuple[str, str]:
    """Names of the parts to fit and to audit; the same twice where one part has to be split."""
    parts = {name: keys for name, keys in catalogue.parts.items() if any(keys.values())}
    if not parts:
        raise DataError(str(catalogue.root), "no images")
    if not any(find_role(name) for name in parts) and len(parts) > 1:
        names = ", ".join(repr(name) for name in sorted(parts)[:5])
        raise DataError(str(catalogue.root), f"splits called {names}", hint="call them train and val or test")
    fit = _first(parts, FIT_NAMES)
    audit = _first(parts, AUDIT_NAMES)
    chosen = fit or audit or next(iter(parts))
    if len(catalogue.classes) < 2:
        raise DataError(str(catalogue.root), f"one class only ({catalogue.classes[0]!r}), an audit needs two or more")
    if fit and not audit and len(parts) > 1:
        raise DataError(str(catalogue.root), f"has {fit} but no val, test or other part to audit")
    return (fit, audit) if fit and audit else (chosen, chosen)


def _first(parts: Mapping[str, ClassKeys], names: tuple[str, ...]) -> str:
    plain = {name.rstrip("/").lower(): name for name in parts}
    return next((plain[name] for name in names if name in plain), "")


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
