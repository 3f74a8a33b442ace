"""PDF with text: its pages between blank lines; a scan has none."""

from __future__ import annotations

import re

import pypdfium2 as pdfium

from siloquy.silo_node.reading.document import Unusable
from siloquy.text.words import clean

# What PDFium puts where it joins a word that a line end had split.
_HYPHEN = re.compile("[\x02\ufffe]")


def read(data: bytes, stem: str) -> tuple[str, str]:
    """Title and text of a PDF, called like its file where its metadata name no title."""
    try:
        with pdfium.PdfDocument(data) as pdf:
            pages = [page.get_textpage().get_text_bounded() for page in pdf]
            title = _title(pdf)
    except pdfium.PdfiumError as error:
        encrypted = error.err_code == pdfium.raw.FPDF_ERR_PASSWORD
        raise Unusable("encrypted PDF" if encrypted else "damaged PDF") from None
    text = clean(_HYPHEN.sub("", "\n\n".join(pages))).strip()
    if not text:
        raise Unusable("PDF without text (a scan?)")
    return title or stem, text


def _title(pdf: pdfium.PdfDocument) -> str:
    try:
        return clean(pdf.get_metadata_value("Title")).strip()
    except UnicodeDecodeError:
        return ""
