"""The page: valid, self-contained, complete, and equal to the result it shows."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from report_reliance import build_scenario

from salve_audit.report import render_html
from salve_audit.report.backing import find_evidence_page
from salve_audit.report.places import templates_dir
from salve_audit.report.view import PDF
from salve_audit.results import AuditResult

pytestmark = pytest.mark.slow

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "wbr"}


class Page(HTMLParser):
    """A strict reader: every element is closed in order; collects elements, text and the text of each cell."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.children: dict[int, list[str]] = {}
        self._stack: list[tuple[str, int]] = []
        self.feed(text)
        self.close()
        assert not self._stack, f"left open: {self._stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        parents = tuple(name for name, _ in self._stack)
        if self._stack:
            self.children.setdefault(self._stack[-1][1], []).append(tag)
        self.elements.append((tag, dict(attrs), parents))
        assert len({key for key, _ in attrs}) == len(attrs), f"an attribute twice in <{tag}>"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self._stack.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._stack.pop()

    def handle_endtag(self, tag: str) -> None:
        name, _ = self._stack.pop()
        assert name == tag, f"<{name}> closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        if any(name in ("style", "script") for name, _ in self._stack):
            return
        self.words.append(data)
        if any(name in ("td", "th") for name, _ in self._stack):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> Iterator[tuple[int, dict[str, str | None]]]:
        return ((i, attrs) for i, (name, attrs, _) in enumerate(self.elements) if name == tag)

    def row(self, name: str) -> list[str]:
        """The first row whose first cell reads `name`."""
        return next(row for row in self.rows if row and row[0].strip() == name)


@pytest.fixture(scope="module")
def html(audit: AuditResult) -> str:
    return render_html(audit)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_needs_nothing_else(page: Page, html: str) -> None:
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {"iframe", "object", "embed", "link", "base", "image", "use", "foreignobject"}
    for tag, attrs, _ in page.elements:
        assert not [key for key in attrs if key.startswith("on")], f"an event handler in <{tag}>"
        assert "style" not in attrs, f"a style attribute in <{tag}>"
        for key in ("src", "srcset", "href", "xlink:href", "data", "action"):
            value = attrs.get(key)
            if tag == "img" and key == "src":
                assert re.fullmatch(r"data:image/jpeg;base64,[A-Za-z0-9+/]+={0,2}", str(value))
            elif value is not None:
                assert tag == "a", f"{key}={value} in <{tag}>"
                outside = {"https://arxiv.org/abs/2512.15938", find_evidence_page()}
                assert value.startswith(("#", "data:application/")) or value.partition("#")[0] in outside
    assert set(re.findall(r"url\(.{18}", html)) == {'url("data:font/woff2;b'}
    assert "@import" not in html


def test_the_policy_lets_only_this_style_and_this_script_run(page: Page, html: str) -> None:
    tags = [tag for tag, _, _ in page.elements]
    policy = next(i for i, attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy < tags.index("style")
    content = str(page.elements[policy][1]["content"])
    assert "unsafe" not in content
    assert content.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in content
    assert tags.count("script") == 2  # the other holds data


def test_the_script_is_small_and_without_libraries() -> None:
    script = (templates_dir() / "report.js").read_text(encoding="utf-8")
    assert len(script.encode()) <= 30_000
    assert not re.search(r"\b(eval|Function|innerHTML|outerHTML|document\.write|fetch|XMLHttpRequest|import)\b", script)


def test_hostile_names_are_text(page: Page, html: str, audit: AuditResult) -> None:
    assert "</script><img" not in html
    assert "</script><img src=x onerror=alert(1)>" in page.text
    assert "val/cat/0001 <b>.jpg" in page.text


def test_structure_is_semantic(page: Page) -> None:
    assert page.elements[0][0] == "html"
    assert page.elements[0][1]["lang"] == "en"
    assert sum(1 for _ in page.all("main")) == 1
    assert sum(1 for _ in page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), levels
    assert all(attrs.get("scope") in ("col", "row", "rowgroup") for _, attrs in page.all("th"))


def test_links_and_labels_have_targets_and_ids_are_unique(page: Page) -> None:
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for _, attrs in page.all("a")]
    assert any(link == "#report" for link in links), "no skip link"
    assert {str(link)[1:] for link in links if str(link).startswith("#")} <= set(ids)
    assert {attrs["aria-labelledby"] for _, attrs, _ in page.elements if "aria-labelledby" in attrs} <= set(ids)


