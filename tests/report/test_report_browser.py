"""The page in Chromium: nothing overflows, nothing is logged, axe finds nothing, and the script does what it says."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from report_reliance import build_scenario, judged

from salve_audit.gate.review import load_review
from salve_audit.report import render_html
from salve_audit.results.reviewable import list_reviewable

pytestmark = pytest.mark.slow
PATIENCE = 180_000  # milliseconds, where other work keeps the processors busy
WIDTHS = NARROW, *_ = (390, 1280, 2560)
UNFOLD = "document.querySelectorAll('details').forEach(d => d.open = true)"
OVERFLOW = "document.documentElement.scrollWidth > window.innerWidth"
SMALL = """[...document.querySelectorAll("main *")].filter(e => e.children.length === 0 && e.textContent.trim()
  && !e.closest("svg, .skip, sup, sub") && e.getClientRects().length && parseFloat(getComputedStyle(e).fontSize) < 11)
  .map(e => e.outerHTML.slice(0, 80))"""

SMALL_IN_CHARTS = """[...document.querySelectorAll("main svg")].flatMap(svg => {
  const view = svg.viewBox.baseVal, shown = svg.getBoundingClientRect().width;
  const scale = view && view.width ? shown / view.width : 1;
  return shown ? [...svg.querySelectorAll("text")].filter(t => scale * parseFloat(t.getAttribute("font-size")) < 10.99)
    .map(t => t.outerHTML) : [];
})"""

REACTION = """() => { const start = performance.now(), field = document.querySelector("#filters [name=name]");
  field.value = "07"; field.dispatchEvent(new Event("input", { bubbles: true }));
  document.body.getBoundingClientRect(); const took = performance.now() - start;
  field.value = ""; field.dispatchEvent(new Event("input", { bubbles: true })); return took; }"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render_html(build_scenario("mixed")), encoding="utf-8")
    return file


def _open(browser: Browser, file: Path, width: int = 1280, **options: object) -> tuple[Page, list[str]]:
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)  # type: ignore[arg-type]
    context.route(re.compile(r"^(?!file:|data:)"), lambda route: pytest.fail(f"asked for {route.request.url}"))
    page, said = context.new_page(), list[str]()
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(file.as_uri(), timeout=PATIENCE)
    return page, said


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_is_tiny_or_says_a_word(browser: Browser, report: Path, width: int) -> None:
    page, said = _open(browser, report, width)
    assert not page.evaluate(OVERFLOW)
    page.evaluate(UNFOLD)
    assert not page.evaluate(OVERFLOW)
    assert page.evaluate(SMALL) == []
    assert page.evaluate(SMALL_IN_CHARTS) == []
    assert said == []
    page.context.close()


