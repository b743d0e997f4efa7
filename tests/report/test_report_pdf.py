"""The PDF: archival, tagged, reproducible, and carrying its audit.json."""

from __future__ import annotations

import csv
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
from salve_audit.report.view import PDF, Rendering
from salve_audit.results import AuditResult, parse_audit
from salve_audit.results.relabel import relabel_classes

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


def test_first_page_answers_what_how_sure_and_what_to_do(texts: list[str], audit: AuditResult) -> None:
    first = texts[0]
    for phrase in ("Fail", "ship", "0.539 to 0.713", "Do next", "Can this be trusted?", "not what it depends on"):
        assert phrase in first, phrase
    assert "R²" not in first
    assert "How to read it" in texts[1]


def test_pages_are_a4_numbered_and_headed(reader: pypdf.PdfReader, texts: list[str], audit: AuditResult) -> None:
    total = len(reader.pages)
    for number, (page, text) in enumerate(zip(reader.pages, texts, strict=True), 1):
        assert [round(float(v)) for v in page.mediabox[2:]] == [595, 842]
        assert f"{number} / {total}" in text
        if number > 1:
            assert audit.model.name in text
            assert "Fail" in text


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
    assert len(figures) >= 12
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


def test_no_table_of_the_comparison_is_split(texts: list[str]) -> None:
    """Each caption stands on one page with the last method's row of its table."""
    for target in ("50", "5"):
        caption = f"Class at {target} % accuracy: means over all classes"
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
    for heading in ("Critical suppression thresholds", "Interventions at matched suppression", "Scope and provenance"):
        assert heading in titles


def _flat(outline: list[object]) -> list[pypdf.generic.Destination]:
    return [inner for item in outline for inner in (_flat(item) if isinstance(item, list) else [item])]  # type: ignore[list-item]


def test_attachment_is_the_audit_byte_by_byte(reader: pypdf.PdfReader, audit: AuditResult) -> None:
    (attached,) = reader.attachments["audit.json"]
    assert attached == audit.to_json().encode()
    assert parse_audit(attached.decode()) == audit


def test_long_tables_are_attached_as_csv(reader: pypdf.PdfReader, audit: AuditResult) -> None:
    names = {
        "audit.json",
        "autoencoders.csv",
        "classes.csv",
        "intervention_means.csv",
        "interventions.csv",
        "intervention_spread.csv",
    }
    assert set(reader.attachments) == names
    (table,) = reader.attachments["interventions.csv"]
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert len(rows) == len(audit.interventions)
    assert float(rows[0]["others_accuracy"]) == audit.interventions[0].others_accuracy


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
    """A page for 1,000 classes asks hardly more of the renderer than one for 100, and says where the rest is."""
    many, some = (render_html(make_result(n, plain_names=True), PDF) for n in (1000, 100))
    assert "The first 40 of 1,000 rows; all are in audit.json under classes[]" in many
    assert "Shown are the first 30 of 900 classes" in many
    assert abs(many.count("<tr") - some.count("<tr")) <= 2
    assert abs(many.count("<svg") - some.count("<svg")) <= 2
    assert "<details" not in many


def test_a_short_letter_has_no_appendix(make_result: Callable[..., AuditResult]) -> None:
    result = make_result(3, plain_names=True, limit=None)
    reader = pypdf.PdfReader(io.BytesIO(render_pdf(result, rendering=Rendering("letter", "short"))))
    assert [round(float(v)) for v in reader.pages[0].mediabox[2:]] == [612, 792]
    assert len(reader.pages) <= 8
    assert not any("Appendix" in _text(page) for page in reader.pages)


def test_bytes_do_not_depend_on_the_fonts_of_the_machine(
    make_result: Callable[..., AuditResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With no font installed the report is the same; a script that no font has is named, and printed all the same."""
    result = make_result(3, plain_names=True, limit=None)
    rendering = Rendering(extent="short")
    usual = render_pdf(result, rendering=rendering)
    (tmp_path / "fonts.conf").write_text(f"<fontconfig><cachedir>{tmp_path}</cachedir></fontconfig>")
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    assert render_pdf(result, rendering=rendering) == usual


def test_a_script_without_a_font_is_named_with_its_package(
    make_result: Callable[..., AuditResult],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = relabel_classes(make_result(2, plain_names=True, limit=None), {"class 0000": "长颈鹿", "class 0001": "🦒"})
    (tmp_path / "fonts.conf").write_text(f"<fontconfig><cachedir>{tmp_path}</cachedir></fontconfig>")
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    with caplog.at_level("WARNING", logger="salve_audit.report.pdf"):
        assert render_pdf(result, rendering=Rendering(extent="short")).startswith(b"%PDF")
    said = " ".join(caplog.messages)
    assert "no font for Chinese: such names print as boxes; install fonts-noto-cjk" in said
    assert "no font for emoji: such names print as boxes; install fonts-noto-color-emoji" in said


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
        "pdf = _convert(page, {}, datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc))\n"
        "sys.stdout.buffer.write(pdf)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(secret)], capture_output=True, check=True)
    assert b"disallowed protocol" in done.stderr
    assert done.stdout.startswith(b"%PDF")


def test_the_timeout_has_a_default() -> None:
    assert 60 <= pdf_module.TIMEOUT <= 600
