"""Matching of the data's classes to a model's outputs, by file, names, numbers or order."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from salve_audit.errors import DataError
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.labels.class_file import read_class_file
from salve_audit.inputs.labels.class_names import NamedClasses
from salve_audit.inputs.labels.imagenet import ImageNet, agrees, is_synset, load_imagenet, normalise_name
from salve_audit.inputs.names import show_name
from salve_audit.inputs.reasons import nearest_names
from salve_audit.results.decisions import Decision

TIMM_ORDER, SORTED_ORDER = "timm", "sorted"  # conventions of training scripts
BY_HAND_HINT = "map them by hand with --classes FILE"
SHOWN = 5
LONGEST_NUMBER = 10  # digits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Outputs:
    """The model's outputs: their number, the checkpoint's own labels, ImageNet's list."""

    n: int
    labels: tuple[str, ...] | None
    imagenet: ImageNet | None

    def name(self, index: int) -> str:
        """Name of an output without images."""
        if self.labels is not None:
            return self.labels[index]
        return self.imagenet.names[index] if self.imagenet is not None else f"output {index}"


@dataclass(frozen=True)
class _Match:
    """The output of every class, how that was found, and whether outputs keep their own names.

    Attributes:
        outputs: of the classes, in their order.
        how: in words.
        own_names: outputs keep their own names.
        by_name: classes and outputs are called the same, so that no confusion of images casts doubt on it.
        conflict: what another convention says; empty: nothing does.
    """

    outputs: tuple[int, ...]
    how: str
    own_names: bool = False
    by_name: bool = False
    conflict: str = ""


@dataclass(frozen=True)
class ClassOrder:
    """How the script that wrote a checkpoint numbers class folders.

    Attributes:
        convention: `TIMM_ORDER`, `SORTED_ORDER`, or empty where it is not known.
        origin: the script, in words.
        lists: of texts in the file or beside it that are the outputs' names where the data's classes are among them.
    """

    convention: str = ""
    origin: str = ""
    lists: tuple[NamedClasses, ...] = ()


UNKNOWN_ORDER = ClassOrder()


def match_classes(
    imageset: ImageSet,
    n_outputs: int,
    class_names: Sequence[str] | None = None,
    classes_file: str | Path | None = None,
    order: ClassOrder = UNKNOWN_ORDER,
) -> ImageSet:
    """The image set with its labels turned into the model's output indices, and one class name per output.

    The first of these that applies: the user's file; the checkpoint's label names; numbers in the data; ImageNet's
    WordNet ids or names for a model of 1,000 outputs (or another of its lists); the order of the classes sorted by
    name as the script that wrote the checkpoint sorts them. All but the last allow a subset of the outputs: the others
    stay rivals without images.

    Raises:
        DataError: no rule fits; shows the numbers of both, or the names that do not fit.
        UsageError: the file cannot be used.
    """
    labels = tuple(class_names) if class_names is not None and len(class_names) == n_outputs else None
    if class_names is not None and labels is None:
        logger.warning("the checkpoint names %d classes for %d outputs; ignored", len(class_names), n_outputs)
    listed = _find_list(imageset, n_outputs, order) if labels is None else None
    labels = listed.names if listed is not None else labels
    if labels is not None and len(set(labels)) < len(labels):
        labels = tuple(f"{label} ({i})" if labels.count(label) > 1 else label for i, label in enumerate(labels))
    imagenet = _relevant_imagenet(imageset, n_outputs, labels)
    outputs = _Outputs(n_outputs, labels, imagenet)
    if classes_file is not None:
        match = _by_hand(imageset, outputs, Path(classes_file))
    else:
        match = (
            _by_labels(imageset, outputs, order, "the checkpoint's label names" if listed is None else listed.place)
            or _by_index(imageset, outputs)
            or _by_number(imageset, outputs, order)
            or _by_imagenet(imageset, outputs)
            or _by_order(imageset, outputs, order)
        )
    return _apply(imageset, outputs, match)


def _relevant_imagenet(imageset: ImageSet, n_outputs: int, labels: tuple[str, ...] | None) -> ImageNet | None:
    imagenet = load_imagenet(n_outputs)
    return imagenet if imagenet is not None and agrees(imagenet, labels) else None


