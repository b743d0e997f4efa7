"""What stands behind the sentences of a report: every section says it, and docs/evidence.md has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_reliance import build_scenario

from salve_audit.report import Rendering, render_html
from salve_audit.report.backing import BACKINGS, EVIDENCE_PAGE, OF_SECTION, Backing
from salve_audit.report.view import HTML, PDF, build_view

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = (REPOSITORY / "docs" / "evidence.md").read_text(encoding="utf-8")


def _sections() -> dict[str, str]:
    """Text of docs/evidence.md by the anchors that GitHub and the site give its headings."""
    parts = re.split(r"^## (.+)\n", DOCUMENT, flags=re.MULTILINE)[1:]
    anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in parts[::2]]
    return dict(zip(anchors, parts[1::2], strict=True))


@pytest.mark.parametrize("backing", BACKINGS.values(), ids=BACKINGS)
def test_the_heading_is_there_and_has_every_figure(backing: Backing) -> None:
    text = _sections()[backing.anchor]
    assert set(re.findall(r"\d+(?: of \d+)?", backing.text)) <= set(
        re.findall(r"\d+ of \d+|\d+", " ".join(text.split()))
    )


def test_the_page_lies_where_the_package_says_its_documentation_is() -> None:
    listed = re.search(r'Documentation = "(.+)/index\.md"', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert listed is not None
    assert f"{listed[1]}/evidence.md" == EVIDENCE_PAGE


@pytest.mark.parametrize("scenario", ["failing", "arrays"])
def test_every_section_links_to_what_is_listed_once(scenario: str) -> None:
    """The sections without are those that state no measurement or repeat page 1."""
    result = build_scenario(scenario)
    view = build_view(result, HTML)
    without = {section.anchor for section in (*view.sections, *view.appendix) if not section.backings}
    assert without <= {"provenance", "index", "method"}
    assert ("reliance" in {backing.key for backing in view.backings}) == (scenario != "arrays")
    for page in (render_html(result), render_html(result, PDF, Rendering(extent="short"))):
        asked, listed = re.findall(r'href="#backing-(\w+)"', page), re.findall(r'id="backing-(\w+)"', page)
        assert set(asked) == set(listed)
        assert len(listed) == len(set(listed))
        assert all(f'href="{BACKINGS[key].url}"' in page for key in listed)


def test_no_evidence_is_named_in_vain() -> None:
    assert {key for keys in OF_SECTION.values() for key in keys} == set(BACKINGS)
