"""What WeasyPrint leaves out of a tagged PDF: scopes of table headers, a table of contents, one entry per attachment.

It works on the objects of the file before they are written, called as WeasyPrint's finisher.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Element = dict[str, Any]


def finish_structure(_: Any, pdf: Any) -> None:
    """Complete the structure tree of a PDF that WeasyPrint (pydyf) is about to write."""
    import pydyf

    elements = {each.reference: each for each in pdf.objects if _is_element(each)}
    for element in elements.values():
        if element["S"] == "/TH":
            element.setdefault("A", pydyf.Dictionary({"O": "/Table"}))  # older WeasyPrint gives none
            element["A"]["Scope"] = "/Column" if _is_below(element, "/THead", elements) else "/Row"
        if element["S"] == "/L" and _is_contents(element, elements):
            _mark_contents(element, elements)
    if "AF" in pdf.catalog:
        entries = list(dict.fromkeys(pdf.catalog["AF"]))
        pdf.catalog["AF"].clear()
        pdf.catalog["AF"].extend(entries)


def _is_element(candidate: Any) -> bool:
    return isinstance(candidate, dict) and candidate.get("Type") == "/StructElem"


def _is_below(element: Element, kind: str, elements: Mapping[Any, Element]) -> bool:
    parent = elements.get(element.get("P"))
    while parent is not None and parent["S"] != "/Table":
        if parent["S"] == kind:
            return True
        parent = elements.get(parent.get("P"))
    return False


def _children(element: Element, elements: Mapping[Any, Element]) -> list[Element]:
    return [elements[kid] for kid in element["K"] if kid in elements]


def _is_contents(element: Element, elements: Mapping[Any, Element]) -> bool:
    """Tells whether each item of a list is a link and nothing else."""
    bodies = [_children(item, elements) for item in _children(element, elements)]
    inner = [kid for body in bodies for part in body for kid in _children(part, elements)]
    return bool(bodies) and len(inner) == len(bodies) and all(kid["S"] == "/Link" for kid in inner)


def _mark_contents(element: Element, elements: Mapping[Any, Element]) -> None:
    element["S"] = "/TOC"
    for item in _children(element, elements):
        item["S"] = "/TOCI"
        for body in _children(item, elements):
            body["S"] = "/Reference"