@pytest.mark.parametrize("scenario", ["arrays", "long"])
def test_every_class_name_links_to_its_card_or_row(scenario: str) -> None:
    result = build_scenario(scenario)
    _assert_linked(Page(render_html(result)), result)


def _assert_linked(page: Page, result: AuditResult) -> None:
    ids = {attrs["id"] for _, attrs, _ in page.elements if "id" in attrs}
    links = [attrs for _, attrs in page.all("a") if attrs.get("class") == "cls"]
    assert {str(attrs["href"])[1:] for attrs in links} <= ids
    assert sum(1 for i in ids if str(i).startswith("class-") and not str(i).endswith("-name")) == len(result.classes)


def test_every_chart_says_what_it_shows(page: Page) -> None:
    charts = list(page.all("svg"))
    assert len(charts) >= 9 + 6
    for i, attrs in charts:
        if attrs.get("aria-hidden") == "true":
            continue
        assert page.children[i][0] == "title"
        assert attrs["role"] == "img"


def test_every_class_and_its_numbers_are_shown(page: Page, audit: AuditResult) -> None:
    expected = {
        "ship": ["Not examined", "fail", "500", "84.8 %", "0.620", "–"],
        "cat": ["Not examined", "thin", "11", "82 %", "13.2", "thin"],
        "bird": ["Not examined", "pass", "500", "76.6 %", "not reached", "erased"],
    }
    rows = {row[0].strip(): row for row in page.rows if len(row) == 7 and row[3].strip().isdigit()}
    for name, cells in expected.items():
        assert [cell.replace("\u00a0", " ").strip() for cell in rows[name][1:]] == cells
    assert len(rows) == len(audit.classes)


def test_first_page_says_verdict_and_limits_of_the_claim(page: Page, audit: AuditResult) -> None:
    front = page.text[: page.text.index("How to read it")]
    assert "Fail" in front
    assert "What the classes depend on in their images was not measured" in front
    assert "α̂ flip median 0.620 (0.539 to 0.713), limit 1.50" in front
    assert "Undecided, which does not fail: \u2068truck\u2069." in front
    assert "not what it depends on in the image" in front
    assert "4 July 2026, 12:34 UTC" in front
    for note in audit.notes:
        assert note in page.text


def test_zero_sample_class_is_explained_not_invented(page: Page) -> None:
    assert "no audit images of this class" in page.text
    assert "There are no audit images of it." in page.text


def test_provenance_is_complete_and_leaves_defaults_out(page: Page, audit: AuditResult) -> None:
    record = audit.provenance
    for value in (record.model_sha256, record.data_sha256, record.sae_sha256, *record.versions.values()):
        assert value in page.text
    assert page.row("sae")[1] == "linear-l1"
    assert not [row for row in page.rows if row[0].strip() == "interventions"]  # all methods are the default
    assert "salve-audit resnet18_cifar10_64.pt data/cifar10 --fail-under 1.5 --sae linear-l1" in page.text
    for skipped in audit.data.skipped:
        assert page.row(skipped.path)[1] == skipped.reason


def test_the_demo_says_how_the_truth_came_out(page: Page) -> None:
    after = page.text[page.text.rindex("What was planted, what was found") - 2000 :]
    assert "not expected to rank it" in after
    assert "None of the 2 statistics ranks the classes" in after
    assert "−0.19" in after