def _apply(imageset: ImageSet, outputs: _Outputs, match: _Match) -> ImageSet:
    mine: dict[int, str] = {}
    for name, output in zip(imageset.classes, match.outputs, strict=True):
        mine[output] = f"{mine[output]} + {name}" if output in mine else name
    own = {} if match.own_names else mine
    names = _unique([own.get(index) or outputs.name(index) for index in range(outputs.n)])
    how = match.how
    if len(mine) < outputs.n:
        how += f"; {len(mine):,} of {outputs.n:,} outputs have images, the others are rivals only"
    return dataclasses.replace(
        imageset,
        classes=names,
        fit=_relabel(imageset.fit, match.outputs),
        audit=_relabel(imageset.audit, match.outputs),
        indices=None,
        mapping=how,
        pairs=tuple(zip(imageset.classes, match.outputs, strict=True)),
        decisions=(*imageset.decisions, _decide(imageset, match)),
        matched_by_name=match.by_name,
    )


def _decide(imageset: ImageSet, match: _Match) -> Decision:
    pairs = sorted(zip(match.outputs, imageset.classes, strict=True))
    shown = ", ".join(f"{show_name(name)} = {output}" for output, name in pairs[:SHOWN])
    return Decision("class order", f"{shown}{', ...' if len(pairs) > SHOWN else ''}", match.how, match.conflict)


def _unique(names: list[str]) -> tuple[str, ...]:
    """Names with their output's number where a class of the data is called like another output."""
    earlier: set[str] = set()
    twice = {name for name in names if name in earlier or earlier.add(name)}  # type: ignore[func-returns-value]
    return tuple(f"{name} ({index})" if name in twice else name for index, name in enumerate(names))


def _relabel(split: ImageSplit, outputs: Sequence[int]) -> ImageSplit:
    return ImageSplit(split.paths, tuple(outputs[label] for label in split.labels))


def _find_list(imageset: ImageSet, n_outputs: int, order: ClassOrder) -> NamedClasses | None:
    """The list with a name for each output that all classes of the data are in."""
    classes = {normalise_name(name) for name in imageset.classes}
    fitting = (named for named in order.lists if len(named.names) == n_outputs)
    return next((named for named in fitting if classes <= {normalise_name(name) for name in named.names}), None)


def _by_labels(imageset: ImageSet, outputs: _Outputs, order: ClassOrder, source: str) -> _Match | None:
    """Matches by the checkpoint's own names, as they are or but for case, spaces, underscores and hyphens."""
    if outputs.labels is None:
        return None
    for key in (str, normalise_name):
        known: dict[str, int] = {}
        for index, label in enumerate(outputs.labels):
            known.setdefault(key(label), index)
        wanted = [key(name) for name in imageset.classes]
        if len(known) == outputs.n and len(set(wanted)) == len(wanted) and all(name in known for name in wanted):
            return _Match(
                tuple(known[name] for name in wanted),
                f"by {source}",
                True,
                True,
                _contradict(outputs.labels, order),
            )
    return None


def _contradict(labels: Sequence[str], order: ClassOrder) -> str:
    """What the convention of the script that wrote the checkpoint says of the order of its own names."""
    usual = sorted(labels, key=natural_key) if order.convention == TIMM_ORDER else sorted(labels)
    if not order.convention or usual == list(labels):
        return ""
    at = next(place for place, name in enumerate(labels) if name != usual[place])
    return f"{order.origin} would number class folders otherwise, with {usual[at]!r} as output {at}"


def _by_index(imageset: ImageSet, outputs: _Outputs) -> _Match | None:
    if imageset.indices is None:
        return None
    beyond = [index for index in imageset.indices if not 0 <= index < outputs.n]
    if beyond:
        hint = BY_HAND_HINT
        if min(imageset.indices) == 1 and max(imageset.indices) == outputs.n:
            hint = f"its labels count from 1; {BY_HAND_HINT}, or count from 0"
        why = f"the label {beyond[0]} is no output: the model has {outputs.n} outputs, 0 to {outputs.n - 1}"
        raise DataError(str(imageset.root), why, hint=hint)
    named = any(name != str(index) for name, index in zip(imageset.classes, imageset.indices, strict=True))
    own_names = not named and (outputs.labels is not None or outputs.imagenet is not None)
    return _Match(imageset.indices, "by index: labels are the outputs' numbers", own_names)


