"""The data without the model: properties beside the network's factors, and images that are there twice."""

from __future__ import annotations

import dataclasses

from report_reliance import build_scenario

from salve_audit.report import render_html
from salve_audit.report.view.data_check import IN_DATA_AND_USED, IN_DATA_ONLY, UNKNOWN, USED_ONLY, list_uses
from salve_audit.results import AuditResult, DataCheck, DataCue, DuplicatePair, FactorEffect

SHARP = FactorEffect("sharpness", 0.7, 0.6, 0.8, 0.02, kind="sharpness", n=60, excess=0.68, excess_low=0.5)
BORDER = FactorEffect("wide border", 0.4, 0.3, 0.5, 0.0, kind="border", n=60, excess=0.4, excess_low=0.2)
COLOUR = FactorEffect("colour", 0.02, 0.0, 0.08, 0.02, kind="colour", n=60, excess=0.0, excess_low=-0.1)


def cue(property_name: str, kind: str, class_name: str, low: float = 0.7) -> DataCue:
    return DataCue(property_name, class_name, 0.9, low, 0.95, True, 1.0, 0.5, 40, kind)


def checked() -> AuditResult:
    result = build_scenario("failing")
    name = result.classes[0].name
    first = dataclasses.replace(result.classes[0].image_reliance, factors=(SHARP, BORDER, COLOUR))  # type: ignore[type-var]
    classes = (dataclasses.replace(result.classes[0], image_reliance=first), *result.classes[1:])
    others = (dataclasses.replace(info, image_reliance=None) for info in classes[1:])
    cues = (cue("sharpness", "sharpness", name), cue("brightness", "colour", name), cue("width", "", name))
    pair = DuplicatePair("val/<b>.png", name, "train/2.png", classes[1].name, True, True)
    check = DataCheck(300, 10, 0, ("sharpness", "brightness", "width"), cues, 500, 1, 0, 1, (pair,))
    return dataclasses.replace(result, classes=(classes[0], *others), data_check=check)


def test_what_is_in_the_data_stands_beside_what_is_used() -> None:
    uses = list_uses(checked())
    assert [(use.state, use.cue and use.cue.property, use.factor and use.factor.name) for use in uses] == [
        (IN_DATA_AND_USED, "sharpness", "sharpness"),
        (USED_ONLY, None, "wide border"),
        (UNKNOWN, "width", None),
        (IN_DATA_ONLY, "brightness", None),
    ]


def test_the_section_says_it_and_names_are_escaped() -> None:
    page = render_html(checked())
    assert "The data without the model" in page
    assert "3 properties of the images alone" in page
    assert "1 class can be told from the rest by one of them, and the network uses 1 of these findings" in page
    assert "have a near-duplicate in the fit split" in page
    assert "val/&lt;b&gt;.png" in page
    assert "1 pair with different labels." in page


def test_an_audit_without_images_or_of_an_earlier_version_says_so() -> None:
    result = build_scenario("failing")
    absent = dataclasses.replace(result, data_check=DataCheck(why_absent="no images"))
    assert "The data were not looked at: no images." in render_html(absent)
    assert "The data without the model" not in render_html(dataclasses.replace(result, data_check=None))
