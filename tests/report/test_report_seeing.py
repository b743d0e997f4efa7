"""The section on what features look at: complete, described in words, honest about gaps, and fit for every screen."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from salve_audit.errors import ResultError
from salve_audit.report import render_html
from salve_audit.report.labels import label_classes
from salve_audit.report.view import PDF
from salve_audit.results import AuditResult, Seeing, nothing_seen, parse_audit

pytestmark = pytest.mark.slow


class Images(HTMLParser):
    """The images of a page, by the figure (or section) that holds them, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._place = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        if tag in ("section", "figure"):
            self._place = own.get("id") or ""
        if tag == "img":
            self.images.append((self._place, own))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        bare = re.sub("[\u2068\u2069]", "", "".join(self.words))
        return " ".join(bare.replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def page(audit: AuditResult) -> Images:
    return Images(render_html(audit))


@pytest.fixture(scope="module")
def seeing(audit: AuditResult) -> Seeing:
    assert audit.seeing is not None
    return audit.seeing


def test_every_image_of_every_gallery_is_there_with_its_map(page: Images, seeing: Seeing) -> None:
    for gallery in seeing.features:
        shown = [attrs for place, attrs in page.images if place == f"feature-{gallery.feature}"]
        expected = [gallery.synthetic.image.jpeg] if gallery.synthetic else []
        for image in gallery.images:
            expected += [seeing.images[image.path].jpeg] if image.path in seeing.images else []
            expected += [each.overlay.jpeg for each in image.maps]
        assert [str(attrs["src"]) for attrs in shown] == [f"data:image/jpeg;base64,{jpeg}" for jpeg in expected]
    assert any(not gallery.images for gallery in seeing.features)
    assert "It fires on no audit image." in page.text


def test_alternative_texts_name_feature_class_and_strength(page: Images, seeing: Seeing) -> None:
    assert page.images
    for _, attrs in page.images:
        assert str(attrs.get("alt", "")).strip()
        assert int(str(attrs["width"])) > 0
        assert int(str(attrs["height"])) > 0
    first = next(
        feature
        for feature in seeing.features
        if len(feature.images) and feature.images[0].maps and not feature.synthetic
    )
    told = [str(attrs["alt"]) for place, attrs in page.images if place == f"feature-{first.feature}"]
    name = first.images[0].class_name
    assert told[0] == f"Feature {first.feature} at strength +5.00: an image of the class {name}"
    share = first.images[0].maps[0].in_top_fifth
    assert share is not None
    of = f"Grad-FAM of feature {first.feature} (+5.00) in that image of the class {name}"
    assert told[1].replace("\u00a0", " ") == f"{of}: {100 * share:.1f} % of the heat outlined"


def test_what_is_missing_is_said(page: Images) -> None:
    for phrase in (
        "could not be read again",
        "1 image could not be read again and is not shown: airplane/1.png",
        "3 dominant or shared features of less fragile classes are left out.",
        "2 less fragile classes are left out.",
        "No image of it flips at any strength.",
        "1 map of 105 is flat.",
        "no evidence",
        "predicted as automobile",
    ):
        assert phrase in page.text, phrase


def test_the_text_says_what_a_map_is_and_is_not(page: Images) -> None:
    assert "no finer than its cells, each of which sees more of the image than it covers" in page.text
    assert "It does not show what the class would lose without it" in page.text
    assert "below each Grad-CAM of the class, then its sharper map" in page.text


def test_a_coarse_grid_is_called_coarse(audit: AuditResult, seeing: Seeing) -> None:
    told = "With 4 cells Grad-FAM hardly distinguishes one corner of the image from another. Read the sharper map."
    coarse = dataclasses.replace(audit, seeing=dataclasses.replace(seeing, grid=(2, 2)))
    assert told in Images(render_html(coarse)).text
    assert told not in Images(render_html(audit)).text


def test_fragile_images_say_what_they_flip_to(page: Images, seeing: Seeing) -> None:
    labels = label_classes([fragile.class_name for fragile in seeing.fragile])
    for fragile in seeing.fragile:
        for image in fragile.images:
            alt = f"An image of the class {labels[fragile.class_name]} that flips to {image.flips_to} at α̂ = "
            assert image.path not in seeing.images or any(str(a["alt"]).startswith(alt) for _, a in page.images)
            assert f"to {image.flips_to}" in page.text


def test_cross_class_features_have_their_images_in_the_table_of_sweeps(page: Images, audit: AuditResult) -> None:
    swept = [feature for feature in audit.features if feature.sweep is not None]
    assert swept
    thumbs = [attrs for place, attrs in page.images if attrs["width"] == "64"]
    assert len(thumbs) == 3 * len(swept)
    for feature in swept:
        assert feature.sweep is not None
        for each in feature.sweep.images[:3]:
            alt = f"Feature {feature.index}: {each.path}, class {each.class_name}"
            assert alt in [attrs["alt"] for attrs in thumbs]


def test_a_second_map_lies_below_the_papers_and_is_named(audit: AuditResult, seeing: Seeing) -> None:
    page = Images(render_html(audit))
    assert (
        "the paper's map, Grad-FAM (4 × 4 cells, layer4), then a sharper one, integrated gradients (8 × 8" in page.text
    )
    first, second = (100 * (heat_map.in_top_fifth or 0) for heat_map in seeing.features[1].images[0].maps)
    assert f"{first:.0f} / {second:.0f} % outlined" in page.text
    assert any(str(attrs["alt"]).startswith("integrated gradients of feature 4 (+5.00)") for _, attrs in page.images)
    alone = dataclasses.replace(seeing, sharp_layer="", sharp_grid=())
    assert "sharper" not in Images(render_html(dataclasses.replace(audit, seeing=alone))).text


def test_many_features_are_folded_away_not_dropped(make_result: Callable[..., AuditResult]) -> None:
    html = render_html(make_result(30, plain_names=True))
    assert "<summary>14 more features</summary>" in html
    assert all(f'id="feature-{3 * i + 1}"' in html for i in range(30))


@pytest.mark.parametrize("with_images", [True, False])
def test_without_images_there_is_no_section_and_the_reason(audit: AuditResult, with_images: bool) -> None:
    why = "the network has no <spatial> layer"
    page = Images(render_html(dataclasses.replace(audit, seeing=nothing_seen(why) if with_images else None)))
    assert not page.images
    assert 'id="seeing"' not in page.text
    assert (f"What the features look at is not shown: {why}." in page.text) is with_images
    assert "val/1/<b>1.png (automobile)" in page.text.replace("0.png", "1.png"), "paths stand where images cannot"


def test_an_earlier_audit_without_the_field_still_loads(audit: AuditResult) -> None:
    value = json.loads(audit.to_json())
    del value["seeing"]
    assert parse_audit(json.dumps(value)) == dataclasses.replace(audit, seeing=None)


def test_records_go_both_ways(audit: AuditResult) -> None:
    assert parse_audit(audit.to_json()).seeing == audit.seeing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s["fragile"][0]["images"][0]["maps"][0]["overlay"].update(jpeg='"><script>'),
            "expected base64 in 'seeing.fragile[0].images[0].maps[0].overlay.jpeg'",
        ),
        (
            lambda s: s["features"][1]["synthetic"]["image"].update(width=0),
            "expected sides of 1..4096 pixels in 'seeing.features[1].synthetic.image'",
        ),
    ],
)
def test_what_is_no_image_is_refused(audit: AuditResult, change: Callable[[dict], object], message: str) -> None:
    value = json.loads(audit.to_json())
    change(value["seeing"])
    with pytest.raises(ResultError) as raised:
        parse_audit(json.dumps(value))
    assert str(raised.value) == f"audit.json: {message}"


def test_a_path_may_be_called_jpeg(audit: AuditResult, seeing: Seeing) -> None:
    images = {**seeing.images, "jpeg": next(iter(seeing.images.values()))}
    odd = dataclasses.replace(audit, seeing=dataclasses.replace(seeing, images=images))
    assert parse_audit(odd.to_json()) == odd


def test_the_pdf_shows_the_most_fragile_and_says_where_the_others_are(make_result: Callable[..., AuditResult]) -> None:
    page = render_html(make_result(14, plain_names=True), PDF)
    assert "What the features look at" in page
    assert "4 more features are in the HTML report" in page
    shown = set(re.findall(r'alt="Grad-FAM of feature (\d+)', page))
    assert len(shown) == 9, "ten galleries, one of a silent feature"


def test_all_images_are_decoded_by_a_browser(browser: Browser, audit: AuditResult, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_html(audit), encoding="utf-8")
    shown = browser.new_page()
    shown.goto(file.as_uri())
    broken = "[...document.images].filter(i => !i.complete || i.naturalWidth < 2).length"
    assert shown.evaluate("document.images.length") > 100
    assert shown.evaluate(broken) == 0
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    shown.close()
