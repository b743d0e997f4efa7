"""One label out of several that do not exclude each other: present or absent, a problem of two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from salve_audit.errors import UsageError
from salve_audit.inputs.model.head.linear import LinearHead, fold_one_output

MAX_NAMED = 12


def says_labels(*settings: Mapping[str, Any]) -> bool:
    """True for a checkpoint's settings that declare outputs that do not exclude each other."""
    return any(
        section.get("multi_label") is True
        or section.get("multilabel") is True
        or section.get("problem_type") == "multi_label_classification"
        for section in settings
    )


class LabelNeededError(UsageError):
    """No label was chosen; `names` are those that there are."""

    names: tuple[str, ...] = ()


def require_label(what: str, names: Sequence[str]) -> LabelNeededError:
    """The error where the outputs are labels and none was chosen."""
    shown = ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")
    why = f"the {len(names)} outputs of {what} do not exclude each other, each label is audited by itself"
    error = LabelNeededError("--label", why, hint=f"--label NAME, one of: {shown}")
    error.names = tuple(names)
    return error


def find_label(name: str, names: Sequence[str]) -> int:
    """The output of the label.

    Raises:
        UsageError: there is no such label, or only one output.
    """
    if name not in names:
        shown = ", ".join(names[:MAX_NAMED])
        raise UsageError("--label", f"there is no label {name!r}", hint=f"labels: {shown}")
    return list(names).index(name)


def cut_label(head: LinearHead, index: int) -> LinearHead:
    """The label's own row against absence, its logit against 0, as a head of two classes (see `fold_one_output`)."""
    row = slice(index, index + 1)
    return fold_one_output(LinearHead(head.weight[row], head.bias[row], head.module))


def mark_present(labels: Int[np.ndarray, " n"], index: int) -> Int[np.ndarray, " n"]:
    """The labels of the problem of two classes: 1 where the label is present, else 0."""
    return (labels == index).astype(np.int64)


def name_sides(name: str) -> tuple[str, str]:
    """Names of the two classes, absent and present."""
    return f"not {name}", name


def describe_label(name: str, index: int, n_outputs: int) -> str:
    """The report's sentence about the audited label."""
    return (
        f"label {name!r} (output {index} of {n_outputs}) is audited against its absence, its logit against 0; the "
        "other labels are no rivals, and what an edit does to them is not measured"
    )
