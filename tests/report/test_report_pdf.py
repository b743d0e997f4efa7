"""The PDF: archival, tagged, reproducible, and carrying its audit.json."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pikepdf
import pypdf
import pytest
from paper_pages import PaperPage, read_pages
from report_reliance import build_scenario

from salve_audit.errors import OutputError
from salve_audit.report import pdf as pdf_module
from salve_audit.report import render_html, render_pdf
from salve_audit.report.backing import find_evidence_page
from salve_audit.report.view import PDF, Rendering
from salve_audit.results import AuditResult, parse_audit
from salve_audit.results.relabel import relabel_classes

pytestmark = pytest.mark.slow


GIVEN = b'{"as": "written elsewhere"}\n'
HEADINGS_ON_NEW_PAGES = ("What changed", "How to read it", "Classes", "Appendix")


@pytest.fixture(scope="module")
def audit() -> AuditResult:
    """Ten classes with every edge, three limits, images of what they depend on."""
    return build_scenario("mixed")


@pytest.fixture(scope="module")
def document(audit: AuditResult) -> bytes:
    return render_pdf(audit)


@pytest.fixture(scope="module")
def letter() -> bytes:
    """A short report on the other paper, of arrays: not an image in it."""
    return render_pdf(build_scenario("arrays"), GIVEN, rendering=Rendering("letter", "short"))


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
    which, sure = ("Fail", "truck", "5 of 8 classes lose more than half"), ("96–100", "Can this be trusted?")
    for phrase in (*which, *sure, "in 92 of 100 images", "Do next", "0.539 to 0.713", "has not been reviewed"):
        assert phrase in first, phrase
    assert "R²" not in first
    assert "autoencoder" not in first
    assert "How to read it" in texts[1]
    assert not re.search(r"(?<!--)concept|latent|feature", first)


def test_pages_are_a4_numbered_and_headed(reader: pypdf.PdfReader, texts: list[str], audit: AuditResult) -> None:
    total = len(reader.pages)
    for number, (page, text) in enumerate(zip(reader.pages, texts, strict=True), 1):
        assert [round(float(v)) for v in page.mediabox[2:]] == [595, 842]
        assert f"{number} / {total}" in text
        if number > 1:
            assert audit.model.name in text
            assert "Fail" in text


def test_commands_are_whole_words(reader: pypdf.PdfReader) -> None:
    """A line that ended at a hyphen would be typed, or copied, with a space in it."""
    every = "\n".join(page.extract_text() for page in reader.pages)
    assert every.count("salve-audit ") > 10
    assert not re.search(r"salve-\s|--sae linear-\s|\s--\s", every)


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


def test_structure_is_that_of_an_accessible_file(document: bytes, audit: AuditResult) -> None:
    """PDF/UA-1's, as far as it can be read off: no validator was at hand."""
    with pikepdf.open(io.BytesIO(document)) as pdf:
        elements = list(_structure(pdf.Root.StructTreeRoot))
        kinds = {str(element.S) for element in elements}
        assert {"/H1", "/H2", "/H3", "/Table", "/TH", "/TOC", "/TOCI", "/Figure", "/Caption", "/Link"} <= kinds
        headers = [element for element in elements if element.S == "/TH"]
        assert {str(header.A.Scope) for header in headers} == {"/Row", "/Column"}
        alternatives = [str(element.Alt).strip() for element in elements if element.S == "/Figure"]
        assert len(alternatives) > 50
        assert all(len(alternative) > 8 and " " in alternative for alternative in alternatives)
        assert len(pdf.Root.AF) == len(list(pdf.attachments))
        assert pdf.Root.ViewerPreferences.DisplayDocTitle
        assert all(page.Tabs == "/S" for page in pdf.pages)
        annotations = [note for page in pdf.pages for note in page.get("/Annots", [])]
        assert all("/Contents" in note and "/StructParent" in note for note in annotations)
        contents = b"".join(pikepdf.unparse_content_stream(pikepdf.parse_content_stream(page)) for page in pdf.pages)
    assert not re.search(rb"\b3 Tr\b", contents)  # text that is not drawn
    assert not re.search(rb"/\S+ [0-2](\.\d+)? Tf", contents)  # or too small to be seen


def _structure(node: pikepdf.Object) -> Iterator[pikepdf.Dictionary]:
    for kid in node if isinstance(node, pikepdf.Array) else [node]:
        if isinstance(kid, pikepdf.Dictionary):
            if "/S" in kid:
                yield kid
            if "/K" in kid:
                yield from _structure(kid.K)


@pytest.fixture(scope="module")
def pages(document: bytes) -> list[PaperPage]:
    return read_pages(document)


def test_no_word_leaves_the_margins(pages: list[PaperPage], letter: bytes) -> None:
    for page in (*pages, *read_pages(letter)):
        assert page.outside == ()


