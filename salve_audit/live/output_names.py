"""Class names of a module's outputs: as the caller gives them, the data has them, or the module's configuration."""

from __future__ import annotations

import operator
from collections.abc import Iterable, KeysView, Mapping, Sequence, ValuesView
from typing import Any

from salve_audit.errors import UsageError
from salve_audit.live.images import LiveImages
from salve_audit.live.network import LiveNetwork

HINT = "a list or an array of names, names by output ({0: 'cat', 1: 'dog'}), or class_to_idx ({'cat': 0, 'dog': 1})"


def check_names(classes: Any) -> tuple[str, ...] | None:
    """Class names in output order; of a list, an array, an index of pandas, or a mapping from or to outputs.

    Raises:
        UsageError: they are no distinct names, or in no order.
    """
    if classes is None:
        return None
    names = _list_names(classes)
    wrong = next((name for name in names if not isinstance(name, str) or not name), None)
    if wrong is not None:
        raise UsageError("classes", f"expected names, got {type(wrong).__name__} {wrong!r}", hint=HINT)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError("classes", f"the name {twice!r} is there twice")
    return tuple(map(str, names))


def _list_names(classes: Any) -> list[Any]:
    if isinstance(classes, Mapping):
        return _order_by_output(classes)
    listed = classes.tolist() if hasattr(classes, "tolist") else classes
    if isinstance(listed, (str, bytes)) or not isinstance(listed, (Sequence, KeysView, ValuesView)):
        raise UsageError("classes", f"expected names in output order, got {type(classes).__name__}", hint=HINT)
    return list(listed)


def _order_by_output(classes: Mapping[Any, Any]) -> list[Any]:
    """Names of ``{0: name}``, of ``{"0": name}`` as JSON has it, or of torchvision's ``{name: 0}``."""
    names, outputs = list(classes), _whole(classes.values())
    if outputs is None or not all(isinstance(name, str) for name in names):
        keys = [int(key) if isinstance(key, str) and key.isdecimal() else key for key in classes]
        names, outputs = list(classes.values()), _whole(keys)
    if outputs is None or sorted(outputs) != list(range(len(names))):
        raise UsageError("classes", "expected names by output, 0 to k - 1", hint=HINT)
    return [name for _, name in sorted(zip(outputs, names, strict=True))]


def _whole(values: Iterable[Any]) -> list[int] | None:
    try:
        return [operator.index(value) for value in values]
    except TypeError:
        return None


def choose_classes(
    network: LiveNetwork, live: LiveImages, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], str]:
    """One name per output, and where they come from: the caller, the data, the model's configuration, or numbers.

    Raises:
        UsageError: there are names, and another number of outputs.
    """
    n = network.classifier.n_outputs
    if classes is not None:
        if len(classes) != n:
            raise UsageError("classes", f"{len(classes)} names for {n} outputs of the model")
        return tuple(classes), "labels are numbers of outputs, named by classes"
    own = network.classifier.class_names
    if live.names is not None:
        if len(live.names) != n:
            why = f"the data has {len(live.names)} classes, the model {n} outputs"
            hint = f"classes=[...] with {n} names in output order says that labels are numbers of outputs"
            raise UsageError("classes", why, hint=hint)
        return live.names, "labels are numbers of outputs, named by the data"
    if own is not None:
        return own, "labels are numbers of outputs, named by the model's configuration"
    return tuple(str(index) for index in range(n)), "labels are numbers of outputs"