def _by_number(imageset: ImageSet, outputs: _Outputs, order: ClassOrder) -> _Match | None:
    """Matches classes that are called by outputs' numbers, as the labels of a manifest may be."""
    numbers = _read_numbers(imageset.classes)
    if numbers is None or max(numbers) >= outputs.n:
        return None
    is_moved = len(numbers) == outputs.n and list(numbers) != sorted(numbers)
    if is_moved and order.convention == SORTED_ORDER:
        return None  # the script sorts the numbers as text
    conflict = ""
    if is_moved and order.convention != TIMM_ORDER:
        at = next(place for place, number in enumerate(numbers) if number != sorted(numbers)[place])
        conflict = (
            f"torchvision's ImageFolder sorts such names as text, with {imageset.classes[at]!r} as output {at}: for a "
            f"model that was trained so, {BY_HAND_HINT}"
        )
    own_names = outputs.labels is not None or outputs.imagenet is not None
    return _Match(numbers, "by index: the classes' names are the outputs' numbers", own_names, conflict=conflict)


def _read_numbers(names: Sequence[str]) -> tuple[int, ...] | None:
    """Distinct whole numbers that all names are, or None."""
    if not all(name.isascii() and name.isdigit() and len(name) < LONGEST_NUMBER for name in names):
        return None
    numbers = tuple(int(name) for name in names)
    return numbers if len(set(numbers)) == len(numbers) else None


def _by_imagenet(imageset: ImageSet, outputs: _Outputs) -> _Match | None:
    imagenet = outputs.imagenet
    if imagenet is None:
        return None
    synsets = [is_synset(name) for name in imageset.classes]
    if all(synsets):
        known, how = imagenet.by_synset(), f"by WordNet id ({imagenet.subset})"
        wanted = list(imageset.classes)
    else:
        known, how = imagenet.by_name(), f"by ImageNet name ({imagenet.subset})"
        wanted = [normalise_name(name) for name in imageset.classes]
    unknown = [name for name, key in zip(imageset.classes, wanted, strict=True) if key not in known]
    if not unknown and len({known[key] for key in wanted}) == len(wanted):
        return _Match(tuple(known[key] for key in wanted), how, own_names=True, by_name=True)
    if len(imageset.classes) == outputs.n:
        return None
    shown = ", ".join(show_name(name) for name in unknown[:SHOWN]) or "two classes with one name"
    hint = BY_HAND_HINT
    if unknown and not all(synsets):
        several = imagenet.find_all(unknown[0])
        near = nearest_names(normalise_name(unknown[0]), known, 1)
        if several:
            hint += f"; {show_name(unknown[0])} may be {' or '.join(imagenet.synsets[index] for index in several[:3])}"
        elif near:
            hint += f"; is {unknown[0]!r} {near[0]!r}?"
    why = f"{len(unknown)} of {len(imageset.classes)} classes are no {imagenet.subset} classes ({shown})"
    raise DataError(str(imageset.root), why, hint=hint)


def _by_order(imageset: ImageSet, outputs: _Outputs, order: ClassOrder) -> _Match:
    n_classes, labels = len(imageset.classes), outputs.labels
    if n_classes != outputs.n:
        raise _other_number(imageset, outputs)
    as_timm = order.convention == TIMM_ORDER
    by_timm = sorted(imageset.classes, key=natural_key)
    ordered = by_timm if as_timm else list(imageset.classes)
    conflict = ""
    if by_timm != list(imageset.classes):
        conflict = _describe_other_order(imageset.classes, by_timm, order)
    if labels is not None:
        _check_partial(imageset, labels)
        other = [(name, label) for name, label in zip(ordered, labels, strict=True) if name != label]
        shown = ", ".join(f"{show_name(name)} is taken for {show_name(label)}" for name, label in other[:SHOWN])
        conflict = f"the checkpoint's class names are not the data's; matched by order: {shown}"
    how = f"by order: classes sorted by name are outputs 0 to {n_classes - 1}"
    if as_timm and conflict:
        how = f"by order: classes sorted as {order.origin} sorts them are outputs 0 to {n_classes - 1}"
    elif order.convention and not conflict:
        how += f", as {order.origin} numbers them"
    return _Match(tuple(ordered.index(name) for name in imageset.classes), how, conflict=conflict)


