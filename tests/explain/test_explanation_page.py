"""The page and the figure of an explanation, opened as a reader would."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from salve_audit.explain.figure import WIDTH, render_figure
from salve_audit.explain.findings import (
    ClassScore,
    Decomposition,
    EditFinding,
    Explanation,
    FeaturePart,
    Flip,
    Heat,
    Maps,
    ShownMap,
)
from salve_audit.explain.page import render_page
from salve_audit.explain.words import conclude, conclude_edit, show_share, signed

pytestmark = pytest.mark.slow

CHROMIUM = Path("/usr/bin/chromium")
HOSTILE = '<img src=x onerror="document.title=1">&"\u202e\x1b[31m'


def make_finding(name: str = "ship", n_features: int = 7) -> Explanation:
    rng = np.random.default_rng(0)
    pixels = np.broadcast_to(rng.integers(0, 255, (160, 1, 3), dtype=np.uint8), (160, 240, 3)).copy()
    classes = (name, "frog", "bird")
    scores = tuple(
        ClassScore(name, i, 8.0 - 3 * i, p) for i, (name, p) in enumerate(zip(classes, (0.9, 0.08, 0.02), strict=True))
    )
    parts = [6.0, -1.5, *[0.5] * (n_features - 2)]
    features = tuple(
        FeaturePart(i, "fur" if i == 1 else None, (name,) if i == 0 else (), 1.0, part, part / 2, Flip(1.4 + i, "frog"))
        for i, part in enumerate(parts)
    )
    rest = 8.0 - sum(parts) - 0.25 + 0.5 - 0.75
    decomposition = Decomposition(name, "frog", 8.0, features, 12, rest, 0.25, -0.5, 0.75)
    heat = Heat(pixels, 0.55)
    maps = Maps(
        layer="layer4",
        grid=(2, 3),
        sharp_layer="layer2",
        features=tuple(ShownMap("Grad-FAM", f"feature {i}", heat, Heat(pixels, None)) for i in range(n_features)),
        before=(ShownMap("Grad-CAM", name, heat, heat), ShownMap("Grad-CAM", "frog", heat, heat)),
        after=(ShownMap("Grad-CAM", f"{name} after the edit", heat, heat),),
    )
    after = (ClassScore("frog", 1, 2.0, 0.7), ClassScore(name, 0, 1.0, 0.3))
    edit = EditFinding(("salve: suppress feature 0, alpha_hat 3",), after, (scores[1], scores[0]), scores[0])
    return Explanation(f"folder/{name}.png", "net.pt", "resnet18", pixels, scores, 10, decomposition, edit, maps, "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("no chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


def test_words() -> None:
    finding = make_finding()
    assert conclude(finding).startswith(
        "ship (90.0\u00a0%), then frog (8.0\u00a0%). What changes that with the least is feature 0"
    )
    assert "suppressed at α̂ 1.40, the model says frog." in conclude(finding)
    assert finding.edit is not None
    assert (
        conclude_edit(finding.edit)
        == "The prediction becomes frog (70.0\u00a0%); ship goes from 90.0\u00a0% to 30.0\u00a0%."
    )
    stays = dataclasses.replace(finding.edit, after=finding.edit.after[::-1], before=finding.edit.before[::-1])
    assert conclude_edit(stays) == "Still ship: 90.0\u00a0% before, 30.0\u00a0% after."
    assert [signed(value) for value in (1.5, -0.25, -0.001, 0.0)] == ["+1.50", "−0.25", "0.00", "0.00"]
    assert show_share(finding.decomposition, -4.0) == "−50.0\u00a0%"
    assert show_share(dataclasses.replace(finding.decomposition, logit=-1.0), 1.0) == ""


@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_in_a_browser(width: int, browser: Browser, tmp_path: Path) -> None:
    """Nothing is cut off, nothing is loaded from elsewhere, every image shows and has words."""
    file = tmp_path / "page.html"
    file.write_text(render_page([make_finding(), make_finding("x" * 80)]), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    urls, errors = [], []
    page.on("request", lambda request: urls.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.goto(file.as_uri())
    assert [url for url in urls if not url.startswith("data:")] == [file.as_uri()]
    assert errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    images = page.locator("img")
    assert images.count() == 2 * (1 + 2 * 7 + 2 * 2 + 2)
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0 && i.alt.length > 9)")
    assert page.locator("h1").count() == 1
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    page.close()


def test_bars_start_at_zero_and_are_as_long_as_their_values(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(render_page([make_finding()]), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(file.as_uri())
    boxes = page.evaluate(
        "[...document.querySelectorAll('.sum .track')].map(t => [t.querySelector('i').getBoundingClientRect(),"
        " t.querySelector('b').getBoundingClientRect()].map(r => [r.left, r.right]))"
    )
    page.close()
    decomposition = make_finding().decomposition
    values = [each.part for each in decomposition.features] + [
        decomposition.rest,
        decomposition.decoder_bias,
        decomposition.error,
        decomposition.head_bias,
    ]
    assert len(boxes) == len(values)
    unit = (boxes[0][0][1] - boxes[0][0][0]) / values[0]
    for (bar, zero), value in zip(boxes, values, strict=True):
        start, end = (bar[0], bar[1]) if value > 0 else (bar[1], bar[0])
        assert start == pytest.approx(zero[0], abs=1.5)
        assert end - start == pytest.approx(value * unit, abs=1.5)


def test_names_cannot_become_markup(browser: Browser, tmp_path: Path) -> None:
    text = render_page([make_finding(HOSTILE)])
    assert "<img src=x" not in text
    assert "\x1b" not in text
    file = tmp_path / "page.html"
    file.write_text(text, encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    assert "explained" in page.title()
    page.close()


def test_the_figure_has_everything_on_it() -> None:
    """The chart has any number of features; nothing is drawn beyond its edges, and no part of it is empty."""
    heights = []
    for n_features in (2, 7, 40):
        with Image.open(io.BytesIO(render_figure([make_finding(n_features=n_features)]))) as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.shape[1] == WIDTH
        heights.append(pixels.shape[0])
        assert (pixels[-30:] == 255).all()
        assert (pixels[:, -20:] == 255).all()
        assert (pixels[-120:-40] < 250).any()  # the last row of tiles is there
    assert heights == sorted(heights)
    with Image.open(io.BytesIO(render_figure([make_finding(HOSTILE), make_finding("x" * 300)]))) as image:
        assert (np.asarray(image.convert("L"))[:, -20:] == 255).all()


def test_without_maps_the_reason_stands_there() -> None:
    bare = dataclasses.replace(make_finding(), maps=None, why_no_maps="no module has a grid")
    assert "There are no heat maps: no module has a grid." in render_page([bare])
    alone = dataclasses.replace(bare, edit=None)
    text = render_page([alone])
    assert "Before and after" not in text
    with Image.open(io.BytesIO(render_figure([alone]))) as image:
        assert image.height < 1200
