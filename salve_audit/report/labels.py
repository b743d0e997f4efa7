"""What a report calls a class: its name, clean and short enough for a table, and never the label of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from salve_audit.report.numbers import LONGEST_NAME, clip


def label_classes(names: Iterable[str], most: int = LONGEST_NAME) -> Mapping[str, str]:
    """A label for each name: the name itself where it is short and clean; numbered where two would be alike."""
    names = list(dict.fromkeys(names))
    plain = {name: clip(name, most) or "‹no name›" for name in names}
    seen: dict[str, int] = {}
    for label in plain.values():
        seen[label] = seen.get(label, 0) + 1
    taken = {label for label, times in seen.items() if times == 1}
    labels: dict[str, str] = {}
    for position, name in enumerate(names):
        label = plain[name]
        if label not in taken:
            label = _numbered(name, position + 1, most, taken)
            taken.add(label)
        labels[name] = label
    return labels


def _numbered(name: str, number: int, most: int, taken: set[str]) -> str:
    while True:
        mark = f" ‹{number}›"
        label = clip(name, most - len(mark)) + mark
        if label not in taken:
            return label
        number += 1


def slug(label: str) -> str:
    """A label as part of an address: letters, digits and hyphens."""
    kept = "".join(c.lower() if c.isalnum() else "-" for c in label)
    return "-".join(part for part in kept.split("-") if part) or "x"


def address_classes(labels: Iterable[str]) -> Mapping[str, str]:
    """The anchor of each class's card, ``class-ripple``; numbered where two would be alike."""
    anchors: dict[str, str] = {}
    used: set[str] = set()
    for label in labels:
        anchor = base = f"class-{slug(label)}"
        number = 2
        while anchor in used:
            anchor, number = f"{base}-{number}", number + 1
        used.add(anchor)
        anchors[label] = anchor
    return anchors