def test_no_demo_no_section(unpoliced: AuditResult) -> None:
    text = Page(render_html(unpoliced)).text
    assert "What was planted" not in text
    assert "no policy" in text
    assert "The autoencoder misses its goal" in text
    assert "Code named by the user was run" in text[: text.index("How to read it")]


def test_a_thousand_classes_stay_small_and_say_what_is_cut(thousand_page: Path) -> None:
    html = thousand_page.read_text(encoding="utf-8")
    assert len(html.encode()) < 15_000_000
    page = Page(html)
    _assert_linked(page, build_scenario("thousand"))
    assert "Shown are the first 50 of 900 classes, by image reliance less chance." in page.text
    assert "class 0999" in page.text
    assert sum(attrs.get("class", "").startswith("card ") for _, attrs in page.all("article")) == 60  # type: ignore[union-attr]
    front = page.text[: page.text.index("How to read it")]
    assert "Image reliance of 800 classes" in front
    assert "more in the index" in front


@pytest.mark.parametrize("n_classes", [1, 2, 4])
def test_small_worlds(make_result: Callable[..., AuditResult], n_classes: int) -> None:
    page = Page(render_html(make_result(n_classes, plain_names=True)))
    assert page.row("class 0000")


@pytest.mark.parametrize("scenario", ["no-images", "arrays"])
def test_nothing_is_said_of_images_that_are_not_there(scenario: str) -> None:
    result = dataclasses.replace(build_scenario(scenario), seeing=None)
    for medium_page in (render_html(result), render_html(result, PDF)):
        page = Page(medium_page)
        assert not list(page.all("img"))
        for phrase in ("image below", "Shown are the images", "outlined image", "in its card", "The same image"):
            assert phrase not in page.text, phrase


def test_long_and_odd_names_are_shown_short_and_whole(page: Page) -> None:
    result = build_scenario("long")
    html = render_html(result)
    assert "\u202e" not in html
    page = Page(html)
    labels = [(attrs.get("title"), attrs["href"]) for _, attrs in page.all("a") if attrs.get("class") == "cls"]
    whole = {title for title, _ in labels if title}
    assert {info.name for info in result.classes if info.name.startswith("xxx")} <= whole
    assert "‹U+202E›gnp.exe" in page.text


def test_a_curve_without_other_classes(make_result: Callable[..., AuditResult]) -> None:
    result = make_result(2, plain_names=True)
    alone = tuple(dataclasses.replace(c, curve=dataclasses.replace(c.curve, others=())) for c in result.classes)
    assert Page(render_html(dataclasses.replace(result, classes=alone))).row("class 0000")


def test_empty_parts_become_sentences(audit: AuditResult) -> None:
    sae = dataclasses.replace(audit.sae, frontier=(), stability=None)
    bare = dataclasses.replace(
        audit, features=(), interventions=(), intervention_summary=(), intervention_spread=(), notes=(), sae=sae
    )
    text = Page(render_html(bare)).text
    assert "No interventions were compared in this audit." in text
    assert "audit.json holds no features." in text
    assert "No feature concerns more than one class." in text
    assert "Stability over seeds was not measured." in text


def test_names_that_no_document_can_hold(audit: AuditResult) -> None:
    odd = "a\x00b\udcff\x1bc"
    first = dataclasses.replace(audit.classes[0], name=odd)
    data = dataclasses.replace(audit.data, classes=(odd, *audit.data.classes[1:]))
    html = render_html(dataclasses.replace(audit, classes=(first, *audit.classes[1:]), data=data))
    html.encode("utf-8")
    assert "\x00" not in html
    assert "\x1b" not in html
    assert "a‹U+0000›b‹U+DCFF›‹U+001B›c" in html


def test_same_result_same_page(audit: AuditResult, html: str) -> None:
    assert render_html(audit) == html


def test_templates_are_found() -> None:
    assert (templates_dir() / "report.html.j2").is_file()
