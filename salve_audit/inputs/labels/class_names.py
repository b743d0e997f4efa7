"""Class names in output order, out of the many forms in which checkpoints and JSON files keep them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salve_audit.inputs.names import show_name
from salve_audit.results.decisions import Decision

# the likeliest first; compared without case and underscores
NAME_KEYS = (
    "class_names", "classes", "class_to_idx", "idx_to_class", "id2label", "label2id", "label_names", "labels", "names",
    "classnames", "class_labels", "class_list", "classes_list", "class2idx", "idx2class", "class_to_index",
    "index_to_class", "class_idx", "class_indices", "class_dict", "class_map", "class_mapping", "label_map",
    "label_mapping", "label_to_idx", "idx_to_label", "label2idx", "idx2label", "label_to_index", "index_to_label",
    "index_to_name", "idx_to_name", "id_to_name", "id2name", "name_to_idx", "int_to_label", "label_to_int",
    "categories", "category_names", "target_names", "vocab", "cat_to_name",
)  # fmt: skip
# of Lightning, OpenMMLab and plain dictionaries: where such entries lie, besides the top level and the settings
FOLDERS = "cat_to_name"  # of Oxford's flowers, whose folders are numbers from 1 on: not outputs
NEVER = ("optim", "scheduler", "scaler", "rng", "callbacks", "loops", "state_dict")
DEEPEST = 3
MOST = 100_000  # names
SHOWN = 4
_RANKS = {key.replace("_", ""): rank for rank, key in enumerate(NAME_KEYS)}


@dataclass(frozen=True)
class NamedClasses:
    """Class names in output order, and where they were found, for instance ``meta.dataset_meta.classes``.

    Attributes:
        place: in the file.
        names: in output order; empty: they are there in a form that cannot be read.
        by_one: they were numbered from 1, which holds only where there is a name for each output.
    """

    place: str
    names: tuple[str, ...]
    by_one: bool = False


def find_class_names(content: Mapping[Any, Any]) -> tuple[NamedClasses, ...]:
    """All lists of class names in nested dictionaries; shallow before deep, then by `NAME_KEYS`."""
    listed = sorted(_walk(content, ()), key=lambda entry: entry[0])
    return tuple(named for _, named in listed)


def choose_class_names(candidates: Sequence[NamedClasses], n_outputs: int) -> tuple[NamedClasses | None, str]:
    """The first candidate with a name for each output, else the first; and what another one says otherwise."""
    fitting = [named for named in candidates if len(named.names) == n_outputs]
    others = [named for named in candidates if named.names and not named.by_one]
    chosen = next(iter(fitting or others), None)
    other = next((named for named in fitting[1:] if chosen is not None and named.names != chosen.names), None)
    return chosen, "" if other is None else f"{other.place} in the same file has another order or other names"


def describe_class_names(candidates: Sequence[NamedClasses], n_outputs: int) -> tuple[Decision, ...]:
    """The decision about the names of the outputs; none where no list of names was found."""
    chosen, conflict = choose_class_names(candidates, n_outputs)
    if chosen is None:
        conflict = "it may say another order: --classes FILE maps them by hand"
        return tuple(Decision("class names", "not read", named.place, conflict) for named in candidates[:1])
    shown = ", ".join(map(show_name, chosen.names[:SHOWN])) + (", ..." if len(chosen.names) > SHOWN else "")
    return (Decision("class names", shown, chosen.place, conflict),)


def read_class_names(value: Any) -> tuple[str, ...] | None:
    """Names in output order, from a list of texts, index -> name, name -> index, or records with id and name."""
    if isinstance(value, Mapping):
        return _read_mapping(value) if 0 < len(value) <= MOST else None
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= MOST:
        return None
    if all(isinstance(item, Mapping) for item in value):
        return _read_records(value)
    return tuple(value) if all(isinstance(item, str) for item in value) else None


def find_other_lists(content: Mapping[Any, Any], keys: tuple[str, ...] = ()) -> tuple[NamedClasses, ...]:
    """Lists of texts under any other name, which are class names where the data's classes are called so."""
    lists: list[NamedClasses] = []
    for key, value in _entries(content):
        if not isinstance(key, str) or any(word in key.lower() for word in NEVER):
            continue
        names = None if _rank(key) is not None else read_class_names(value) or _read_by_one(value)
        if names is not None and len(set(names)) == len(names) > 1:
            lists.append(NamedClasses(f"the names under {'.'.join((*keys, key))!r} in the checkpoint", names))
        elif isinstance(value, Mapping) and len(keys) < DEEPEST:
            lists += find_other_lists(value, (*keys, key))
    return tuple(lists)


