"""The process that holds WeasyPrint: a job on stdin, the PDF on stdout, warnings on stderr.

It runs apart so that the font libraries' memory, crashes and global state stay out of the audit.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any, BinaryIO


def main(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Reads a header line (JSON: sizes and the date), the page and the attachment; writes the PDF."""
    header = json.loads(stdin.readline())
    page = stdin.read(header["page"]).decode("utf-8")
    attachment = stdin.read(header["attachment"])
    created = datetime.datetime.fromisoformat(header["created"])
    stdout.write(_convert(page, attachment, created))
    stdout.flush()


def _convert(page: str, attachment: bytes, created: datetime.datetime) -> bytes:
    import weasyprint

    fetcher = weasyprint.URLFetcher(allowed_protocols={"data"}, allow_redirects=False)
    document: Any = weasyprint.HTML(string=page, url_fetcher=fetcher, media_type="print")
    audit = weasyprint.Attachment(
        string=attachment,
        name="audit.json",
        description="All numbers of this report, as salve-audit wrote them",
        created=created,
        modified=created,
        relationship="Source",
        url_fetcher=fetcher,
    )
    pdf: bytes = document.write_pdf(pdf_variant="pdf/a-3a", attachments=[audit])
    return pdf


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main(sys.stdin.buffer, sys.stdout.buffer)