def test_ink_covers_half_of_each_page(pages: list[PaperPage], letter: bytes) -> None:
    """Of its height; the last page before a section that begins a new one may be shorter."""
    for paper in (pages, read_pages(letter)):
        for i, (page, after) in enumerate(pairwise(paper), 1):
            ends = any(f" {heading} " in after.text[:120] for heading in HEADINGS_ON_NEW_PAGES)
            assert page.covered >= (0.2 if ends else 0.5), (i, page.text[:80])


def test_no_table_of_the_comparison_is_split(texts: list[str]) -> None:
    """Each caption stands on one page with the last method's row of its table."""
    for target in ("50", "5"):
        caption = f"Class at {target} % accuracy: means over all classes"
        (page,) = [text for text in texts if caption in text]
        assert "null: random feature" in page[page.index(caption) + len(caption) :].split("Class at")[0]


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
        "concepts.csv",
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
    assert {uri.partition("#")[0] for uri in uris} - {find_evidence_page()} == {"https://arxiv.org/abs/2512.15938"}


def test_given_bytes_are_attached_as_they_are(letter: bytes) -> None:
    (attached,) = pypdf.PdfReader(io.BytesIO(letter)).attachments["audit.json"]
    assert attached == GIVEN


def test_what_goes_into_a_pdf_is_bounded(make_result: Callable[..., AuditResult]) -> None:
    """A page for 1,000 classes asks hardly more of the renderer than one for 100, and says where the rest is."""
    many, some = (render_html(make_result(n, plain_names=True), PDF) for n in (1000, 100))
    assert "The first 40 of 1,000 rows; all are in audit.json under classes[]" in many
    assert "Shown are the first 30 of 900 classes" in many
    assert abs(many.count("<tr") - some.count("<tr")) <= 2
    assert abs(many.count("<svg") - some.count("<svg")) <= 2
    assert "<details" not in many


def test_a_short_letter_has_no_appendix(letter: bytes) -> None:
    reader = pypdf.PdfReader(io.BytesIO(letter))
    assert [round(float(v)) for v in reader.pages[0].mediabox[2:]] == [612, 792]
    assert "How to read it" in _text(reader.pages[1])
    assert len(reader.pages) <= 10
    assert not any("Appendix" in _text(page) for page in reader.pages)


FONTS = "<fontconfig>{folders}<cachedir>{cache}</cachedir></fontconfig>"
FOLDERS = {
    "bundled": "",
    "dejavu": "/usr/share/fonts/truetype/dejavu",
    "liberation": "/usr/share/fonts/truetype/liberation",
}


def test_bytes_depend_on_neither_fonts_nor_folder(
    make_result: Callable[..., AuditResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With no font installed, with others, with no configuration of fonts at all, and beside a planted module."""
    result = make_result(1, plain_names=True, limit=None)
    (tmp_path / "weasyprint.py").write_text("raise SystemExit('planted')\n")
    monkeypatch.chdir(tmp_path)
    for name, folder in FOLDERS.items():
        folders = f"<dir>{folder}</dir>" if folder else ""
        (tmp_path / f"{name}.conf").write_text(FONTS.format(folders=folders, cache=tmp_path / name))
    documents = {}
    for name in (*FOLDERS, "nowhere"):
        monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / f"{name}.conf"))
        documents[name] = render_pdf(result, rendering=Rendering(extent="short"))
    assert all(written == documents["bundled"] for written in documents.values())


NOTO = [Path(f"/usr/share/fonts/truetype/noto/NotoSans{script}-Regular.ttf") for script in ("Devanagari", "Arabic")]


@pytest.mark.skipif(not all(font.exists() for font in NOTO), reason="Debian's fonts-noto-core is not installed")
def test_other_scripts_are_readable_where_the_system_has_fonts(
    make_result: Callable[..., AuditResult],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = {"class 0000": "जिराफ़", "class 0001": "زرافة"}
    result = relabel_classes(make_result(2, plain_names=True, limit=None), names)
    for font in NOTO:
        (tmp_path / font.name).symlink_to(font)
    (tmp_path / "fonts.conf").write_text(FONTS.format(folders=f"<dir>{tmp_path}</dir>", cache=tmp_path))
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    with caplog.at_level("WARNING", logger="salve_audit.report.pdf"):
        written = render_pdf(result, rendering=Rendering(extent="short"))
    assert caplog.messages == []
    with pikepdf.open(io.BytesIO(written)) as pdf:
        fonts = {str(font.BaseFont) for page in pdf.pages for font in page.Resources.get("/Font", {}).values()}
    for script in ("Devanagari", "Arabic"):
        assert any(script in font for font in fonts), fonts


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
