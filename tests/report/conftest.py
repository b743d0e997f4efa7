"""Synthetic results for the reports, built once per session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from report_reliance import build_scenario
from report_results import build_result

from salve_audit.report import render_html
from salve_audit.results import AuditResult

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session", autouse=True)
def _every_audit_fits_the_schema(assert_fits_schema: Callable[[str], None]) -> None:
    """Made-up audits are written hundreds of times here; one with every record is validated, and that is enough."""
    assert_fits_schema(build_scenario("mixed").to_json())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; skips where it is missing."""
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def make_result() -> Callable[..., AuditResult]:
    return build_result


@pytest.fixture(scope="session")
def thousand_page(shared_folder: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The page of 1,000 classes, which takes seconds: rendered once for all workers."""

    def fill(folder: Path) -> None:
        (folder / "report.html").write_text(render_html(build_scenario("thousand")), encoding="utf-8")

    return shared_folder("report-of-a-thousand", fill) / "report.html"


@pytest.fixture(scope="session")
def audit() -> AuditResult:
    """Ten classes with every edge, a failed policy and the demo's truth."""
    return build_result(demo=True)


@pytest.fixture(scope="session")
def unpoliced() -> AuditResult:
    """No policy, an autoencoder that misses its goals, user code trusted."""
    result = build_result(limit=None, satisfied=False)
    return dataclasses.replace(result, provenance=dataclasses.replace(result.provenance, trusted_code=True))