def natural_key(name: str) -> list[int | str]:
    """timm's order of class folders: without regard to case, and digits as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]


def _describe_other_order(by_text: Sequence[str], by_timm: Sequence[str], order: ClassOrder) -> str:
    """What the convention that was not taken says, where it is another one."""
    at = next(place for place, name in enumerate(by_text) if name != by_timm[place])
    if order.convention == TIMM_ORDER:
        return f"torchvision's ImageFolder, which sorts as text, would have {by_text[at]!r} as output {at}"
    other = f"timm's train.py, which ignores case and counts numbers, would have {by_timm[at]!r} as output {at}"
    return other if order.convention else f"{other}: for a model that was trained so, {BY_HAND_HINT}"


def _other_number(imageset: ImageSet, outputs: _Outputs) -> DataError:
    """The error where there is not one class for each output, and no other rule has applied."""
    n_classes, labels = len(imageset.classes), outputs.labels
    missing = sorted(set(labels or ()) - set(imageset.classes))
    hint = f"one class per output is needed, in the outputs' order when sorted by name; or {BY_HAND_HINT}"
    if missing:
        more = " and others" if len(missing) > SHOWN else ""
        hint = f"no images of {', '.join(map(show_name, missing[:SHOWN]))}{more}; {BY_HAND_HINT}"
    # a single output decides between two classes, and counts as two here
    has = f"has {outputs.n} outputs" if outputs.n != 2 else "distinguishes 2 classes"
    return DataError(str(imageset.root), f"{n_classes} classes, but the model {has}", hint=hint)


def _check_partial(imageset: ImageSet, labels: tuple[str, ...]) -> None:
    """Raises where some names fit and contradict the order, which is then wrong for all."""
    at = {normalise_name(label): index for index, label in enumerate(labels)}
    for index, name in enumerate(imageset.classes):
        if at.get(normalise_name(name), index) != index:
            other = next(rival for rival in imageset.classes if normalise_name(rival) not in at)
            why = f"{show_name(name)} is output {at[normalise_name(name)]} by name but {show_name(other)} is none"
            raise DataError(str(imageset.root), why, hint=BY_HAND_HINT)


def _by_hand(imageset: ImageSet, outputs: _Outputs, path: Path) -> _Match:
    wanted = read_class_file(path)
    lacking = [name for name in imageset.classes if name not in wanted]
    if lacking:
        near = nearest_names(lacking[0], wanted, 1)
        hint = f"is it {near[0]!r}?" if near else "every class of the data needs a line"
        raise DataError(str(path), f"no line for the class {show_name(lacking[0])}", hint=hint)
    names = _known_names(outputs)
    return _Match(
        tuple(_find_output(path, name, wanted[name], outputs, names) for name in imageset.classes),
        f"by hand: {path.name}",
    )


def _known_names(outputs: _Outputs) -> Mapping[str, int]:
    known: dict[str, int] = {}
    if outputs.imagenet is not None:
        known |= outputs.imagenet.by_name()
        known |= outputs.imagenet.by_synset()
    return known | {normalise_name(label): index for index, label in enumerate(outputs.labels or ())}


def _find_output(path: Path, name: str, wanted: int | str, outputs: _Outputs, names: Mapping[str, int]) -> int:
    index = wanted if isinstance(wanted, int) else names.get(normalise_name(wanted), -1)
    if not 0 <= index < outputs.n:
        near = nearest_names(str(wanted), names, 1)
        hint = f"is it {near[0]!r}?" if near else f"the model has outputs 0 to {outputs.n - 1}"
        raise DataError(str(path), f"{wanted!r}, given for {show_name(name)}, is no output of the model", hint=hint)
    return index
