"""The PDF: archival, tagged, reproducible, and carrying its audit.json."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pypdf
import pytest

from salve_audit.errors import OutputError
from salve_audit.report import pdf as pdf_module
from salve_audit.report import render_html, render_pdf
from salve_audit.report.view import PDF
from salve_audit.results import AuditResult, parse_audit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def document(audit: AuditResult) -> bytes:
    return render_pdf(audit)


@pytest.fixture(scope="module")
def reader(document: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(document))


@pytest.fixture(scope="module")
def texts(reader: pypdf.PdfReader) -> list[str]:
    return [_text(page) for page in reader.pages]


def _text(page: pypdf.PageObject) -> str:
    return " ".join(page.extract_text().split())


def test_first_page_holds_verdict_table_reading_and_limits(texts: list[str]) -> None:
    first = texts[0]
    for phrase in ("Verdict: Fail", "ship", "0.539 to 0.713", "How to read it", "What it does not say"):
        assert phrase.lower() in first.lower(), phrase
    assert "image" in first[first.lower().index("what it does not say") :]


def test_pages_are_a4_numbered_and_headed(reader: pypdf.PdfReader, texts: list[str], audit: AuditResult) -> None:
    total = len(reader.pages)
    for number, (page, text) in enumerate(zip(reader.pages, texts, strict=True), 1):
        assert [round(float(v)) for v in page.mediabox[2:]] == [595, 842]
        assert f"page {number} of {total}" in text
        if number > 1:
            assert audit.model.name in text
            assert "verdict: Fail" in text


def test_is_tagged_archival_and_dated(reader: pypdf.PdfReader, document: bytes) -> None:
    root = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en"
    metadata = root["/Metadata"].get_data().decode()
    assert re.search(r"pdfaid:part[^0-9]{0,40}3", metadata)
    assert re.search(r"pdfaid:conformance[^A-Z]{0,40}A", metadata)
    assert reader.metadata is not None
    assert reader.metadata.creation_date is not None
    assert reader.metadata.creation_date.strftime("%Y-%m-%d %H:%M:%S") == "2026-07-04 12:34:56"


def test_every_figure_has_a_text_alternative(reader: pypdf.PdfReader) -> None:
    figures = [o for o in _structure(reader.trailer["/Root"]["/StructTreeRoot"]) if o.get("/S") == "/Figure"]
    assert len(figures) >= 15
    assert all(str(figure.get("/Alt", "")).strip() for figure in figures)


def _structure(node: pypdf.generic.DictionaryObject) -> list[pypdf.generic.DictionaryObject]:
    kids = node.get("/K", [])
    kids = kids.get_object() if hasattr(kids, "get_object") else kids
    kids = kids if isinstance(kids, list) else [kids]
    elements = []
    for kid in (reference.get_object() for reference in kids if hasattr(reference, "get_object")):
        if isinstance(kid, dict):
            elements += [kid, *_structure(kid)]
    return elements


def test_no_table_of_the_comparison_is_split(texts: list[str], audit: AuditResult) -> None:
    """Each caption stands on one page with the last method's row of its table."""
    for target in ("50", "5"):
        for what in ("means over all classes", "what the edits change, over all classes"):
            caption = f"Class at {target} % accuracy: {what}"
            (page,) = [text for text in texts if caption in text]
            assert "null: random feature" in page[page.index(caption) + len(caption) :].split("Class at")[0]


def test_a_full_map_stays_on_one_page(make_result: Callable[..., AuditResult]) -> None:
    """40 features: the map's heading, its first and its last row share a page, and no page is left nearly empty."""
    result = make_result(45, plain_names=True, limit=None)
    pages = [_text(page) for page in pypdf.PdfReader(io.BytesIO(render_pdf(result))).pages]
    at = next(i for i, text in enumerate(pages) if "Mean code of each feature on each class" in text)
    assert "class (columns), feature (rows)" in pages[at]
    assert all(len(text) > 300 for text in pages[:-1])