def _rank(key: str) -> int | None:
    return _RANKS.get(key.lower().replace("_", "").replace("-", ""))


def _entries(content: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Of a dictionary, or of an object that was read without its class."""
    yield from content.items()
    attributes = getattr(content, "attributes", None)
    yield from attributes.items() if isinstance(attributes, Mapping) else ()


def _walk(content: Mapping[Any, Any], keys: tuple[str, ...]) -> Iterator[tuple[tuple[int, int], NamedClasses]]:
    for key, value in _entries(content):
        if not isinstance(key, str):
            continue
        rank, place = _rank(key), ".".join((*keys, key))
        names = read_class_names(value) if rank is not None else None
        by_one = _read_by_one(value) if rank is not None and key != FOLDERS else None
        if rank is not None and (names or by_one):
            yield (len(keys), rank), NamedClasses(place, names or by_one or (), by_one=names is None)
        elif isinstance(value, Mapping) and len(keys) < DEEPEST and not any(word in key.lower() for word in NEVER):
            inner = list(_walk(value, (*keys, key)))
            yield from inner
            if rank is not None and not inner and hasattr(value, "arguments"):
                yield (len(keys), len(_RANKS)), NamedClasses(place, ())


def _read_by_one(value: Any) -> tuple[str, ...] | None:
    """Names by numbers from 1 on, or numbers by names."""
    if not isinstance(value, Mapping) or not 0 < len(value) <= MOST:
        return None
    for pairs in (value.items(), ((number, name) for name, number in value.items())):
        names = {_as_index(number): _plain_name(name) for number, name in pairs}
        if set(names) == set(range(1, len(value) + 1)) and all(names.values()):
            return tuple(str(names[number]) for number in range(1, len(value) + 1))
    return None


def _read_mapping(value: Mapping[Any, Any]) -> tuple[str, ...] | None:
    by_key = {index: name for key, name in value.items() if (index := _as_index(key)) is not None}
    if len(by_key) == len(value):
        names = [_plain_name(by_key.get(index)) for index in range(len(by_key))]
        return tuple(filter(None, names)) if all(names) else None
    by_value = {index: name for name, number in value.items() if (index := _as_index(number)) is not None}
    if len(by_value) != len(value) or set(by_value) != set(range(len(value))):
        return None
    in_order = [by_value[index] for index in range(len(by_value))]
    return tuple(in_order) if all(isinstance(name, str) for name in in_order) else None


def _read_records(records: Sequence[Mapping[Any, Any]]) -> tuple[str, ...] | None:
    names = [record.get("name") for record in records]
    if not all(isinstance(name, str) and name for name in names):
        return None
    numbers = [_as_index(record.get("id", record.get("index"))) for record in records]
    if None in numbers:
        return tuple(map(str, names))
    return _read_mapping(dict(zip(numbers, names, strict=True))) if len(set(numbers)) == len(numbers) else None


def _as_index(value: Any) -> int | None:
    """A whole number from 0 on, as it stands in a pickle or in JSON."""
    if hasattr(value, "tolist"):  # a scalar of numpy or torch
        value = value.tolist()
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else None


def _plain_name(value: Any) -> str | None:
    """A name, or the last text of a pair such as ``["n01440764", "tench"]``."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, str) for part in value):
        value = value[-1]
    return value if isinstance(value, str) and value else None
