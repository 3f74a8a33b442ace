"""Title and text of PDF, and why one gives none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.silo_node.reading.inputs import one, pdf_of, reasons

ENCRYPTED = (
    b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 "
    b"/O (oooooooooooooooooooooooooooooooo) /U (uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu) >> "
    b"/ID [(0123456789abcdef) (0123456789abcdef)]"
)


def test_pages_of_a_pdf_are_joined_by_a_blank_line(tmp_path: Path) -> None:
    data = pdf_of([["Give 5 mg.", "Wait."], ["Page two."]], title="Sepsis plan")
    document = one(tmp_path / "scan 1.pdf", data)
    assert (document.title, document.text) == ("Sepsis plan", "Give 5 mg.\nWait.\n\nPage two.")


def test_pdf_without_a_title_is_called_like_its_file(tmp_path: Path) -> None:
    assert one(tmp_path / "sepsis.v2.PDF", pdf_of([["x"]])).title == "sepsis.v2"


def test_word_that_a_pdf_splits_at_a_line_end_is_whole(tmp_path: Path) -> None:
    document = one(tmp_path / "a.pdf", pdf_of([["The appli-", "cation is slow."]]))
    assert document.text == "The application is slow."


def test_pdf_title_in_broken_unicode_counts_as_none(tmp_path: Path) -> None:
    data = pdf_of([["x"]], title=r"\376\377\330\000")
    assert one(tmp_path / "a.pdf", data).title == "a"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdf_of([[], []]), "PDF without text (a scan?)"),
        (pdf_of([["x"]], trailer=ENCRYPTED), "encrypted PDF"),
        (b"%PDF-1.4 garbage", "damaged PDF"),
        (b"", "damaged PDF"),
    ],
)
def test_pdf_that_cannot_be_read_says_why(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reasons(tmp_path / "a.pdf", data) == [reason]
