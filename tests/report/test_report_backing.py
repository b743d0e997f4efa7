"""What stands behind the sentences of a report: every section says it, and docs/evidence.md has it."""

from __future__ import annotations

import re
import runpy
from email.message import Message
from pathlib import Path

import pytest
from report_reliance import build_scenario

from salve_audit.report import Rendering, render_html
from salve_audit.report.backing import BACKINGS, EVIDENCE_FILE, OF_SECTION, Backing, find_evidence_page
from salve_audit.report.view import HTML, PDF, build_view

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = (REPOSITORY / EVIDENCE_FILE).read_text(encoding="utf-8")


def _sections() -> dict[str, str]:
    """Text of docs/evidence.md by the anchors that GitHub and the site give its headings."""
    parts = re.split(r"^## (.+)\n", DOCUMENT, flags=re.MULTILINE)[1:]
    anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in parts[::2]]
    return dict(zip(anchors, parts[1::2], strict=True))


@pytest.mark.parametrize("named", BACKINGS.values(), ids=BACKINGS)
def test_the_heading_is_there_and_has_every_figure(named: Backing) -> None:
    text = _sections()[named.anchor]
    assert set(re.findall(r"\d+(?: of \d+)?", named.text)) <= set(re.findall(r"\d+ of \d+|\d+", " ".join(text.split())))


def test_a_release_links_to_the_page_beside_its_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """As scripts/add_project_urls.py writes it; a package that was built from the sources names the file."""
    result, built = build_scenario("arrays"), Message()
    monkeypatch.setattr("importlib.metadata.metadata", lambda name: built)
    assert "docs/evidence.md of salve-audit" in render_html(result)
    for name, page in runpy.run_path(str(REPOSITORY / "scripts" / "add_project_urls.py"))["PAGES"].items():
        built["Project-URL"] = f"{name}, https://host/own/name{page}"
    address = "https://host/own/name/blob/main/docs/evidence.md"
    assert find_evidence_page() == address
    for page in (render_html(result), render_html(result, PDF)):
        listed = {f"{address}#{BACKINGS[key].anchor}" for key in re.findall(r'id="backing-(\w+)"', page)}
        assert set(re.findall(r'href="(https://host[^"]+)"', page)) == {address, *listed}


@pytest.mark.parametrize("scenario", ["failing", "arrays"])
def test_every_section_links_to_what_is_listed_once(scenario: str) -> None:
    """The sections without are those that state no measurement or repeat page 1."""
    result = build_scenario(scenario)
    view = build_view(result, HTML)
    without = {section.anchor for section in (*view.sections, *view.appendix) if not section.backings}
    assert without <= {"provenance", "index", "method"}
    assert ("reliance" in {each.key for each in view.backings}) == (scenario != "arrays")
    for page in (render_html(result), render_html(result, PDF, Rendering(extent="short"))):
        asked, listed = re.findall(r'href="#backing-(\w+)"', page), re.findall(r'id="backing-(\w+)"', page)
        assert set(asked) == set(listed)
        assert len(listed) == len(set(listed))


def test_no_evidence_is_named_in_vain() -> None:
    assert {key for keys in OF_SECTION.values() for key in keys} == set(BACKINGS)
