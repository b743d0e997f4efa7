"""Deep edits in the report: what it says follows from the numbers, flattering or not."""

from __future__ import annotations

import dataclasses
import re

import pytest

from salve_audit.report import render_html
from salve_audit.report.view.deep_edits import deep_parts, verdict
from salve_audit.report.view.page import HTML, PDF
from salve_audit.results import AuditResult, DeepComparison, DeepResult, DeepScope, parse_audit

SCOPE = DeepScope("deep-all-writers", ("layer4.0.conv2", "layer4.0.downsample.0"), "", "layer4.0", 0.37, 0.51)


def make_row(method: str, to_salve: tuple[float, float, float] | None = None, reached: bool = True) -> DeepResult:
    mean, low, high = (None, None, None) if to_salve is None else to_salve
    return DeepResult(
        method=method,
        class_name="cat",
        feature=3,
        target_accuracy=0.5,
        strength=1.25,
        reached_accuracy=0.48 if reached else 0.7,
        reached=reached,
        others_accuracy=0.86,
        low=0.83,
        high=0.89,
        others_worst=0.7,
        kl=0.01,
        agreement=0.98,
        weight_change=0.25,
        to_salve=mean,
        to_salve_low=low,
        to_salve_high=high,
    )


def compare(*deep: DeepResult, scope: DeepScope = SCOPE) -> DeepComparison:
    return DeepComparison("ResNet", "", 474, ("cat",), 60, (scope,), (make_row("salve"), *deep))


@pytest.mark.parametrize(
    ("deep", "words"),
    [
        (
            make_row("deep-all-writers", (0.02, 0.01, 0.03)),
            "2.0 points more than with SALVE on average, by the 95 % intervals",
        ),
        (make_row("deep-all-writers", (0.02, 0.01, 0.03)), "more in 1 and less in 0 of 1."),
        (make_row("deep-all-writers", (-0.03, -0.05, -0.01)), "3.0 points less than with SALVE on average"),
        (make_row("deep-all-writers", (-0.03, -0.05, -0.01)), "more in 0 and less in 1 of 1."),
        (make_row("deep-all-writers", (-0.0001, -0.05, 0.05)), "as much as with SALVE on average"),
        (make_row("deep-all-writers", reached=False), "Deep, all writers reaches 0 of 1 targets."),
    ],
)
def test_the_verdict_follows_from_the_numbers(deep: DeepResult, words: str) -> None:
    assert words in verdict(compare(deep)).replace("\u00a0", " ")


@pytest.mark.parametrize("medium", [HTML, PDF])
def test_the_section_names_what_was_edited_and_what_was_left(audit: AuditResult, medium: object) -> None:
    scope = dataclasses.replace(SCOPE, left="the shortcut around layer3.0, which has no weights")
    comparison = compare(
        make_row("deep-all-writers", (0.01, -0.01, 0.02)), make_row("deep-all-writers", reached=False), scope=scope
    )
    page = render_html(dataclasses.replace(audit, deep_edits=comparison), medium)
    page = re.sub("[\u2068\u2069]", "", page).replace("\u00a0", " ")
    for words in (
        "<h3>Deeper edits</h3>",
        "474 images, cat edited, on at most 60 images of each",
        "changes layer4.0.conv2 and layer4.0.downsample.0; only what comes from layer4.0 on ran again.",
        "37.0 % of its reading is left, and the head&#39;s input is off by 51.0 %",
        "Left as it is: the shortcut around layer3.0, which has no weights.",
        "70.0 % (missed)",
        "Deeper edits, class at 50 % accuracy, on a part of the images",
    ):
        assert words in page, words


def test_what_was_not_measured_is_said(audit: AuditResult) -> None:
    comparison = DeepComparison("", "no deep edit is known for some <network>", notes=("cat is left out",))
    page = render_html(dataclasses.replace(audit, deep_edits=comparison), HTML)
    assert "Not measured: no deep edit is known for some &lt;network&gt;." in page
    assert "<h3>Deeper edits</h3>" not in render_html(dataclasses.replace(audit, deep_edits=None), HTML)
    assert deep_parts(None, 10) is None


def test_the_record_survives_the_file(audit: AuditResult) -> None:
    comparison = compare(make_row("deep-all-writers", (0.01, -0.01, 0.02)))
    again = parse_audit(dataclasses.replace(audit, deep_edits=comparison).to_json())
    assert again.deep_edits == comparison
