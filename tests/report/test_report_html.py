"""The page: valid, self-contained, complete, and equal to the result it shows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from salve_audit.report import render_html
from salve_audit.report.html import templates_dir
from salve_audit.report.view import PDF, build_view
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
        if any(name == "style" for name, _ in self._stack):
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


def test_needs_nothing_else_and_no_script(page: Page, html: str) -> None:
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
        "image",
        "use",
        "foreignobject",
    }
    assert "<script" not in html.lower()
    for tag, attrs, _ in page.elements:
        assert not [key for key in attrs if key.startswith("on")], f"an event handler in <{tag}>"
        for key in ("src", "srcset", "href", "xlink:href", "data", "action"):
            value = attrs.get(key)
            if tag == "img" and key == "src":
                assert re.fullmatch(r"data:image/jpeg;base64,[A-Za-z0-9+/]+={0,2}", str(value))
            elif value is not None:
                assert tag == "a", f"{key}={value} in <{tag}>"
                assert value.startswith("#") or value == "https://arxiv.org/abs/2512.15938"
    assert "url(" not in html
    assert "@import" not in html


def test_security_policy_comes_before_any_style(page: Page) -> None:
    tags = [tag for tag, _, _ in page.elements]
    policy = next(i for i, attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    assert page.elements[policy][1]["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert policy < tags.index("style")


def test_hostile_names_are_text(page: Page, html: str, audit: AuditResult) -> None:
    assert "</script><img" not in html
    assert "<b>" not in html
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
    for i, _ in page.all("table"):
        assert page.children[i][0] == "caption"
    assert all(attrs.get("scope") in ("col", "row") for _, attrs in page.all("th"))


def test_links_and_labels_have_targets_and_ids_are_unique(page: Page) -> None:
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for _, attrs in page.all("a")]
    assert any(link == "#report" for link in links), "no skip link"
    assert {str(link)[1:] for link in links if str(link).startswith("#")} <= set(ids)
    assert {attrs["aria-labelledby"] for _, attrs, _ in page.elements if "aria-labelledby" in attrs} <= set(ids)


def test_every_image_has_title_description_and_role(page: Page) -> None:
    images = list(page.all("svg"))
    assert len(images) >= 9 + 6  # nine curves and six other figures
    for i, attrs in images:
        assert page.children[i][:2] == ["title", "desc"]
        assert attrs["role"] == "img"
        assert "viewbox" in attrs


def test_wide_content_scrolls_in_its_own_box(page: Page) -> None:
    for i, (tag, _, parents) in enumerate(page.elements):
        if tag == "table":
            before = [attrs for name, attrs, _ in page.elements[:i] if name == "div"]
            assert "wide" in str(before[-1].get("class"))
            assert before[-1]["tabindex"] == "0"
            assert "div" in parents


def test_every_class_and_its_numbers_are_shown(page: Page, audit: AuditResult) -> None:
    expected = {
        "ship": ["0.620", "0.539 to 0.713", "fail", "–", "84.8 % (n = 500)", "3", "25"],
        "cat": ["13.2", "5.49 to 31.6", "thin", "thin", "81.8 % (n = 11)", "1", "10"],
        "bird": ["not reached", "at least 18.0", "pass", "erased", "76.6 % (n = 500)", "> 20", "7"],
    }
    for name, cells in expected.items():
        assert [cell.replace("\u00a0", " ") for cell in page.row(name)[1:]] == cells
    for class_record in audit.classes:
        row = page.row(class_record.name)
        flip = class_record.alpha_hat.flip.median
        if flip is not None:
            assert float(row[1]) == pytest.approx(flip, rel=5e-3)
        if class_record.n:
            accuracy, n = re.fullmatch(r"([\d.]+)\s%\s\(n = (\d+)\)", row[5]).groups()  # type: ignore[union-attr]
            assert float(accuracy) == pytest.approx(100 * class_record.accuracy, abs=0.05)
            assert int(n) == class_record.n


def test_first_page_says_verdict_warnings_and_limits_of_the_claim(page: Page, audit: AuditResult) -> None:
    front = page.text[: page.text.index("Contents")]
    assert "Verdict: Fail" in front
    assert "ship: 0.620 (0.539 to 0.713), limit 1.50" in front
    assert "Undecided, since the 95 % interval contains the limit: truck" in front
    assert "not what the class depends on in the image" in front
    assert "Edit sensitivity not beyond the null controls in 1 of 10 classes: horse & cart" in front
    assert "4 July 2026, 12:34 UTC" in front
    for note in audit.notes:
        assert note in page.text


def test_zero_sample_class_is_explained_not_invented(page: Page, audit: AuditResult) -> None:
    empty = next(class_record for class_record in audit.classes if class_record.n == 0)
    row = page.row(empty.name)
    assert row[1].startswith("–")
    assert row[5].startswith("–")
    assert "no audit images of this class" in page.text


def test_provenance_is_complete(page: Page, audit: AuditResult) -> None:
    record = audit.provenance
    for value in (record.model_sha256, record.data_sha256, record.sae_sha256, *record.versions.values()):
        assert value in page.text
    for key in record.config:
        page.row(key)
    assert page.row("Source")[1] == audit.model.transform.source
    for skipped in audit.data.skipped:
        assert page.row(skipped.path)[1] == skipped.reason


def test_demo_is_last_and_claims_nothing(page: Page) -> None:
    headings = re.findall(r"(\d+)\. What was planted, what was found", page.text)
    assert headings == ["14"]
    after = page.text[page.text.rindex("14. What was planted") :]
    assert "not expected to rank it" in after
    assert "None of the 2 statistics ranks the classes" in after
    assert "−0.19" in after
    assert "disk: 10.7 %; checkerboard: 10.7 %; bar: 10.7 %; all together: 97.0 %" in after.replace("\u00a0", " ")


def test_no_demo_no_section(unpoliced: AuditResult) -> None:
    text = Page(render_html(unpoliced)).text
    assert "What was planted" not in text
    assert "Verdict: No policy" in text
    assert "The autoencoder misses its goal" in text[: text.index("Contents")]
    assert "Code named by the user was run" in text[: text.index("Contents")]


def test_a_thousand_classes_stay_small_and_say_what_is_cut(make_result: Callable[..., AuditResult]) -> None:
    html = render_html(make_result(1000))
    assert len(html.encode()) < 5_000_000
    page = Page(html)
    assert "Shown are the 50 most fragile of 900 classes" in page.text
    assert "class 0999" in page.text
    assert sum(1 for _ in page.all("svg")) < 100


@pytest.mark.parametrize("n_classes", [1, 2, 4])
def test_small_worlds(make_result: Callable[..., AuditResult], n_classes: int) -> None:
    page = Page(render_html(make_result(n_classes, plain_names=True)))
    assert page.row("class 0000")


def test_narrow_screens_get_their_own_front_chart(html: str, audit: AuditResult) -> None:
    """The verdict leads the table, the wide chart gives way to a narrow one, and no chart asks for a width."""
    front = html[: html.index('id="contents"')]
    assert front.count('class="chart wide broad"') == front.count('class="chart narrow"') == 1
    css = html[: html.index("</style>")]
    narrow = css[css.index("@media (max-width: 40rem)") : css.index("@media print")]
    assert ".broad { display: none; }" in narrow
    assert ".narrow { display: block; }" in narrow
    assert "min-width: 36rem" not in css
    heads = [c.header for c in build_view(audit).front.table.columns]
    assert heads[:5] == ["Class", "α̂ flip median", "95 % interval", "Outcome", "Flags"]
    assert 'class="chart narrow"' not in render_html(audit, PDF)


def test_a_curve_without_other_classes(make_result: Callable[..., AuditResult]) -> None:
    result = make_result(2, plain_names=True)
    alone = tuple(dataclasses.replace(c, curve=dataclasses.replace(c.curve, others=())) for c in result.classes)
    page = Page(render_html(dataclasses.replace(result, classes=alone)))
    rows = [row for row in page.rows if row[:2] == ["class 0000", "accuracy, others"]]
    assert [set(row[2:]) for row in rows] == [{""}]


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
    assert "a\ufffdb\ufffd\ufffdc" in html


def test_same_result_same_page(audit: AuditResult, html: str) -> None:
    assert render_html(audit) == html


def test_templates_are_found() -> None:
    assert (templates_dir() / "report.html.j2").is_file()
