"""What a PDF's pages show, read by PDFium: words that leave the type area, and how much of it holds ink."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pypdfium2

MM = 72 / 25.4
SIDE, TOP, FIRST_TOP, BOTTOM = 15 * MM, 17 * MM, 11 * MM, 15 * MM  # margins, as templates/pdf.css sets them
EDGE = 4 * MM  # running heads and page numbers stay this far from the paper's edge
BAND = 5 * MM
TOLERANCE = 1.0  # of a glyph's box, in points


@dataclass(frozen=True)
class PaperPage:
    """One page: its text, the words outside of the margins, and the share of its height's bands that have ink."""

    text: str
    outside: tuple[str, ...]
    covered: float


def read_pages(pdf: bytes) -> list[PaperPage]:
    """All pages."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        return [_read(document[i], FIRST_TOP if i == 0 else TOP) for i in range(len(document))]
    finally:
        document.close()


def _read(page: pypdfium2.PdfPage, top: float) -> PaperPage:
    width, height = page.get_size()
    words = page.get_textpage()
    outside = []
    for i in range(words.count_rects()):
        left, low, right, high = words.get_rect(i)
        sides = left < SIDE - TOLERANCE or right > width - SIDE + TOLERANCE
        if sides or low < EDGE or high > height - EDGE:
            outside.append(words.get_text_bounded(left, low, right, high))
    pixels = page.render(scale=1, grayscale=True).to_numpy()
    area = pixels.reshape(pixels.shape[:2])[int(top) : int(height - BOTTOM)]
    rows = (area < 250).any(axis=1)
    bands = [band.any() for band in np.array_split(rows, round(len(rows) / BAND))]
    text = " ".join(words.get_text_bounded().split())
    return PaperPage(text, tuple(outside), float(np.mean(bands)))