def test_bookmarks_name_the_sections(reader: pypdf.PdfReader) -> None:
    titles = " ".join(str(item.title) for item in _flat(reader.outline))
    for heading in ("Suppression curves", "Interventions at matched suppression", "Provenance"):
        assert heading in titles


def _flat(outline: list[object]) -> list[pypdf.generic.Destination]:
    return [inner for item in outline for inner in (_flat(item) if isinstance(item, list) else [item])]  # type: ignore[list-item]


def test_attachment_is_the_audit_byte_by_byte(reader: pypdf.PdfReader, audit: AuditResult) -> None:
    (attached,) = reader.attachments["audit.json"]
    assert attached == audit.to_json().encode()
    assert parse_audit(attached.decode()) == audit


def test_no_script_no_external_reference(reader: pypdf.PdfReader, document: bytes) -> None:
    assert b"/JavaScript" not in document
    uris = {
        str(note.get_object()["/A"]["/URI"])
        for page in reader.pages
        for note in page.get("/Annots", [])
        if "/A" in note.get_object() and "/URI" in note.get_object()["/A"]
    }
    assert uris == {"https://arxiv.org/abs/2512.15938"}


def test_second_render_from_a_hostile_folder_is_identical(
    audit: AuditResult, document: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Same bytes, and a module planted in the working folder is not imported."""
    (tmp_path / "weasyprint.py").write_text("raise SystemExit('planted')\n")
    monkeypatch.chdir(tmp_path)
    assert render_pdf(audit) == document


def test_given_bytes_are_attached_as_they_are(make_result: Callable[..., AuditResult]) -> None:
    given = b'{"as": "written elsewhere"}\n'
    document = render_pdf(make_result(1, plain_names=True, limit=None), given)
    (attached,) = pypdf.PdfReader(io.BytesIO(document)).attachments["audit.json"]
    assert attached == given


def test_what_goes_into_a_pdf_is_bounded(make_result: Callable[..., AuditResult]) -> None:
    """A page for 1,000 classes asks no more of the renderer than one for 100, and says where the rest is."""
    many, some = (render_html(make_result(n, plain_names=True), PDF) for n in (1000, 100))
    assert "The first 40 of 1,000 rows; all are in audit.json under classes[]" in many
    assert "Shown are the 30 most fragile of 900 classes" in many
    assert many.count("<tr>") == some.count("<tr>")
    assert many.count("<svg") == some.count("<svg")
    assert "<details" not in many


def test_timeout_is_a_clear_error(audit: AuditResult) -> None:
    with pytest.raises(OutputError, match=r"report\.pdf: the renderer took more than 0\.01 s"):
        render_pdf(audit, timeout=0.01)


def test_a_failing_child_is_a_clear_error(audit: AuditResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "weasyprint.py").write_text("raise OSError('cannot load library pango')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        OutputError, match=r"the renderer failed \(exit 1\): OSError: cannot load library pango"
    ) as caught:
        render_pdf(audit)
    assert caught.value.hint is not None


def test_child_reads_no_files_and_no_network(tmp_path: Path) -> None:
    """A page that asks for a local file does not get it."""
    secret = tmp_path / "secret.svg"
    secret.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>')
    code = (
        "import datetime, logging, sys\n"
        "logging.basicConfig(level=logging.WARNING)\n"
        "from salve_audit.report.pdf_child import _convert\n"
        "page = '<html lang=en><title>t</title><p>x<img alt=a src=\"file://%s\"></p></html>' % sys.argv[1]\n"
        "pdf = _convert(page, b'{}', datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc))\n"
        "sys.stdout.buffer.write(pdf)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(secret)], capture_output=True, check=True)
    assert b"disallowed protocol" in done.stderr
    assert done.stdout.startswith(b"%PDF")


def test_the_timeout_has_a_default() -> None:
    assert 60 <= pdf_module.TIMEOUT <= 600