@pytest.fixture(scope="module")
def small_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of element in a page of two classes: axe-core takes its time."""
    file = tmp_path_factory.mktemp("small") / "report.html"
    file.write_text(render_html(judged(build_scenario("two"), fail_over_reliance=0.5)), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing(browser: Browser, small_report: Path, width: int) -> None:
    """Light and dark, the appendix unfolded once; the page's policy is off, or axe-core would not run."""
    page, _ = _open(browser, small_report, width, bypass_csp=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert _violations(page) == []
    if width == NARROW:
        page.evaluate(UNFOLD)
        assert _violations(page, "#appendix") == []
    page.context.close()


def _violations(page: Page, within: str | None = None) -> list[tuple[str, str]]:
    found = Axe().run(page, context=within).response["violations"]
    return [(each["id"], each["nodes"][0]["html"][:120]) for each in found]


def test_long_names_widen_nothing(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "long.html"
    file.write_text(render_html(build_scenario("long")), encoding="utf-8")
    for width in (390, 1280):
        page, said = _open(browser, file, width)
        page.evaluate(UNFOLD)
        assert not page.evaluate(OVERFLOW)
        assert said == []
        page.context.close()


def test_the_script_jumps_sorts_and_filters(browser: Browser, report: Path) -> None:
    page, said = _open(browser, report)
    page.keyboard.press("/")
    page.keyboard.type("truc")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#class-truck"
    assert page.evaluate("document.activeElement.id") == "class-truck"
    rows = page.locator("#index-table tbody tr:visible")
    assert rows.count() == 10
    page.locator("#filters select[name=group]").select_option("depends")
    assert 0 < rows.count() < 10
    page.locator("#filters select[name=group]").select_option("")
    page.locator("#index-table th", has_text="Image reliance").locator("button").click()
    shares = [
        float(text.split()[0])
        for text in page.locator("#index-table tbody td:nth-child(6)").all_inner_texts()
        if text != "–"
    ]
    assert shares == sorted(shares)
    page.goto(report.as_uri() + "#method")
    assert page.evaluate("document.getElementById('method').open")
    assert said == []
    page.context.close()


def test_one_strength_moves_curves_accuracies_and_confusion_together(browser: Browser, report: Path) -> None:
    """Exactly: of 40 images one leaves its class at each tenth of the strength, up to 30."""
    page, said = _open(browser, report)
    slider, own = page.locator("#strength"), page.locator(".confusion tbody tr.own")
    assert (own.locator(".now").inner_text(), own.locator(".cell", has_text="40").count()) == ("100 %", 1)
    marks = set()
    for value, strength, accuracy, counts in (
        (500, "1.00", "75 %", ["30", "10"]),  # a quadratic slider: a quarter of 4
        (1000, "4.00", "25 %", ["10", "30"]),
        (0, "0.00", "100 %", ["40"]),
    ):
        slider.evaluate("(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", value)
        assert page.locator(".explorer output").inner_text() == f"α̂ = {strength}"
        assert own.locator(".now").inner_text() == accuracy
        assert [text for text in own.locator(".cell").all_inner_texts() if text] == counts
        marks.add(page.locator(".steps-curve .now").get_attribute("d"))
        marks.add(page.locator(".card .curve line.at").first.get_attribute("x1"))
    assert len(marks) == 6
    page.locator(".explorer button").click()
    assert page.locator(".explorer output").inner_text() != "α̂ = 0.00"
    page.locator("#feature").select_option("1")
    assert page.locator(".confusion tr.own th").inner_text() == "automobile"
    assert said == []
    page.context.close()


def test_images_theme_downloads_and_commands(browser: Browser, report: Path) -> None:
    page, said = _open(browser, report, accept_downloads=True)
    with page.expect_download() as download:
        page.locator(".acts a", has_text="JSON").click()
    numbers = json.loads(gzip.decompress(Path(download.value.path()).read_bytes()))
    assert len(numbers["classes"]) == 10
    assert "jpeg" not in json.dumps(numbers)
    page.locator(".acts a", has_text="Rerun").click()
    assert page.evaluate("location.hash") == "#rerun"
    page.locator(".images img").first.focus()
    page.keyboard.press("Enter")
    first = page.locator("dialog img").get_attribute("src")
    page.locator("dialog button", has_text="before / after").click()
    assert page.locator("dialog img").get_attribute("src") != first
    page.keyboard.press("Escape")
    assert not page.locator("dialog img").is_visible()
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 23, 26)"
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.className").startswith("card")
    assert said == []
    page.context.close()


def test_everything_is_there_without_script(browser: Browser, report: Path) -> None:
    page, said = _open(browser, report, java_script_enabled=False)
    assert page.locator(".tools").is_hidden()
    assert page.locator("#index-table tbody tr").count() == 10
    assert page.locator(".card").count() == 10
    page.locator("#method summary").click()
    assert page.locator("#method dl").first.is_visible()
    assert said == []
    page.context.close()


def test_a_thousand_classes_are_paged_and_found(browser: Browser, thousand_page: Path) -> None:
    page, said = _open(browser, thousand_page, 390)
    assert page.locator("#index-table tbody tr:visible").count() == 100
    assert page.locator(".confusion tbody tr").count() <= 30  # of the classes that change most
    assert page.evaluate(REACTION) < 1000
    page.locator("#jump").fill("class 0777")
    page.keyboard.press("Enter")
    assert page.locator("#class-class-0777").is_visible()
    assert not page.evaluate(OVERFLOW)
    assert said == []
    page.context.close()


def test_the_review_form_writes_the_file_that_the_gate_reads(browser: Browser, report: Path, tmp_path: Path) -> None:
    page, said = _open(browser, report, accept_downloads=True)
    fields = page.locator("#review-form fieldset")
    first, second = fields.nth(0), fields.nth(1)
    first.locator("input[value=shortcut]").check()
    first.locator("input[name=name]").fill('a "tag"')
    second.locator("input[value=accepted]").check()
    page.locator("#review-form button").first.click()
    assert page.locator("#review-form output").text_content() == ""  # nobody says so yet
    page.locator("#review-form input[name=who]").fill("Zoë")
    with page.expect_download() as download:
        page.locator("#review-form button").first.click()
    download.value.save_as(tmp_path / "salve-review.toml")
    entries = load_review(tmp_path / "salve-review.toml").entries
    things = list_reviewable(build_scenario("mixed"))
    assert [(entry.class_name, entry.kind) for entry in entries] == [(t.class_name, t.kind) for t in things[:2]]
    assert (entries[0].name, entries[0].verdict, entries[0].who) == ('a "tag"', "shortcut", "Zoë")
    assert entries[0].fingerprint == things[0].fingerprint
    assert entries[0].crop.startswith("data:image/jpeg;base64,")
    assert said == []
    page.context.close()
