"""The process that holds WeasyPrint: a job on stdin, the PDF on stdout, warnings on stderr.

It runs apart so that the font libraries' memory, crashes and global state stay out of the audit.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import datetime
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

NO_FONT = "no font for "
_SOURCE = "All numbers of this report, as salve-audit wrote them"
_TABLE = "A table of this report, too long to print"


def main(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Reads a header line (JSON: sizes, date, scripts), the page and the attachments; writes the PDF."""
    header = json.loads(stdin.readline())
    page = stdin.read(header["page"]).decode("utf-8")
    files = {name: stdin.read(size) for name, size in header["files"]}
    warn_of_fonts(header["scripts"])
    stdout.write(_convert(page, files, datetime.datetime.fromisoformat(header["created"])))
    stdout.flush()


def _convert(page: str, files: Mapping[str, bytes], created: datetime.datetime) -> bytes:
    import weasyprint

    from salve_audit.report.pdf_structure import finish_structure

    fetcher = weasyprint.URLFetcher(allowed_protocols={"data"}, allow_redirects=False)
    document: Any = weasyprint.HTML(string=page, url_fetcher=fetcher, media_type="print")
    attachments = [
        weasyprint.Attachment(
            string=content,
            name=name,
            description=_SOURCE if name == "audit.json" else _TABLE,
            created=created,
            modified=created,
            relationship="Source" if name == "audit.json" else "Data",
            url_fetcher=fetcher,
        )
        for name, content in files.items()
    ]
    pdf: bytes = document.write_pdf(pdf_variant="pdf/a-3a", attachments=attachments, finisher=finish_structure)
    return pdf


def warn_of_fonts(scripts: Sequence[tuple[str, str, str]]) -> None:
    """Say on stderr which scripts no installed font has, and the Debian package that would; they print as boxes."""
    library = _load_fontconfig()
    for script, package, character in scripts:
        if library is not None and not _has_font(library, ord(character)):
            print(f"{NO_FONT}{script}: such names print as boxes; install {package}", file=sys.stderr)


def _load_fontconfig() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(ctypes.util.find_library("fontconfig") or "libfontconfig.so.1")
    except OSError:
        return None
    for name in ("FcPatternCreate", "FcCharSetCreate", "FcObjectSetCreate", "FcFontList"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


class _FontSet(ctypes.Structure):
    _fields_ = (("n", ctypes.c_int), ("size", ctypes.c_int), ("fonts", ctypes.c_void_p))


def _has_font(library: ctypes.CDLL, codepoint: int) -> bool:
    """Fontconfig's list of fonts with this character is not empty."""
    pattern, characters, objects = (
        ctypes.c_void_p(library.FcPatternCreate()),
        ctypes.c_void_p(library.FcCharSetCreate()),
        ctypes.c_void_p(library.FcObjectSetCreate()),
    )
    library.FcCharSetAddChar(characters, ctypes.c_uint32(codepoint))
    library.FcPatternAddCharSet(pattern, b"charset", characters)
    fonts = library.FcFontList(None, pattern, objects)
    return bool(fonts) and ctypes.cast(fonts, ctypes.POINTER(_FontSet)).contents.n > 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main(sys.stdin.buffer, sys.stdout.buffer)
